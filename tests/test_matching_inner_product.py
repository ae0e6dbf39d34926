import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.index import EmbeddingBlock, Embeddings
from afp.matching.inner_product import align, normaliser, score_at, similarities

FINENESS = 4


def unit(rng, n, d):
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def block_of(vectors, first_id=10):
    """Tracks of vectors, at odd places in memory."""
    d = vectors[0].shape[1]
    scales = np.array([float(max(np.abs(v).max(initial=0), 1e-3)) / 127 for v in vectors])
    memory, starts = [np.full(3, 77, np.int8)], []
    for v, scale in zip(vectors, scales, strict=True):
        starts.append(sum(map(len, memory)))
        memory += [np.rint(v / scale).astype(np.int8).ravel(), np.full(5, -9, np.int8)]
    counts = np.array([len(v) for v in vectors], np.int64)
    ids = first_id + np.arange(len(vectors))
    return EmbeddingBlock(np.concatenate(memory), np.array(starts), counts, scales, ids, d)


def rows_of(block, i):
    start, n, d = int(block.starts[i]), int(block.counts[i]), block.dimensions
    return block.codes[start : start + n * d].reshape(n, d) * block.scales[i]


def naive(query, stored, side):
    """Score and offset of every alignment, the sums over all pairs that meet."""
    m, n = len(query), len(stored)
    sums = {}
    for s in range(m):
        for k in range(n):
            offset = FINENESS * k - s
            alike = max(float(query[s] @ stored[k]), 0.0)
            sums[offset] = sums.get(offset, 0.0) + alike**4
    whole = normaliser(query, fineness=FINENESS, side=side)
    return {
        offset: (sums.get(offset, 0) + side * (sums.get(offset - 1, 0) + sums.get(offset + 1, 0)))
        / whole
        for offset in range(1 - m, FINENESS * n + 1)
    }


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.sampled_from([16, 128]),
    st.sampled_from([0.0, 0.5, 0.8]),
)
def test_alignments_are_those_of_a_loop(seed, m, lengths, d, side):
    rng = np.random.default_rng(seed)
    query = unit(rng, m, d)
    query[rng.random(m) < 0.2] = 0
    block = block_of([unit(rng, n, d) for n in lengths])
    found = align(query, [block], fineness=FINENESS, side=side)
    np.testing.assert_array_equal(found.track_ids, block.track_ids)
    for i, n in enumerate(lengths):
        every = naive(query, rows_of(block, i), side)
        best = max(every.values()) if n else 0.0
        assert found.scores[i] == pytest.approx(best, abs=2e-3)
        if n:
            assert every[int(found.offsets[i])] == pytest.approx(best, abs=2e-3)
        inside = [every[o] for o in range(FINENESS * (n - 1) - m + 2)]
        powers = [len(inside), np.square(inside).sum()]
        np.testing.assert_allclose(found.powers[i], powers, atol=2e-3)


def test_a_stretch_of_a_track_is_found_with_its_offset():
    rng = np.random.default_rng(1)
    tracks = [unit(rng, 300, 128) for _ in range(5)]
    query = unit(rng, 36, 128)
    query[2::4] = tracks[3][100:109]
    blocks = [block_of(tracks[:2], 10), block_of(tracks[2:], 20)]
    found = align(query, blocks, fineness=FINENESS, side=0.0)
    best = int(np.argmax(found.scores))
    assert (found.track_ids[best], found.offsets[best]) == (21, 400 - 2)
    assert found.scores[best] == pytest.approx(1, abs=0.01)
    stored = Embeddings(np.rint(tracks[3] * 400).astype(np.int8), 1 / 400)
    alike = similarities(query, stored, 398, fineness=FINENESS)
    np.testing.assert_allclose(alike[2::4], 1, atol=0.02)
    assert np.abs(alike[np.arange(36) % 4 != 2]).max() < 0.6


def test_steps_that_meet_no_frame_are_alike_to_nothing():
    rng = np.random.default_rng(2)
    query = unit(rng, 20, 128)
    stored = Embeddings(np.full((2, 128), 50, np.int8), 0.01)
    before = similarities(query, stored, -100, fineness=FINENESS)
    after = similarities(query, stored, 100, fineness=FINENESS)
    assert not before.any()
    assert not after.any()


def test_the_longest_query_does_not_overflow():
    ones = np.full((256, 128), 128**-0.5, np.float32)
    block = block_of([ones])
    found = align(ones, [block], fineness=1, side=1.0)
    assert found.scores[0] == pytest.approx(3.0, rel=0.02)  # steps beside count three times here


def test_no_tracks_no_alignments():
    found = align(np.ones((3, 8), np.float32), [], fineness=4, side=0.5)
    assert len(found.scores) == len(found.powers) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(0, 12),
    st.integers(-60, 60),
    st.sampled_from([0.0, 0.8]),
)
def test_the_score_at_one_place_is_that_of_its_alignment(seed, m, n, offset, side):
    rng = np.random.default_rng(seed)
    query = unit(rng, m, 16)
    query[rng.random(m) < 0.2] = 0
    stored = Embeddings(np.rint(unit(rng, n, 16) * 127).astype(np.int8), 1 / 127)
    score = score_at(query, stored, offset, speed=1.0, fineness=FINENESS, side=side)
    every = naive(query, stored.codes * stored.scale, side)
    if offset in every:
        assert score == pytest.approx(every[offset], abs=1e-5)
    elif not -m <= offset <= FINENESS * n:
        assert score == 0.0


@pytest.mark.parametrize("speed", [0.95, 1.0, 1.05])
def test_a_query_at_another_speed_meets_the_frames_that_it_was_made_from(speed):
    rng = np.random.default_rng(3)
    track = unit(rng, 100, 128)
    met = np.rint((FINENESS * np.arange(30, 50) - 120.3) / speed).astype(int)
    query = np.zeros((int(met[-1]) + 1, 128), np.float32)
    query[met] = track[30:50]
    stored = Embeddings(np.rint(track * 250).astype(np.int8), 1 / 250)
    whole = normaliser(query, fineness=FINENESS, side=0.0)

    def score(at, factor):
        return score_at(query, stored, at, speed=factor, fineness=FINENESS, side=0.0) * whole

    assert score(120.3, speed) == pytest.approx(20, abs=0.1)
    if speed != 1:
        assert score(120.3, 1.0) < 15
    assert score(1e7, speed) == 0.0
