"""SIGKILL: at every step that a change of the store consists of, and at random in whole runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cli_runner import write_wav
from killing import killed_at
from test_store_faults import assert_answers, make, new_track

from afp.errors import StoreError
from afp.library import Searcher
from afp.store import Failure, Store, check_process, index_writer, manifest
from afp.store import store as store_module
from afp.store.check import check
from afp.store.environment import Environment
from afp.synthesis import song

NAMES = ("one", "two")


@pytest.fixture
def eager(monkeypatch):
    """Have tails flushed, segments merged and free pages given back after a few tracks."""
    monkeypatch.setattr(manifest, "TAIL_TRACKS", 3)
    monkeypatch.setattr(manifest, "FAN_OUT", 2)
    monkeypatch.setattr(manifest, "_SMALLEST", 1000)
    monkeypatch.setattr(index_writer, "BATCH_TRACKS", 4)
    monkeypatch.setattr(store_module, "FREE_BYTES", 1 << 15)
    # What compaction begins with changes nothing, and takes a process of its own.
    monkeypatch.setattr(check_process, "check_apart", lambda *args, **options: [])


def both(number):
    """A track with two backends."""
    (fingerprint,) = new_track(number).fingerprints.values()
    return new_track(number, fingerprints=dict.fromkeys(NAMES, fingerprint))


def register(store):
    for name in NAMES:
        store.register(name, version=1, parameters={"density": 3}, hop_seconds=0.01)


def add(numbers):
    def change(store):
        register(store)
        store.add([both(number) for number in numbers])

    return change


CHANGES = {
    "a new store": (None, add([90])),
    "a track as a tail": (6, add([90])),
    "a track that is due to flush and merge": (8, add([90])),
    "a batch as a segment that is due to merge": (9, add(range(90, 95))),
    "a second backend for known tracks": ("half", add(range(4))),
    "the end of a run": (7, lambda store: store.flush()),
    "removed tracks": (9, lambda store: store.remove([2, 3, 9])),
    "a path that is forgotten": (9, lambda store: store.forget_paths(["/music/1"])),
    "a failure": (
        2,
        lambda store: store.record_failures([Failure("/music/broken", 1, 2, "it is broken")]),
    ),
    "removal and compaction": (9, lambda store: (store.remove([1, 4]), store.compact())),
}


def prepared(folder, n_tracks):
    """Make a store as it is before the change."""
    if n_tracks == "half":
        return make(folder, 4)
    if n_tracks is not None:
        with Store.open(folder, write=True) as store:
            register(store)
            for number in range(n_tracks):
                store.add([both(number)])
    return folder


def contents(folder):
    """Check a store, that it answers, and that nothing is left over; return what it holds."""
    if not folder.exists():
        return {}, []
    with Store.open(folder, write=True) as store, store.snapshot() as snapshot:
        assert check(snapshot) == []
        found = {track.path: track.backends for track in snapshot.tracks()}
        for path in found:
            if path.startswith("/music/"):
                assert_answers(snapshot, int(path.removeprefix("/music/")))
        named = {f"{number:08d}.segment" for number in snapshot.segments}
        assert {path.name for path in (folder / "segments").iterdir()} == named
        data = sorted(path.name for path in folder.glob("data-*"))
        assert len(data) == 2, data
        return found, [failure.path for failure in snapshot.failures()]


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_there_as_a_whole_or_not_at_all(tmp_path, eager, change, every):
    n_tracks, act = change
    folder = prepared(tmp_path / "store", n_tracks)

    def copied(name):
        copy = tmp_path / name
        return shutil.copytree(folder, copy) if folder.exists() else copy

    def killed(copy, step):
        def work(report):
            with Store.open(copy, write=True) as store:
                act(store)
                report("done")

        return killed_at(step, work)

    before = contents(copied("before"))
    whole = copied("whole")
    assert killed(whole, 1 << 30) == (False, ["done"])
    after = contents(whole)
    for step in range(len(CHANGES) % every, 1 << 30, every):
        copy = copied(f"{step}")
        was_killed, reported = killed(copy, step)
        found = contents(copy)
        assert found == after if reported else found in (before, after)
        with Store.open(copy, write=True) as store:
            act(store)
        assert contents(copy) == after
        shutil.rmtree(copy)
        if not was_killed:
            break
    assert step > 5


PAGE, TRANSACTION = 4096, 144  # LMDB's: its size, and where its two first ones count


def cut_power(folder, is_synced):
    """Leave of a copied store what is certain to be on the disk."""
    (data,) = folder.glob("*.mdb")
    content = bytearray(data.read_bytes())
    if not is_synced:  # the page that makes the newest transaction the newest
        at = TRANSACTION, TRANSACTION + PAGE
        newest = max(at, key=lambda i: int.from_bytes(content[i : i + 8], "little"))
        content[newest : newest + 8] = bytes(8)
    data.write_bytes(content)
    for lock in folder.glob("*-lock"):
        lock.unlink()


def test_no_power_cut_brings_a_catalogue_back_whose_segments_are_gone(tmp_path, eager, monkeypatch):
    folder = prepared(tmp_path / "store", 7)
    is_synced = False
    n_cuts = 0
    write, sync, unlink = Environment.write, Environment.sync, Path.unlink

    def written(self, change):
        nonlocal is_synced
        is_synced = False
        return write(self, change)

    def synced(self):
        nonlocal is_synced
        is_synced = True
        sync(self)

    def unlinked(path, missing_ok=False):
        nonlocal n_cuts
        unlink(path, missing_ok=missing_ok)
        if path.suffix == ".segment" and path.parent.parent == folder:
            n_cuts += 1
            copy = shutil.copytree(folder, tmp_path / f"cut{n_cuts}")
            cut_power(copy, is_synced)
            with Store.open(copy) as store, store.snapshot() as snapshot:
                assert check(snapshot) == []

    monkeypatch.setattr(Environment, "write", written)
    monkeypatch.setattr(Environment, "sync", synced)
    monkeypatch.setattr(Path, "unlink", unlinked)
    with Store.open(folder, write=True) as store:
        add([90])(store)
        store.flush()
        store.remove([2])
        store.compact()
    assert n_cuts > 3


def test_a_store_whose_catalogue_could_not_be_reopened_takes_no_more(tmp_path, monkeypatch):
    folder = make(tmp_path / "store", 3)

    def fail(path):
        raise OSError(5, "Input/output error")

    with Store.open(folder, write=True) as store:
        with monkeypatch.context() as broken:
            broken.setattr(store_module, "sync_folder", fail)
            with pytest.raises(StoreError, match="Input/output error"):
                store.compact()
        with pytest.raises(StoreError, match="is closed"):
            store.add([new_track(3)])  # it would go into the file that was replaced
    assert contents(folder)[0].keys() == {f"/music/{number}" for number in range(3)}


RUN = """
from afp.library import indexing
from afp.store import index_writer, manifest, store
indexing.BATCH_TRACKS, index_writer.BATCH_TRACKS = 4, 3
manifest.TAIL_TRACKS, manifest.FAN_OUT, manifest._SMALLEST = 6, 2, 1000
store.FREE_BYTES, store.WORKING_FREE_BYTES = 1 << 15, 1 << 16
from afp.cli import main
main()
"""
"""The command line, with many small commits, segments and merges."""

BACKENDS = ("shazam", "philips", "neural")


class Library:
    """Music on its way into a store, by commands that are killed."""

    def __init__(self, folder, n_files, seed):
        self.rng = np.random.default_rng(seed)
        self.music, self.store = folder / "music", folder / "store"
        for number in range(n_files):
            write_wav(self.music / f"{number:03d}.wav", song(number, seconds=5.0))
        self.files = sorted(map(str, self.music.iterdir()))
        self.reported = set()
        self.command_seconds = 1.0

    def start(self, command, *arguments):
        return subprocess.Popen(
            [sys.executable, "-c", RUN, command, "-d", self.store, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # what is read ahead of a line would be lost to `communicate`
            start_new_session=True,
        )

    def index(self, victim=None):
        """Index until, after some files, something is killed."""
        backends = [word for name in BACKENDS for word in ("-b", name)]
        process = self.start("index", "--json", "-j", "2", *backends, self.music)
        # A worker is there once a file is done, and so is who takes a signal for it.
        wanted, lines, done = int(self.rng.integers(victim == "worker", 12)), [], 0
        while done < wanted and (line := process.stdout.readline()):
            lines.append(line)
            done += b'"skipped"' not in line
        time.sleep(self.rng.uniform(0, 0.3))
        number = signal.Signals(self.rng.choice([signal.SIGINT, signal.SIGTERM]))
        if victim == "worker":
            for worker in children(process.pid)[:1]:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(worker, signal.SIGKILL)
            time.sleep(self.rng.uniform(0, 0.3))
            process.send_signal(number)
        elif victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif victim == "writer":
            process.kill()
        out, err = process.communicate(timeout=60)  # to the end of all that could still print
        assert b"Traceback" not in err
        for line in [*lines, *out.splitlines(keepends=True)]:
            if line.endswith(b"\n"):  # else it was killed while it wrote
                self.take(json.loads(line))
        if victim == "worker" and process.returncode == 128 + number:
            assert b"interrupted" in err
        elif victim in (None, "worker"):
            assert process.returncode in (0, 3), err

    def take(self, outcome):
        """Note what is reported as stored."""
        if outcome["status"] == "failed":
            assert outcome["error"] == "worker was killed (signal 9, perhaps out of memory)"
        else:
            assert outcome["status"] in ("added", "skipped")
            self.reported.add(outcome["path"])

    def change(self, command, *arguments, gone=()):
        """Change the store by another command, which is killed some time."""
        self.reported -= set(gone)
        started = time.monotonic()
        process = self.start(command, *arguments)
        try:
            process.communicate(timeout=self.rng.uniform(0.3, 1.2) * self.command_seconds)
            assert process.returncode == 0
            self.command_seconds = time.monotonic() - started
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def look(self, known):
        """Check everything; query what was not known before; return what is stored."""
        if not self.store.exists():
            assert not self.reported
            return set()
        with Store.open(self.store, write=True) as store:
            with store.snapshot() as snapshot:
                assert check(snapshot) == []
                tracks = list(snapshot.tracks())
                named = {f"{number:08d}.segment" for number in snapshot.segments}
            assert {path.name for path in (self.store / "segments").iterdir()} == named
            assert len(list(self.store.glob("data-*"))) == 2
            stored = {track.path for track in tracks}
            assert len(stored) == len(tracks)
            assert self.reported <= stored <= set(self.files)
            assert {track.backends for track in tracks} <= {tuple(sorted(BACKENDS))}
            for name in BACKENDS if tracks else ():
                with Searcher(store, name) as searcher:
                    for path in sorted(stored - known):
                        (match,) = searcher.query(path, max_p=1.0).matches
                        assert (match.track.path, round(match.track_start)) == (path, 0)
        return stored


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
@pytest.mark.parametrize(
    ("n_files", "n_kills"), [(20, 6), pytest.param(200, 60, marks=pytest.mark.slow)]
)
def test_commands_that_are_killed_at_random_lose_nothing(tmp_path, n_files, n_kills):
    library = Library(tmp_path, n_files, seed=n_files)
    known = set()
    for number in range(n_kills):
        if number % 4 < 2 or not known:
            library.index(("writer", "group", "worker")[number % 3])
        elif number % 4 == 2:
            gone = library.rng.choice(sorted(known), len(known) // 3 + 1, replace=False)
            library.change("rm", *gone, gone=gone)
        elif number % 8 == 3:
            library.change("compact")
        else:
            away = library.music.rename(tmp_path / "away")
            library.change("prune", "--force", gone=library.files)
            away.rename(library.music)
        known = library.look(known)
    library.index()
    known = library.look(known)
    assert known == set(library.files) == library.reported
