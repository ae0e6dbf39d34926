"""SIGKILL at every step that a change of the store consists of."""

import shutil

import pytest
from killing import killed_at
from test_store_faults import assert_answers, make, new_track

from afp.store import Failure, Store, index_writer, manifest
from afp.store import store as store_module
from afp.store.check import check

NAMES = ("one", "two")


@pytest.fixture
def eager(monkeypatch):
    """Have tails flushed, segments merged and free pages given back after a few tracks."""
    monkeypatch.setattr(manifest, "TAIL_TRACKS", 3)
    monkeypatch.setattr(manifest, "FAN_OUT", 2)
    monkeypatch.setattr(manifest, "_SMALLEST", 1000)
    monkeypatch.setattr(index_writer, "BATCH_TRACKS", 4)
    monkeypatch.setattr(store_module, "FREE_BYTES", 1 << 15)


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


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_there_as_a_whole_or_not_at_all(tmp_path, eager, change):
    n_tracks, act = change
    folder = prepared(tmp_path / "store", n_tracks)
    before = contents(shutil.copytree(folder, tmp_path / "before")) if n_tracks else ({}, [])

    def work(report):
        with Store.open(copy, write=True) as store:
            act(store)
            report("done")

    copy = tmp_path / "whole"
    if folder.exists():
        shutil.copytree(folder, copy)
    assert killed_at(1 << 30, work) == (False, ["done"])
    after = contents(copy)
    step, killed = 0, True
    states = []
    while killed:
        copy = tmp_path / str(step)
        if folder.exists():
            shutil.copytree(folder, copy)
        killed, reported = killed_at(step, work)
        if killed and not reported and not copy.exists():
            found = {}, []
        else:
            found = contents(copy)
        states.append(found)
        if reported or not killed:
            assert found == after
        with Store.open(copy, write=True) as store:
            act(store)
        assert contents(copy) == after
        shutil.rmtree(copy)
        step += 1
    print(step)
    assert {*map(repr, states)} <= {repr(before), repr(after)} 
