"""Embeddings in the store: packed, read in place, added, removed, merged, checked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.errors import StoreError
from afp.fingerprint import Evidence, Fingerprint
from afp.store import NewTrack, Store, embeddings
from afp.store.check import check


def fingerprint_of(seed, n, d=128, missing=0.1, cells=False):
    rng = np.random.default_rng(seed)
    frames = np.flatnonzero(rng.random(n) >= missing).astype(np.uint32)
    vectors = rng.normal(size=(len(frames), d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hashes = rng.integers(0, 4096, len(frames)).astype(np.uint32) if cells else None
    return Fingerprint(n, frames, hashes=hashes, vectors=vectors)


def new_track(seed, fingerprint):
    seconds = fingerprint.n_frames / 2
    return NewTrack(f"{seed:016x}", f"/music/{seed}", seconds, fingerprints={"neural": fingerprint})


def opened(folder):
    store = Store.open(folder, write=True)
    store.register("neural", version=1, parameters={}, hop_seconds=0.5)
    return store


def assert_holds(found, fingerprint):
    codes, scale = found.codes, found.scale
    n = int(fingerprint.frames[-1]) + 1 if len(fingerprint.frames) else 0
    assert codes.shape[0] == n
    assert not codes[np.setdiff1d(np.arange(n), fingerprint.frames)].any()
    if n:
        assert np.abs(codes).max() == 127
        np.testing.assert_allclose(
            codes[fingerprint.frames] * scale, fingerprint.vectors, atol=0.51 * scale
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(0, 60), st.sampled_from([1, 8, 64, 100, 128]))
def test_what_is_packed_comes_back(seed, n, d):
    fingerprint = fingerprint_of(seed, n, d)
    packed = embeddings.pack(fingerprint)
    assert (len(packed) + 4) % embeddings.CODES_AT == 0
    found, n_frames = embeddings.unpack(memoryview(packed))
    assert n_frames == n
    assert_holds(found, fingerprint)
    for cut in (0, 3, 59, len(packed) - 1):
        if cut < len(packed):
            with pytest.raises(StoreError, match=r"is not|cut short"):
                embeddings.unpack(memoryview(packed)[:cut])


def blocks_by_track(index):
    found = {}
    for block in index.embedding_blocks():
        for start, n, scale, track_id in zip(
            block.starts, block.counts, block.scales, block.track_ids, strict=True
        ):
            codes = block.codes[start : start + n * block.dimensions]
            assert track_id not in found
            found[int(track_id)] = codes.reshape(n, block.dimensions), scale
    return found


def assert_store_holds(store, prints):
    """Every track as it was added, one by one and in the blocks; none of the others."""
    with store.snapshot() as snapshot:
        index = snapshot.index("neural")
        assert index.n_tracks == len(prints)
        blocks = blocks_by_track(index)
        assert blocks.keys() == prints.keys()
        for track_id, fingerprint in prints.items():
            found = index.embeddings(track_id)
            assert_holds(found, fingerprint)
            np.testing.assert_array_equal(blocks[track_id][0], found.codes)
            assert blocks[track_id][1] == pytest.approx(found.scale)
        assert check(snapshot) == []


def test_tails_segments_removals_and_merges(tmp_path):
    prints = {}
    with opened(tmp_path / "store") as store:

        def add(seeds):
            items = [new_track(seed, fingerprint_of(seed, 5 * (seed % 7))) for seed in seeds]
            for track, item in zip(store.add(items), items, strict=True):
                prints[track.id] = item.fingerprints["neural"]

        def remove(ids):
            assert store.remove(ids) == len(ids)
            for track_id in ids:
                del prints[track_id]

        add(range(3))  # tails
        assert_store_holds(store, prints)
        add(range(3, 30))  # a segment of its own
        assert_store_holds(store, prints)
        remove(list(prints)[1:12:3])
        assert_store_holds(store, prints)
        for seed in range(30, 100):  # tails become segments
            add([seed])
        assert_store_holds(store, prints)
        store.flush()
        remove(list(prints)[::5])
        assert_store_holds(store, prints)
        store.compact()
        assert_store_holds(store, prints)
        for block in blocks_of(store):
            assert (block.starts % embeddings.CODES_AT == 0).all()
    with Store.open(tmp_path / "store") as store:
        assert_store_holds(store, prints)


def blocks_of(store):
    with store.snapshot() as snapshot:
        return list(snapshot.index("neural").embedding_blocks())


@pytest.mark.parametrize("cells", [False, True])
def test_a_second_of_audio_takes_at_most_280_bytes(tmp_path, cells):
    with opened(tmp_path / "store") as store:
        prints = (fingerprint_of(i, 480, missing=0, cells=cells) for i in range(80))
        store.add([new_track(i, fingerprint) for i, fingerprint in enumerate(prints)])
        store.compact()
        stats = store.stats()
        assert stats.bytes_per_second <= 280
        index = stats.indexes["neural"]
        assert index.seconds == 80 * 240
        if cells:
            assert index.postings == 80 * 480
            assert 268 <= index.bytes_per_second <= 276
        else:
            assert (index.postings, index.selectivity, index.bytes_per_posting) == (0, 0, 0)
            assert 256 <= index.bytes_per_second <= 262


def test_cells_are_postings_beside_the_embeddings(tmp_path):
    prints = {i: fingerprint_of(i, 50, cells=True) for i in range(30)}
    with opened(tmp_path / "store") as store:
        tracks = store.add([new_track(i, fingerprint) for i, fingerprint in prints.items()])
        with store.snapshot() as snapshot:
            index = snapshot.index("neural")
            lists = index.lookup(prints[7].hashes)
            found = set()
            for hits in lists.gather(np.ones(len(prints[7]), bool)):
                slots = np.searchsorted(hits.axis.bases, hits.positions, side="right") - 1
                frames = hits.positions - hits.axis.bases[slots]
                found |= set(zip(hits.rows, hits.axis.track_ids[slots], frames, strict=True))
            for row, frame in enumerate(prints[7].frames):
                assert (row, tracks[7].id, frame) in found
            assert_holds(index.embeddings(tracks[7].id), prints[7])
            assert len(index.embedding_blocks()) == len(lists.gather(np.ones(len(prints[7]), bool)))


def test_damage_is_found(tmp_path):
    folder = tmp_path / "store"
    with opened(folder) as store:
        tracks = store.add([new_track(i, fingerprint_of(i, 30)) for i in range(20)])
        (path,) = (folder / "segments").glob("*.segment")
        content = bytearray(path.read_bytes())
        (block,) = blocks_of(store)
    content[int(block.starts[7]) + 100] ^= 1
    path.write_bytes(content)
    with Store.open(folder) as store, store.snapshot() as snapshot:
        index = snapshot.index("neural")
        with pytest.raises(StoreError, match=f"track {tracks[7].id} fails its checksum"):
            index.embeddings(tracks[7].id)
        index.embeddings(tracks[6].id)
        assert any(f"track {tracks[7].id}" in fault for fault in check(snapshot))
    content[int(block.starts[7]) - embeddings.CODES_AT + 4 + 8] ^= 255  # its number of rows
    path.write_bytes(content)
    with (
        Store.open(folder) as store,
        pytest.raises(StoreError, match="that are damaged"),
    ):
        blocks_of(store)


def test_heavy_segments_are_not_merged_again_and_again(tmp_path):
    """A merge copies embeddings: they weigh, though there are no postings."""
    with opened(tmp_path / "store") as store:
        store.add([new_track(i, fingerprint_of(i, 6000)) for i in range(20)])
        with store.snapshot() as snapshot:
            (record,) = (segment.record for segment in snapshot.segments.values())
        assert record.n_postings == 0
        assert record.weight == record.n_fingerprint_bytes // 128


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vectors": None}, "without hashes and vectors"),
        ({"hashes": np.zeros(2, np.uint32)}, "3 frames, 2 values"),
        ({"evidence": Evidence(np.zeros(1, np.uint32), np.zeros(1, np.uint32))}, "or evidence"),
        ({"vectors": np.zeros(3, np.float32)}, r"vectors of \(3,\)"),
        ({"vectors": np.zeros((2, 4), np.float32)}, r"vectors of \(2, 4\)"),
        ({"vectors": np.full((3, 4), np.nan, np.float32)}, "not all finite"),
        ({"frames": np.array([0, 0, 1], np.uint32)}, "one a frame"),
        ({"frames": np.array([0, 1, 2], np.int64)}, "int64 frames"),
    ],
)
def test_contradictions_are_refused(tmp_path, change, why):
    fields = {"frames": np.arange(3, dtype=np.uint32), "vectors": np.ones((3, 4), np.float32)}
    fingerprint = Fingerprint(9, **{**fields, **change})
    with opened(tmp_path / "store") as store, pytest.raises(StoreError, match=why):
        store.add([new_track(1, fingerprint)])


def test_an_index_of_hashes_has_no_embeddings(tmp_path):
    frames = np.arange(40, dtype=np.uint32)
    with opened(tmp_path / "store") as store:
        (track,) = store.add([new_track(1, Fingerprint(40, frames, hashes=frames))])
        with store.snapshot() as snapshot:
            index = snapshot.index("neural")
            with pytest.raises(StoreError, match="is to be of embeddings is not"):
                index.embeddings(track.id)
            with pytest.raises(StoreError, match="embeddings"):
                index.embedding_blocks()
