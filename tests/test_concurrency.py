"""One writer and many readers at a time: what each of them sees, and what the readers cost."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager

import numpy as np
import pytest
from cli_runner import write_wav
from test_store_faults import assert_answers, fingerprint_of, make, new_track

from afp.errors import StoreError
from afp.library import Planned, Searcher, index
from afp.store import Store, environment, index_writer, manifest
from afp.store import store as store_module
from afp.synthesis import song

NUMBERS = 4000  # of different tracks


@contextmanager
def process(work):
    """Run `work` in a process of its own for as long as the block; it writes what it has to say.

    Yields its id and the end of a pipe that it writes to.
    """
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(readable)
            work(lambda text: os.write(writable, f"{text}\n".encode()))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writable)
    with os.fdopen(readable) as said:
        try:
            yield pid, said
        finally:
            with_errors = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if with_errors is None:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def number_of(track):
    return int(track.path.removeprefix("/music/"))


def look(snapshot, rng):
    """Compare what a snapshot lists with what is in its index, and read some tracks whole."""
    listed = {track.id: track for track in snapshot.tracks()}
    index = snapshot.index("one")
    anything = fingerprint_of(0).hashes
    sections = index.lookup(anything).gather(np.ones(len(anything), np.bool_))
    alive = [hits.axis.track_ids[hits.axis.alive] for hits in sections]
    assert sorted(np.concatenate(alive).tolist() if alive else []) == sorted(listed)
    for track_id in rng.permutation(list(listed))[:4].tolist():
        number = number_of(listed[track_id])
        assert_answers(snapshot, number)
        evidence, whole = index.evidence(track_id), fingerprint_of(number)
        assert np.array_equal(evidence.frames, whole.frames)
        assert snapshot.track_by_content(f"{number:08x}") == listed[track_id]
    return listed


def write(folder, seed):
    """Add, remove, forget, merge and compact for ever."""
    rng = np.random.default_rng(seed)
    number = 0

    def work(say):
        nonlocal number
        # In a process of its own.
        manifest.TAIL_TRACKS, manifest.FAN_OUT, manifest._SMALLEST = 3, 2, 1000
        index_writer.BATCH_TRACKS, store_module.FREE_BYTES = 4, 1 << 16
        store_module.WORKING_FREE_BYTES = 1 << 18
        while True:
            with Store.open(folder, write=True) as store:
                for _ in range(10):
                    with store.snapshot() as snapshot:
                        known = {track.id: number_of(track) for track in snapshot.tracks()}
                    free = [n for n in range(number, number + 500) if n not in known.values()]
                    n_new = int(rng.choice([1, 1, 1, 5]))
                    store.add([new_track(n % NUMBERS) for n in free[:n_new]])
                    number = (free[n_new - 1] + 1) % (NUMBERS - 500)
                    ids = rng.permutation(list(known))[: max(0, len(known) - 40) + 1].tolist()
                    if rng.random() < 0.5:
                        store.remove(ids)
                    else:
                        store.forget_paths(f"/music/{known[i]}" for i in ids)
                (store.compact if rng.random() < 0.1 else store.flush)()
            say("round")

    return work


def read(folder, seconds, seed):
    """Take snapshot after snapshot; hold every other one beside the next ones for a while."""

    def work(say):
        rng = np.random.default_rng(seed)
        deadline = time.monotonic() + seconds
        seen = set()
        while time.monotonic() < deadline:
            with Store.open(folder) as store, store.snapshot() as held:
                before = look(held, rng)
                for _ in range(5):
                    with store.snapshot() as snapshot:
                        seen.add(tuple(look(snapshot, rng)))
                assert look(held, rng) == before
        say(len(seen))

    return work


def stay(folder, seconds):
    """Keep one snapshot all the time."""

    def work(say):
        rng = np.random.default_rng(0)
        with Store.open(folder) as store, store.snapshot() as held:
            before = look(held, rng)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                assert look(held, rng) == before
                time.sleep(0.05)
        say(1)

    return work


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_eight_readers_see_a_consistent_store_while_one_writes(tmp_path, seconds):
    folder = make(tmp_path / "store", 20)
    works = [stay(folder, seconds), *(read(folder, seconds, seed) for seed in range(7))]
    with Several(map(process, works)) as readers:
        for seed in range(2):  # each is killed, which the readers do not notice
            with process(write(folder, seed)) as (_, written):
                assert written.readline()
                time.sleep(seconds / 2)
        for _, said in readers:
            assert int(said.readline() or 0) > 0  # nothing is said after a failure
    with Store.open(folder, write=True) as store:
        assert store.check() == []
        assert store.n_bytes() < 5e6


class Several:
    """Some context managers as one."""

    def __init__(self, managers):
        self.managers = list(managers)

    def __enter__(self):
        return [manager.__enter__() for manager in self.managers]

    def __exit__(self, *exc):
        for manager in self.managers:
            manager.__exit__(*exc)


def test_a_store_that_is_compacted_while_it_is_opened(tmp_path, monkeypatch):
    folder = make(tmp_path / "store", 3)
    open_lmdb = environment._open_lmdb

    def overtaken(path, **options):
        first = folder / "data-000001.mdb"
        if path == first and first.exists():
            shutil.copy(first, folder / "data-000002.mdb")
            first.unlink()
        return open_lmdb(path, **options)

    monkeypatch.setattr(environment, "_open_lmdb", overtaken)
    with Store.open(folder) as store, store.snapshot() as snapshot:
        assert_answers(snapshot, 2)
    Store.open(folder, write=True).close()
    assert [path.name for path in folder.glob("*.mdb")] == ["data-000002.mdb"]


def data_bytes(folder):
    return sum(path.stat().st_size for path in folder.glob("data-*.mdb"))


def rewrite(store, times):
    """Change the same few tracks again and again."""
    for time_ in range(times):
        store.add([new_track(50 + time_ % 5)])
        store.forget_paths([f"/music/{50 + time_ % 5}"])


def hold(folder):
    """Open a snapshot and wait for what comes."""

    def work(say):
        with Store.open(folder) as store, store.snapshot() as snapshot:
            say("open")
            signal.sigwait({signal.SIGUSR1})
            for number in range(20):
                assert_answers(snapshot, number)
            say("sound")

    return work


def test_a_killed_reader_keeps_no_page(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "WORKING_FREE_BYTES", 1 << 30)
    folder = make(tmp_path / "store", 20)
    with Store.open(folder, write=True) as store:
        rewrite(store, 30)
        usual = data_bytes(folder)
    with process(hold(folder)) as (reader, said), Store.open(folder, write=True) as store:
        said.readline()
        rewrite(store, 30)
        os.kill(reader, signal.SIGKILL)
        os.waitid(os.P_PID, reader, os.WEXITED | os.WNOWAIT)
        pinned = data_bytes(folder)
        assert pinned > 1.5 * usual
        rewrite(store, 100)
        assert data_bytes(folder) <= 1.1 * pinned


def test_a_reader_that_stays_does_not_let_the_catalogue_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "WORKING_FREE_BYTES", 1 << 18)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    folder = make(tmp_path / "store", 20)
    with process(hold(folder)) as (reader, said), Store.open(folder, write=True) as store:
        said.readline()
        for _ in range(20):
            rewrite(store, 10)
            assert data_bytes(folder) < 1 << 20
        os.kill(reader, signal.SIGUSR1)
        assert said.readline() == "sound\n"


def test_readers_that_come_and_go_do_not_let_the_catalogue_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "WORKING_FREE_BYTES", 1 << 18)
    folder = make(tmp_path / "store", 20)
    with Store.open(folder, write=True) as store, Store.open(folder) as reader:
        snapshots = []
        for _ in range(30):
            snapshots.append(reader.snapshot())
            rewrite(store, 5)
            if len(snapshots) == 8:
                oldest = snapshots.pop(0)
                assert_answers(oldest, 3)
                oldest.close()
            assert data_bytes(folder) < 1 << 20
        for snapshot in snapshots:
            snapshot.close()


def test_the_second_writer_waits_and_is_told_for_whom(tmp_path, monkeypatch):
    folder = make(tmp_path / "store")

    def work(say):
        sys.argv = ["/usr/bin/afp", "index", "my music"]
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        with Store.open(folder, write=True):
            say("open")
            signal.sigwait([signal.SIGUSR1])

    pause = time.sleep

    def let_go(seconds):
        os.kill(writer, signal.SIGUSR1)
        pause(seconds)

    with process(work) as (writer, said):
        said.readline()
        who = rf"written by process {writer} \(afp index 'my music'\) since 20\d\d-.* \d\d:\d\d:"
        with pytest.raises(StoreError, match=f"is being {who}") as caught:
            Store.open(folder, write=True)
        assert "--wait" in caught.value.hint
        monkeypatch.setattr(time, "sleep", let_go)
        with pytest.warns(UserWarning, match=f"waiting: {folder} is being {who}"):
            Store.open(folder, write=True, wait_seconds=60).close()


def test_nothing_is_said_of_a_writer_that_was_killed(tmp_path):
    folder = make(tmp_path / "store")

    def write(say):
        with Store.open(folder, write=True):
            say("open")
            time.sleep(60)

    def lock_only(say):
        with (folder / "writer.lock").open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            say("locked")
            time.sleep(60)

    with process(write) as (_, said):
        said.readline()
    assert json.loads((folder / "writer.lock").read_text())["command"]
    with process(lock_only) as (pid, said):
        said.readline()
        with pytest.raises(StoreError, match=f"is being written by process {pid}$"):
            Store.open(folder, write=True)
    Store.open(folder, write=True).close()


def test_a_run_keeps_the_lock_from_planning_to_its_end(tmp_path):
    write_wav(tmp_path / "music" / "song.wav", song(1, seconds=3.0))
    refused = []

    def observe(event):
        if isinstance(event, Planned):
            with pytest.raises(StoreError, match=r"this process \(\d+\) already") as caught:
                Store.open(tmp_path / "store", write=True)
            refused.append(caught.value)

    for retry in (False, True):
        (tmp_path / "music" / f"{retry}.wav").write_bytes(b"no audio")
        index(tmp_path / "store", [tmp_path / "music"], n_workers=1, observer=observe)
    assert len(refused) == 2
    Store.open(tmp_path / "store", write=True).close()


@pytest.mark.slow
def test_queries_answer_what_is_stored_while_commands_write(tmp_path):
    """The command line: `index`, `rm` and `compact` in turn, and readers that query."""
    music, folder = tmp_path / "music", tmp_path / "store"
    for number in range(12):
        write_wav(music / f"{number:02d}.wav", song(number, seconds=6.0))
    files = sorted(map(str, music.iterdir()))
    kept, changing = files[:6], files[6:]
    index(folder, kept, n_workers=1)
    with Searcher.open(folder) as searcher:  # what it loads and compiles is there for the others
        searcher.query(kept[0])
    seconds = 60

    def command(*arguments):
        subprocess.run(
            [sys.executable, "-m", "afp", *arguments, "-d", folder, "--wait", "30"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def write(say):
        while True:
            command("index", "-j", "1", music)
            command("rm", *changing)
            command("compact")
            say("round")

    def query(seed):
        def work(say):
            rng = np.random.default_rng(seed)
            deadline = time.monotonic() + seconds
            n_answers = 0
            with Searcher.open(folder) as searcher:
                while time.monotonic() < deadline:
                    path = str(rng.choice(files))
                    answers = [match.track.path for match in searcher.query(path).matches]
                    assert answers in ([path], [] if path in changing else [path])
                    n_answers += 1
            say(n_answers)

        return work

    with process(write) as (_, written), Several(process(query(i)) for i in range(8)) as readers:
        for _, said in readers:
            assert int(said.readline() or 0) > 5
        assert written.readline()
    time.sleep(1)
    with Store.open(folder, write=True, wait_seconds=60) as store:
        assert store.check() == []
