"""The store against a model made of dictionaries, through random lives."""

from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from afp.fingerprint import Evidence, Fingerprint
from afp.index import GAP_FRAMES
from afp.store import Failure, NewTrack, Store, check_process, index_writer, manifest
from afp.store import store as store_module
from afp.store.check import check

HASHES = np.arange(60, dtype=np.uint32) * np.uint32(71_582_788)
PATHS = ["/music/a b.mp3", "/music/\udcff'\".flac", "/müsik/ü.ogg", "/" + "long/" * 300, "e", "f"]
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # flushing a disk would take most time
BACKENDS = ("one", "two")


def fingerprint_of(seed, n):
    rng = np.random.default_rng(seed)
    frames = np.sort(rng.integers(0, 200, n)).astype(np.uint32)
    hashes = HASHES[np.minimum(rng.zipf(1.4, n) - 1, len(HASHES) - 1)]
    return Fingerprint(200, frames, hashes, evidence=Evidence(frames[::2], hashes[::2]))


class StoreLife(RuleBasedStateMachine):
    @initialize(
        tails=st.integers(1, 5),
        fan_out=st.integers(2, 4),
        batch=st.integers(2, 4),
        eager=st.sampled_from([0, 1000]),
        free=st.sampled_from([0, 1 << 20]),
    )
    def make(self, tails, fan_out, batch, eager, free):
        # Small limits, so that a few steps go through flushes and merges of several tiers.
        self.patch = pytest.MonkeyPatch()
        for module, name, value in (
            (manifest, "TAIL_TRACKS", tails),
            (manifest, "FAN_OUT", fan_out),
            (manifest, "_SMALLEST", 64),
            (manifest, "EAGER_POSTINGS", eager),
            (index_writer, "BATCH_TRACKS", batch),
            (store_module, "FREE_BYTES", free),
        ):
            self.patch.setattr(module, name, value)
        self.folder = Path(mkdtemp(dir=MEMORY)) / "store"
        self.store = Store.open(self.folder, write=True)
        for name in BACKENDS:
            self.store.register(name, version=1, parameters={"density": 3}, hop_seconds=0.01)
        self.reader = Store.open(self.folder)
        self.tracks = {}  # id -> {"content", "title", "paths": {path: size}, "prints": {...}}
        self.used = set()
        self.failures = {}

    def teardown(self):
        self.store.close()
        self.reader.close()
        self.patch.undo()
        rmtree(self.folder.parent)

    def _point(self, path, track_id, size):
        if track_id not in self.tracks or path not in self.tracks[track_id]["paths"]:
            self._lose(path)
        track = self.tracks[track_id]
        track["paths"][path] = size
        track["path"] = path
        self.failures.pop(path, None)

    def _lose(self, path):
        """Take a path from the track that has it; tell whether that was its last one."""
        for track_id, track in list(self.tracks.items()):
            if path in track["paths"]:
                del track["paths"][path]
                if track["path"] == path:
                    track["path"] = None  # another of them
                if not track["paths"]:
                    del self.tracks[track_id]
                    return True
        return False

    @rule(
        items=st.lists(
            st.tuples(
                st.integers(0, 15),
                st.sampled_from(PATHS),
                st.sets(st.sampled_from(BACKENDS)),
                st.integers(0, 40),
            ),
            max_size=5,
        )
    )
    def add(self, items):
        new = []
        for content, path, names, n in items:
            prints = {name: fingerprint_of(content, n) for name in sorted(names)}
            new.append(NewTrack(f"{content:x}", path, 2.0, title=path, size=n, fingerprints=prints))
        tracks = self.store.add(new)
        assert len(tracks) == len(new)
        for item, track in zip(new, tracks, strict=True):
            assert (track.path, track.content_id) == (item.path, item.content_id)
            known = [i for i, t in self.tracks.items() if t["content"] == item.content_id]
            assert [track.id] == known or track.id not in self.used
            self.used.add(track.id)
            entry = self.tracks.setdefault(
                track.id, {"content": item.content_id, "paths": {}, "prints": {}}
            )
            entry["title"] = item.title
            entry["prints"] = {**item.fingerprints, **entry["prints"]}
            self._point(item.path, track.id, item.size)

    @precondition(lambda self: self.tracks)
    @rule(data=st.data())
    def remove(self, data):
        ids = data.draw(st.lists(st.sampled_from([*sorted(self.tracks), 10_000]), max_size=3))
        assert self.store.remove(ids) == len(set(ids) & self.tracks.keys())
        for track_id in ids:
            self.tracks.pop(track_id, None)

    @precondition(lambda self: self.tracks)
    @rule(data=st.data(), path=st.sampled_from(PATHS), size=st.integers(0, 9))
    def rename(self, data, path, size):
        track_id = data.draw(st.sampled_from(sorted(self.tracks)))
        with self.store.snapshot() as snapshot:
            track = snapshot.track(track_id)
        values = {name: getattr(track, name) for name in track.__slots__}
        self.store.update(type(track)(**{**values, "path": path, "size": size, "title": "new"}))
        self._point(path, track_id, size)
        self.tracks[track_id]["title"] = "new"

    @rule(paths=st.lists(st.sampled_from(PATHS), max_size=3))
    def forget_paths(self, paths):
        for path in paths:
            self.failures.pop(path, None)
        lost = sum(self._lose(path) for path in dict.fromkeys(paths))
        assert self.store.forget_paths(paths) == lost

    @rule(paths=st.lists(st.sampled_from(PATHS), max_size=3))
    def fail(self, paths):
        failures = [Failure(path, 3, 4, f"cannot read {path!r}") for path in paths]
        self.store.record_failures(failures)
        self.failures |= {failure.path: failure.reason for failure in failures}

    @rule()
    def flush(self):
        self.store.flush()

    @rule()
    def compact(self):
        done = self.store.compact()
        assert done.bytes_after == self.store.n_bytes()

    @rule()
    def reopen(self):
        self.store.close()
        self.store = Store.open(self.folder, write=True)

    @invariant()
    def answers_like_the_model(self):
        with self.store.snapshot() as snapshot:  # in this process, as it is done so often
            assert check(snapshot) == []
        with self.reader.snapshot() as snapshot:
            assert {track.id for track in snapshot.tracks()} == set(self.tracks)
            assert {f.path: f.reason for f in snapshot.failures()} == self.failures
            paths = {p: (i, s) for i, t in self.tracks.items() for p, s in t["paths"].items()}
            assert {p: (e.track_id, e.size) for p, e in snapshot.paths().items()} == paths
            entries = {path: snapshot.path_entry(path) for path in PATHS}
            assert {p: (e.track_id, e.size) for p, e in entries.items() if e} == paths
            reasons = {path: snapshot.failure(path) for path in PATHS}
            assert {p: f.reason for p, f in reasons.items() if f} == self.failures
            for track_id, expected in self.tracks.items():
                track = snapshot.track(track_id)
                assert snapshot.find_track(track_id) == track
                assert (track.content_id, track.title) == (expected["content"], expected["title"])
                assert track.path in expected["paths"]
                assert expected["path"] in (None, track.path)
                assert track.size == expected["paths"][track.path]
                assert set(track.backends) == set(expected["prints"])
                assert snapshot.track_by_content(track.content_id) == track
                assert snapshot.track_by_path(track.path) == track
            for name in BACKENDS:
                self._compare_index(snapshot.index(name), name)

    def _compare_index(self, index, name):
        prints = {i: t["prints"][name] for i, t in self.tracks.items() if name in t["prints"]}
        assert index.n_tracks == len(prints)
        assert index.n_frames == 200 * len(prints)
        keep = np.arange(len(HASHES)) % 3 != 0
        lists = index.lookup(HASHES)
        found, n_hits = [], np.zeros(len(HASHES), int)
        for hits in lists.gather(keep):
            axis = hits.axis
            assert np.all(np.diff(np.append(0, axis.bases).astype(int)) >= GAP_FRAMES)
            at = np.searchsorted(axis.bases, hits.positions, side="right") - 1
            frames = hits.positions - axis.bases[at]
            n_hits += np.bincount(hits.rows, minlength=len(HASHES))
            alive = axis.alive[at]
            found += zip(
                axis.track_ids[at][alive].tolist(),
                hits.rows[alive].tolist(),
                frames[alive].tolist(),
                strict=True,
            )
        expected = [
            (track_id, row, frame)
            for track_id, fingerprint in prints.items()
            for row in np.flatnonzero(keep).tolist()
            for frame in fingerprint.frames[fingerprint.hashes == HASHES[row]].tolist()
        ]
        assert sorted(found) == sorted(expected)
        assert np.array_equal(n_hits, np.where(keep, lists.counts, 0))
        for track_id, fingerprint in prints.items():
            evidence = index.evidence(track_id)
            assert evidence.frames.tolist() == fingerprint.evidence.frames.tolist()
            assert evidence.values.tolist() == fingerprint.evidence.values.tolist()


def test_a_store_answers_like_its_model(monkeypatch):
    for module, name in (
        (manifest, "TAIL_TRACKS"),
        (manifest, "FAN_OUT"),
        (manifest, "_SMALLEST"),
        (manifest, "EAGER_POSTINGS"),
        (store_module, "FREE_BYTES"),
        (index_writer, "BATCH_TRACKS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    # A process for each compaction would take most of the time; the faults' tests start real ones.
    monkeypatch.setattr(check_process, "check_apart", lambda folder, *, catalogue_only: [])
    run_state_machine_as_test(
        StoreLife, settings=settings(max_examples=60, stateful_step_count=20, deadline=None)
    )
