import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_matching_inner_product import FINENESS, block_of, rows_of, unit

from afp.index import GAP_FRAMES, Hits, TimeAxis
from afp.matching import cells
from afp.matching.inner_product import align


def test_the_nearest_cell_and_those_around_it():
    rng = np.random.default_rng(0)
    vectors, centres = unit(rng, 3000, 16), unit(rng, 50, 16)
    alike = vectors @ centres.T
    found = cells.nearest(vectors, centres)
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, alike.argmax(axis=1))
    assert len(cells.nearest(vectors[:0], centres)) == 0
    rows, probed = cells.probes(vectors[:40], centres, n_probe=7)
    np.testing.assert_array_equal(rows, np.repeat(np.arange(40), 7))
    for row in range(40):
        wanted = np.argsort(-alike[row])[:7]
        assert sorted(probed[rows == row]) == sorted(wanted)
    rows, probed = cells.probes(vectors[:2], centres, n_probe=500)
    assert sorted(probed) == sorted([*range(50), *range(50)])


class Segment:
    """Tracks on an axis, each embedding a posting of its cell."""

    def __init__(self, tracks, centres, dead=(), first_id=10):
        counts = np.array([len(track) for track in tracks])
        bases = np.cumsum([GAP_FRAMES, *(counts[:-1] + GAP_FRAMES)]).astype(np.uint32)
        alive = ~np.isin(np.arange(len(tracks)), dead)
        ids = first_id + np.arange(len(tracks))
        self.axis = TimeAxis(bases, ids, counts.astype(np.uint32), alive)
        whole = block_of(tracks, first_id)
        self.block = type(whole)(
            whole.codes,
            whole.starts[alive],
            whole.counts[alive],
            whole.scales[alive],
            ids[alive],
            whole.dimensions,
        )
        self.cells = [cells.nearest(track, centres) for track in tracks]

    def hits(self, hashes):
        rows, positions = [], []
        for row, wanted in enumerate(hashes):
            for base, of_track in zip(self.axis.bases, self.cells, strict=True):
                at = np.flatnonzero(of_track == wanted)
                rows += [row] * len(at)
                positions += list(base + at)
        return Hits(np.array(rows, np.uint32), np.array(positions, np.uint32), self.axis)


def weights_by_offset(query, steps, segment, hits):
    """Sum what is beyond the likeness that counts, for each track and offset."""
    sums = {}
    block = segment.block
    for row, position in zip(hits.rows, hits.positions, strict=True):
        slot = int(np.searchsorted(segment.axis.bases, position, side="right")) - 1
        if not segment.axis.alive[slot]:
            continue
        i = int(np.flatnonzero(block.track_ids == segment.axis.track_ids[slot])[0])
        frame = int(position) - int(segment.axis.bases[slot])
        beyond = float(rows_of(block, i)[frame] @ query[steps[row]]) - cells._ALIKE
        if beyond > 0:
            key = (i, FINENESS * frame - int(steps[row]))
            sums[key] = sums.get(key, 0.0) + beyond**2
    return sums


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 20),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([16, 128]),
    st.integers(0, 3),
)
def test_the_heaviest_offset_is_the_first_of_a_loop(seed, m, lengths, d, width):
    rng = np.random.default_rng(seed)
    centres = unit(rng, 5, d)
    tracks = [unit(rng, n, d) for n in lengths]
    dead = np.flatnonzero(rng.random(len(lengths)) < 0.2)
    segment = Segment(tracks, centres, dead)
    query = unit(rng, m, d)
    for s in range(m):  # so that something is alike
        stored = tracks[rng.integers(len(tracks))]
        if len(stored) and rng.random() < 0.5:
            query[s] = stored[rng.integers(len(stored))]
    rows, hashes = cells.probes(query, centres, n_probe=3)
    hits = segment.hits(hashes)
    sums = weights_by_offset(query, rows, segment, hits)
    codes = np.rint(query * 4096).astype(np.int16)
    peaks = cells._peaks(codes, rows, hits, segment.block, fineness=4, width=width, most=1)
    windows = {
        (i, offset): sum(sums.get((i, offset + k), 0.0) for k in range(width + 1))
        for i, offset in sums
    }
    if not windows:
        assert len(peaks.weights) == 0
        return
    assert peaks.weights[0] == pytest.approx(max(windows.values()), abs=0.01)
    key = (int(peaks.rows[0]), int(peaks.offsets[0]) - width // 2)
    assert windows[key] == pytest.approx(max(windows.values()), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(0, 31))
def test_hits_are_sorted_by_diagonal(seed, n, bits):
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 256, 7)
    positions = rng.integers(GAP_FRAMES, GAP_FRAMES + (1 << bits), n).astype(np.uint32)
    rows = rng.integers(0, 7, n).astype(np.uint32)
    axis = TimeAxis(
        np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, bool)
    )
    keys = cells._sorted_keys(Hits(rows, positions, axis), steps, FINENESS)
    n_bits = cells._STEP_BITS
    found = [(key >> n_bits, key & ((1 << n_bits) - 1)) for key in keys.tolist()]
    expected = [
        (FINENESS * int(position) - int(steps[row]), int(steps[row]))
        for position, row in zip(positions, rows, strict=True)
    ]
    assert sorted(found) == sorted(expected)
    assert [diagonal for diagonal, _ in found] == sorted(diagonal for diagonal, _ in expected)


@pytest.mark.parametrize("dead", [(), (0, 7)])
def test_a_stretch_of_a_track_is_found_as_by_looking_everywhere(dead):
    rng = np.random.default_rng(3)
    centres = unit(rng, 64, 128)
    tracks = [unit(rng, 300, 128) for _ in range(20)]
    segments = [Segment(tracks[:9], centres, dead), Segment(tracks[9:], centres, first_id=40)]
    query = np.zeros((36, 128), np.float32)
    query[2::4] = tracks[12][100:109] + 0.5 * unit(rng, 9, 128)
    query /= np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-9)
    steps = np.flatnonzero(query.any(axis=1))
    rows, hashes = cells.probes(query[steps], centres, n_probe=4)
    blocks = [segment.block for segment in segments]
    likely = cells.promising(
        query,
        steps[rows],
        [segment.hits(hashes) for segment in segments],
        blocks,
        fineness=FINENESS,
        width=2,
        most=8,
    )
    assert sum(len(block.counts) for block in likely.blocks) == len(likely.firsts)
    assert max(int(block.counts.max(initial=0)) for block in likely.blocks) < 15
    chance = cells.sample(blocks, n_tracks=20, n_frames=300)
    assert sum(len(block.counts) for block in chance.blocks) == 20 - len(dead)
    found = cells.align_stretches(query, likely, chance, fineness=FINENESS, side=0.5)
    everywhere = align(query, blocks, fineness=FINENESS, side=0.5)
    best, wanted = int(np.argmax(found.scores)), int(np.argmax(everywhere.scores))
    assert (found.track_ids[best], found.offsets[best]) == (43, 400 - 2)
    assert (everywhere.track_ids[wanted], everywhere.offsets[wanted]) == (43, 400 - 2)
    assert found.scores[best] == pytest.approx(everywhere.scores[wanted], abs=1e-6)
    assert len(set(found.track_ids)) == len(found.track_ids)
    by_track = dict(zip(everywhere.track_ids, everywhere.powers, strict=True))
    for track_id, powers in zip(found.track_ids, found.powers, strict=True):
        np.testing.assert_allclose(powers, by_track[track_id], rtol=1e-3)


def test_a_track_that_repeats_itself_leaves_room_for_its_rivals():
    """The rivals tell what chance gives: they must be among the stretches."""
    rng = np.random.default_rng(8)
    centres = unit(rng, 32, 128)
    loop = unit(rng, 6, 128)

    def like(n):
        near = np.tile(loop, (n, 1)) + 0.7 * unit(rng, 6 * n, 128)
        return near / np.linalg.norm(near, axis=1, keepdims=True)

    tracks = [unit(rng, 60, 128) for _ in range(40)]
    rivals = range(3, 35, 4)
    for k in rivals:
        tracks[k][20:26] = like(1)
    tracks[1] = like(400)
    segment = Segment(tracks, centres)
    query = np.zeros((24, 128), np.float32)
    query[::4] = loop
    rows, hashes = cells.probes(query[::4], centres, n_probe=12)
    likely = cells.promising(
        query,
        4 * rows,
        [segment.hits(hashes)],
        [segment.block],
        fineness=FINENESS,
        width=2,
        most=60,
    )
    (block,) = likely.blocks
    found, times = np.unique(block.track_ids, return_counts=True)
    assert set(found) >= {10 + k for k in (1, *rivals)}
    assert times.max() <= cells._PEAKS_A_TRACK


def test_a_stretch_at_either_end_of_a_track_stays_inside():
    rng = np.random.default_rng(4)
    centres = unit(rng, 8, 128)
    tracks = [unit(rng, 12, 128) for _ in range(3)]
    segment = Segment(tracks, centres)
    for at in (0, 11):
        query = np.zeros((48, 128), np.float32)
        query[20] = tracks[1][at]
        rows, hashes = cells.probes(query[20:21], centres, n_probe=8)
        likely = cells.promising(
            query,
            20 + rows,
            [segment.hits(hashes)],
            [segment.block],
            fineness=FINENESS,
            width=2,
            most=1,
        )
        (block,) = likely.blocks
        assert likely.firsts[0] >= 0
        assert likely.firsts[0] + block.counts[0] <= 12
        found = align(query, likely.blocks, fineness=FINENESS, side=0.0)
        assert found.offsets[0] + 4 * likely.firsts[0] == 4 * at - 20
        assert found.scores[0] == pytest.approx(1, abs=0.02)


def test_nothing_alike_and_nothing_stored():
    rng = np.random.default_rng(5)
    centres = unit(rng, 4, 128)
    query = unit(rng, 3, 128)
    empty = Segment([np.empty((0, 128), np.float32)], centres)
    for segments in ([], [empty]):
        blocks = [segment.block for segment in segments]
        likely = cells.promising(
            query,
            np.arange(3),
            [segment.hits(np.arange(3)) for segment in segments],
            blocks,
            fineness=FINENESS,
            width=2,
            most=5,
        )
        assert len(likely.firsts) == 0
        chance = cells.sample(blocks, n_tracks=5, n_frames=50)
        found = cells.align_stretches(query, likely, chance, fineness=FINENESS, side=0.5)
        assert not found.powers.any()
