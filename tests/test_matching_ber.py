import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.fingerprint import Evidence
from afp.matching.ber import (
    BitErrors,
    BlockNull,
    agreeing_stretch,
    agreements,
    best_offset,
    bit_errors,
    common_null,
    coverage,
    n_runs,
    overlap,
    soft_bits,
    spread,
    without_edges,
)

NONE = np.zeros(40)  # of the scatter that independent bits would have


def words(rng, n):
    return rng.integers(0, 1 << 32, n, dtype=np.uint32)


def track(rng, n, missing=0.0):
    frames = np.flatnonzero(rng.random(n) >= missing).astype(np.uint32)
    return Evidence(frames, words(rng, len(frames)))


def stored(evidence):
    return dict(zip(evidence.frames.tolist(), evidence.values.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 50), st.integers(0, 80), st.integers(-60, 90))
def test_bit_errors_are_counted_as_a_loop_would(seed, n, n_track, offset):
    rng = np.random.default_rng(seed)
    bits, audible = words(rng, n), rng.random(n) < 0.9
    evidence = track(rng, n_track, missing=0.1)
    values = stored(evidence)
    pairs = [
        (int(bits[t]), values[t + offset]) for t in range(n) if audible[t] and t + offset in values
    ]
    expected = BitErrors(sum((a ^ b).bit_count() for a, b in pairs), 32 * len(pairs))
    assert bit_errors(bits, audible, evidence, offset) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.data())
def test_a_fingerprint_with_k_flipped_bits_of_n_has_a_rate_of_k_over_n(seed, n, data):
    rng = np.random.default_rng(seed)
    evidence = Evidence(np.arange(n, dtype=np.uint32), words(rng, n))
    k = data.draw(st.integers(0, 32 * n))
    bits = evidence.values.copy()
    for place in rng.choice(32 * n, k, replace=False):
        bits[place // 32] ^= np.uint32(1) << np.uint32(place % 32)
    errors = bit_errors(bits, np.ones(n, np.bool_), evidence, 0)
    assert errors == BitErrors(k, 32 * n)
    assert errors.rate == k / (32 * n)


def test_the_rate_of_nothing_is_that_of_chance():
    evidence = Evidence(np.empty(0, np.uint32), np.empty(0, np.uint32))
    assert bit_errors(np.zeros(3, np.uint32), np.ones(3, np.bool_), evidence, 0).rate == 0.5


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 40),
    st.integers(0, 60),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_agreements_are_summed_as_a_loop_would(seed, n, n_track, n_blocks, step):
    rng = np.random.default_rng(seed)
    bits, odds = words(rng, n), rng.random((n, 32)).astype(np.float32)
    query = soft_bits(bits, odds, n_blocks=n_blocks, step=step)
    evidence = track(rng, n_track, missing=0.1)
    values = stored(evidence)
    offsets = np.arange(-n, n_track + 1, 7)
    found = agreements(query, evidence, offsets)
    for row, offset in zip(found, offsets.tolist(), strict=True):
        expected = np.zeros((n_blocks, 8))
        for t in range(0, n, step):
            for m in range(32 if t + offset in values else 0):
                equal = (int(bits[t]) >> m & 1) == (values[t + offset] >> m & 1)
                expected[t * n_blocks // n, m // 4] += odds[t, m] if equal else -odds[t, m]
        np.testing.assert_allclose(row, expected.ravel(), atol=1e-4)


def test_scores_are_standard_where_chance_is_all_there_is():
    rng = np.random.default_rng(1)
    scale = rng.uniform(1, 30, 40)  # blocks weigh differently
    null = BlockNull.fit(rng.normal(3, scale, (400, 40)), NONE)
    scores = null.scores(rng.normal(3, scale, (4000, 40)))
    assert scores.mean() == pytest.approx(0, abs=0.2)
    assert scores.std() == pytest.approx(1, abs=0.2)


def test_agreement_in_a_few_blocks_counts_for_more_than_a_little_everywhere():
    rng = np.random.default_rng(2)
    null = BlockNull.fit(rng.normal(0, 1, (400, 40)), NONE)
    everywhere, somewhere = np.full(40, 1.0), np.zeros(40)
    somewhere[:8] = 5.0
    assert null.scores(somewhere[None])[0] > null.scores(everywhere[None])[0] > 2


def test_music_that_repeats_itself_does_not_spoil_the_null():
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 1, (200, 40))
    plain = BlockNull.fit(samples, NONE)
    samples[::10] += 8.0  # one place in ten matches
    repeating = BlockNull.fit(samples, NONE)
    match = np.full((1, 40), 8.0)
    assert repeating.scores(match)[0] > 0.6 * plain.scores(match)[0]


def test_steady_sounds_widen_the_null():
    rng = np.random.default_rng(4)
    steady = rng.normal(0, 1, (200, 1)) * np.ones(40)  # all blocks agree or none
    sums = np.full((1, 40), 2.0)
    independent = BlockNull.fit(rng.normal(0, 1, (200, 40)), NONE)
    assert BlockNull.fit(steady, NONE).scores(sums)[0] < 0.5 * independent.scores(sums)[0]


@pytest.mark.parametrize(("first", "last"), [(0, 200), (60, 200), (0, 120), (40, 150)])
def test_the_stretch_that_agrees_is_found(first, last):
    rng = np.random.default_rng(5)
    evidence = track(rng, 600)
    bits = words(rng, 200)
    bits[first:last] = evidence.values[300 + first : 300 + last]
    query = soft_bits(bits, rng.random((200, 32)).astype(np.float32), n_blocks=1)
    found = agreeing_stretch(query, evidence, 300)
    assert found == pytest.approx((first, last), abs=3)


def test_the_offset_with_the_best_score_is_found_among_all_that_are_near():
    rng = np.random.default_rng(8)
    evidence = track(rng, 900)
    bits = evidence.values[400:500].copy()
    query = soft_bits(bits, rng.random((100, 32)).astype(np.float32), n_blocks=2)
    null = common_null(query, evidence, 200)
    offset, score = best_offset(query, evidence, np.array([20, 402, 700]), [null])
    assert offset == 400
    assert score == pytest.approx(
        null.scores(agreements(query, evidence, np.array([400])))[0], rel=1e-6
    )
    assert best_offset(query, evidence, np.array([20, 403, 700]), [null], stride=3)[0] == 400
    assert best_offset(query, evidence, np.array([20, 403, 700]), [null, null])[1] == score
    assert best_offset(query, evidence, np.array([20]), []) == (20.0, 0.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30))
def test_runs_of_equal_bits_are_counted_by_their_weight(seed, n):
    rng = np.random.default_rng(seed)
    bits, odds = words(rng, n), rng.random((n, 32)).astype(np.float32)
    weights = []
    for m in range(32):
        values = (bits >> np.uint32(m)) & 1
        for t in range(n):
            if t and values[t] == values[t - 1]:
                weights[-1] += odds[t, m]
            else:
                weights.append(odds[t, m])
    expected = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    assert n_runs(soft_bits(bits, odds, n_blocks=1)) == pytest.approx(expected, rel=1e-3)


def test_steady_bits_are_one_run_each():
    bits, odds = np.full(50, 0x0F0F, np.uint32), np.ones((50, 32), np.float32)
    assert n_runs(soft_bits(bits, odds, n_blocks=1)) == pytest.approx(32)
    assert n_runs(soft_bits(bits, 0 * odds, n_blocks=1)) == 0.0


def test_blocks_scatter_at_least_as_independent_bits_do():
    rng = np.random.default_rng(6)
    query = soft_bits(words(rng, 60), rng.random((60, 32)).astype(np.float32), n_blocks=3)
    squares = (query.signed.astype(float) ** 2).reshape(3, 20, 8, 4).sum(axis=(1, 3))
    np.testing.assert_allclose(query.chance(), np.sqrt(squares).ravel(), rtol=1e-5)
    nowhere = BlockNull.fit(np.zeros((200, 24)), query.chance())  # as where nothing overlaps
    np.testing.assert_allclose(nowhere.deviation, query.chance())
    sums = agreements(
        query, Evidence(np.arange(60, dtype=np.uint32), words(rng, 60)), np.array([0])
    )
    assert abs(nowhere.scores(sums)[0]) < 100


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 60), st.integers(-45, 65))
def test_only_what_overlaps_the_evidence_counts(seed, n, n_track, offset):
    rng = np.random.default_rng(seed)
    odds = rng.random((n, 32)).astype(np.float32)
    query, evidence = soft_bits(words(rng, n), odds, n_blocks=1), track(rng, n_track, missing=0.2)
    inside = np.isin(np.arange(n) + offset, evidence.frames.astype(np.int64))
    part = overlap(query, evidence, offset)
    np.testing.assert_array_equal(part.signed, np.where(inside[:, None], query.signed, 0))
    share = odds[inside].sum() / odds.sum()
    assert coverage(query, evidence, np.array([offset]))[0] == pytest.approx(share, abs=1e-5)
    places = np.array([offset])
    np.testing.assert_array_equal(
        agreements(part, evidence, places), agreements(query, evidence, places)
    )


def test_places_are_spread_over_what_can_be_heard():
    rng = np.random.default_rng(7)
    frames = np.r_[5000:5300, 9000:9200].astype(np.uint32)
    evidence = Evidence(frames, words(rng, len(frames)))
    query = soft_bits(words(rng, 50), np.ones((50, 32), np.float32), n_blocks=1)
    offsets = spread(query, evidence, 40)
    assert len(offsets) == 40
    assert np.mean(coverage(query, evidence, offsets) == 1.0) > 0.8


def test_frames_beside_silence_are_left_out_but_not_those_at_the_ends_of_a_track():
    frames = np.r_[0:50, 100:150, 200:210, 300:350].astype(np.uint32)
    evidence = Evidence(frames, frames)
    kept = np.r_[0:40, 110:140, 310:350]
    np.testing.assert_array_equal(without_edges(evidence, 10, 349).frames, kept)
    np.testing.assert_array_equal(without_edges(evidence, 10, 400).frames, kept[:-10])
    whole = Evidence(frames[:50], frames[:50])
    np.testing.assert_array_equal(without_edges(whole, 10, 49).frames, whole.frames)
