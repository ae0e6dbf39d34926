"""Full disks: what was stored stays, what is left over goes, and the same command goes on later."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from cli_runner import excerpt, write_wav
from forked import afp
from test_store_faults import assert_answers, make, new_track

from afp.errors import StoreError
from afp.store import Store, index_writer, manifest
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]

DISK_BYTES = 4 << 20
Shortage = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled(folder: Path, n_bytes: int) -> Iterator[None]:
    """Leave so many bytes free."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free - n_bytes, 1))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def limited(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, which asks for no rights."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


def go_on(folder: Path, work: str, stored: set[int], tried: set[int], n_rounds: int) -> None:
    """Work on a store, noting what was to be stored and what is."""
    with Store.open(folder, write=True) as store:
        number = 1 + max(stored)
        for _ in range(n_rounds):
            n = 1 if work == "add" else 5
            tried.update(range(number, number + n))
            store.add([new_track(number + i) for i in range(n)])
            stored.update(range(number, number + n))
            number += n
            if work == "remove":
                gone = min(stored)
                store.forget_paths([f"/music/{gone}"])
                stored.remove(gone)
            if work == "merge":
                store.flush()
            if work == "compact":
                store.compact()


def assert_whole(folder: Path, stored: set[int], tried: AbstractSet[int] = frozenset()) -> None:
    """Assert that all is there that was reported, and no more than was tried, and answers."""
    with Store.open(folder) as store, store.snapshot() as snapshot:
        found = {int(path.removeprefix("/music/")) for path in snapshot.paths()}
        assert stored <= found <= stored | tried
        for number in sorted(found)[:3] + sorted(found)[-3:]:
            assert_answers(snapshot, number)


@pytest.mark.parametrize("work", ["add", "merge", "remove", "compact"])
@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_keeps_what_was_stored(kind, work, tmp_path, monkeypatch, request):
    monkeypatch.setattr(manifest, "FAN_OUT", 2)
    monkeypatch.setattr(index_writer, "BATCH_TRACKS", 4)
    place = request.getfixturevalue("disk") if kind == "disk" else tmp_path
    original = make(tmp_path / "original", 6)
    sizes = [0, 5000, 20_000, 70_000] if kind == "disk" else [70_000, 100_000]
    sizes = sizes[-1:] if work == "compact" else sizes  # each checks the catalogue first
    for n_bytes in sizes:
        folder = place / "store"
        shutil.copytree(original, folder)
        stored, tried = set(range(6)), set(range(6))
        shortage = filled(place, n_bytes) if kind == "disk" else limited(n_bytes)
        with shortage:
            with pytest.raises(StoreError, match=str(folder)) as caught:
                go_on(folder, work, stored, tried, 40)
            assert "make room" in caught.value.hint
            if kind == "disk":
                assert_whole(folder, stored, tried)
        assert_whole(folder, stored, tried)
        Store.open(folder, write=True).close()
        assert not list(folder.rglob("*.draft*"))
        if n_bytes == sizes[-1]:
            monkeypatch.setattr(manifest, "FAN_OUT", 8)
            go_on(folder, work, stored, tried, 2)
            assert_whole(folder, stored, tried)
            with Store.open(folder) as store:
                assert store.check() == []
        shutil.rmtree(folder)


def test_a_disk_that_is_too_full_for_a_table_of_readers(disk):
    folder = make(disk / "store", 3)
    (table,) = folder.glob("*-lock")
    with filled(disk, 0):
        assert_whole(folder, set(range(3)))  # the table has its place since the store was made
        table.unlink()
    with filled(disk, 0):
        with pytest.raises(StoreError, match="No space left") as caught:
            Store.open(folder)
        assert "make room" in caught.value.hint
    assert_whole(folder, set(range(3)))


@pytest.fixture
def songs(tmp_path) -> Path:
    for seed in range(3):
        write_wav(tmp_path / f"songs/{seed}.wav", song(seed, seconds=8.0))
    return tmp_path / "songs"


def test_index_goes_on_when_there_is_room_again(disk, songs, tmp_path):
    store = disk / "store"
    assert afp("index", songs / "0.wav", db=store).status == 0
    clip = write_wav(tmp_path / "clip.wav", excerpt(0, 2.0, 4.0, length=8.0))
    with filled(disk, 8192):
        done = afp("index", "-j1", songs, db=store)
        assert done.status == 4
        assert "No space left on device" in done.err
        assert "make room" in done.err
        assert "Traceback" not in done.err
        assert str(songs / "0.wav") in afp("ls", db=store).out
        assert str(songs / "0.wav") in afp("query", clip, db=store).out
    done = afp("index", "-j1", songs, db=store)
    assert done.status == 0
    assert "2 added, 1 skipped" in done.err
    assert not list(store.rglob("*.draft"))
    assert afp("check", db=store).status == 0


def test_there_is_no_room_for_a_store(disk, songs):
    with filled(disk, 0):
        done = afp("index", "-j1", songs, db=disk / "store")
        assert done.status == 4
        assert "No space left on device" in done.err
        assert "make room" in done.err
    assert afp("index", "-j1", songs, db=disk / "store").status == 0


NOISE = np.random.default_rng(1).standard_normal(48_000).astype(np.float32) / 8
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
TELLS_ALL = (
    "afp: error: standard output: no space left on device\n"
    "hint: make room there, or send it elsewhere\n"
)


@FULL
@pytest.mark.parametrize(
    "command",
    [
        ("ls",),
        ("ls", "--json"),
        ("stats",),
        ("export",),
        ("backends", "--json"),
        ("bench", "--list"),
        ("query", "song"),
        ("query", "--json", "song"),
        ("query", "--json", "noise"),
        ("rm", "--dry-run", "1"),
        ("--help",),
        ("--version",),
        ("query", "--help"),
    ],
    ids=" ".join,
)
def test_a_full_standard_output_is_told_in_one_line(command, indexed, music, tmp_path):
    clips = {"song": music / "song0.wav", "noise": write_wav(tmp_path / "noise.wav", NOISE)}
    arguments = [clips.get(argument, argument) for argument in command]
    done = afp(*arguments, db=indexed.store, stdout="/dev/full")
    assert (done.status, done.err) == (3, TELLS_ALL)


@FULL
def test_the_interpreter_has_nothing_to_add(indexed):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = indexed.start("ls", stdout=full)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.decode()) == (3, TELLS_ALL)
