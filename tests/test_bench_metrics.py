"""Metrics against cases worked out by hand, and against published values."""

import math
from fractions import Fraction
from itertools import pairwise
from math import comb, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.bench.metrics import (
    NOMINAL,
    clustered,
    det,
    holm,
    mcnemar,
    mean_reciprocal_rank,
    pooled,
    reliability,
    wilson,
)
from afp.bench.scores import DetPoint


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # z = 1.96, n = k = 10: centre (10 + 1.9207) / 13.8415 = 0.8612, half = 0.1388.
        (10, 10, 0.7225, 1.0),
        # n = 100, k = 50: centre 0.5, half 1.96 / 103.8415 * sqrt(25 + 0.96037) = 0.0962.
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_is_as_published(k, n, low, high):
    result = wilson(k, n)
    assert (result.k, result.n, result.share) == (k, n, k / n)
    assert (result.low, result.high) == pytest.approx((low, high), abs=5.1e-5)


def test_wilson_of_nothing_and_of_the_impossible():
    nothing = wilson(0, 0)
    assert (nothing.k, nothing.n, nothing.low, nothing.high) == (0, 0, 0.0, 1.0)
    assert math.isnan(nothing.share)
    for k, n in ((2, 1), (-1, 1)):
        with pytest.raises(ValueError, match=f"{k} of {n} is no proportion"):
            wilson(k, n)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_is_symmetric(case):
    k, n = case
    result, mirrored = wilson(k, n), wilson(n - k, n)
    assert 0 <= result.low <= result.share <= result.high <= 1
    assert result.low < result.high
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - result.high, 1 - result.low))


groups = st.lists(
    st.integers(0, 8).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), max_size=30
)


def test_clusters_by_hand():
    # 4 clusters of 5: 5, 3, 0, 0. p = 0.4, deviations 3, 1, -2, -2: squares 18; variance
    # 4/3 · 18 / 20² = 0.06; if independent 0.4 · 0.6 / 19: design effect 4.75. Two clusters hold
    # a hit, three a miss: the rarer counts, (2 · 4.75 + 5) / 3 = 4.8333.
    # n = 20 / 4.8333 = 4.1379, k = 1.6552: centre 3.5759 / 7.9794 = 0.4481,
    # half 1.96 / 7.9794 · sqrt(1.6552 · 2.4828 / 4.1379 + 0.96037) = 0.3433.
    found = clustered([(5, 5), (3, 5), (0, 5), (0, 5)])
    assert (found.k, found.n, found.share, found.clusters) == (8, 20, 0.4, 4)
    assert (found.low, found.high) == pytest.approx((0.1048, 0.7914), abs=1e-4)


def test_clusters_without_a_single_hit_count_as_one_observation_each():
    found, alone = clustered([(0, 6)] * 20), wilson(0, 20)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    every = clustered([(6, 6)] * 20)
    assert (every.low, every.high) == pytest.approx((1 - alone.high, 1.0))
    # Of unequal size their weighted mean size counts: (1 + 1 + 16) / 6 = 3.
    assert clustered([(0, 1), (0, 1), (0, 4)]).high == pytest.approx(wilson(0, 2).high)


def test_clusters_of_nothing_and_of_the_impossible():
    for nothing in ([], [(0, 0)]):
        found = clustered(nothing)
        assert (found.k, found.n, found.low, found.high, found.clusters) == (0, 0, 0.0, 1.0, 0)
    with pytest.raises(ValueError, match=r"\(2, 1\).* is no proportion"):
        clustered([(2, 1)])


@given(groups)
def test_clusters_widen_the_interval(groups):
    found = clustered(groups)
    k, n = sum(k for k, _ in groups), sum(n for _, n in groups)
    alone = wilson(k, n)
    assert (found.k, found.n, found.clusters) == (k, n, sum(n > 0 for _, n in groups))
    if n:
        assert 0 <= found.low <= found.share <= found.high <= 1
        assert found.high - found.low >= alone.high - alone.low - 1e-12
    assert clustered(groups[::-1]) == found
    turned = clustered([(n - k, n) for k, n in groups])
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_clusters_of_one_are_independent(hits):
    found, alone = clustered([(hit, 1) for hit in hits]), wilson(sum(hits), len(hits))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


@given(st.lists(st.booleans(), min_size=2, max_size=40), st.integers(1, 9))
def test_clusters_that_are_all_or_nothing_are_one_observation_each(hits, size):
    found = clustered([(size * hit, size) for hit in hits])
    alone = wilson(sum(hits), len(hits))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("correlation", [0.05, 0.3, 0.8])
def test_clustered_intervals_hold_the_truth_in_most_samples(share, correlation):
    """Beta-binomial clusters, where Wilson's interval by queries falls far short."""
    rng = np.random.default_rng(5)
    spread = (1 - correlation) / correlation
    samples = rng.binomial(24, rng.beta(share * spread, (1 - share) * spread, (500, 40)))

    def held(interval):
        found = map(interval, samples.tolist())
        return sum(one.low <= share <= one.high for one in found) / len(samples)

    assert held(lambda ks: clustered([(k, 24) for k in ks])) > 0.91
    if correlation >= 0.3:
        assert held(lambda ks: wilson(sum(ks), 24 * 40)) < 0.75


def test_pooled_shares():
    assert pooled([wilson(1, 2), wilson(0, 2), wilson(0, 0)]) == 0.25
    assert math.isnan(pooled([])) and math.isnan(pooled([wilson(0, 0)]))


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 · 1/2
        (5, 0, 0.0625),  # 2 · 1/32
        (8, 2, 0.109375),  # 2 · (1 + 10 + 45) / 1024
        (10, 1, 24 / 2048),  # 2 · (1 + 11) / 2048
        (4, 3, 1.0),  # 2 · (1 + 7 + 21 + 35) / 128
        (6, 6, 1.0),
    ],
)
def test_mcnemar_is_a_binomial_by_hand(b, c, p):
    assert mcnemar(b, c) == pytest.approx(p, rel=1e-12)
    assert mcnemar(c, b) == mcnemar(b, c)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_exact(b, c):
    n = b + c
    tail = Fraction(sum(comb(n, i) for i in range(min(b, c) + 1)), 2**n)
    assert mcnemar(b, c) == pytest.approx(float(min(Fraction(1), 2 * tail)), rel=1e-10)


def test_mcnemar_of_large_counts():
    # The normal approximation with correction for continuity: z = (2000 - 1) / sqrt(1e6).
    b, c = 501_000, 499_000
    assert mcnemar(b, c) == pytest.approx(math.erfc(1.999 / math.sqrt(2)), rel=1e-4)
    assert 0 <= mcnemar(1_000_000, 0) < 1e-300
    assert mcnemar(500_000, 500_000) == 1


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, none below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_rejects_as_step_down_does(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    rejected = set()
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - done) * p_values[i] >= 0.05:
            break
        rejected.add(i)
    assert {i for i, a in enumerate(adjusted) if a < 0.05} == rejected


def test_mean_reciprocal_rank():
    assert mean_reciprocal_rank([1, 2, None, 4]) == (1 + 1 / 2 + 0 + 1 / 4) / 4
    assert mean_reciprocal_rank([None]) == 0
    assert math.isnan(mean_reciprocal_rank([]))


def test_det_by_hand():
    # Four present: right at 1e-9 and 1e-4, wrong first answer, no answer. Two absent: 1e-4, none.
    assert det([1e-9, 1e-4, inf, inf], [1e-4, inf], max_p=1e-3) == [
        DetPoint(1e-9, missed=0.75, false=0.0),
        DetPoint(1e-4, missed=0.5, false=0.5),
    ]


def test_det_needs_both_sides():
    for present, absent in (([], [0.1]), ([0.1], []), ([inf], [inf])):
        assert det(present, absent, max_p=1e-3) == []


p_values = st.lists(
    st.floats(0, 1) | st.just(inf) | st.integers(-300, 0).map(lambda e: 10.0**e), max_size=400
)


@given(p_values, p_values, st.floats(0, 1))
def test_det_is_monotone_and_counts(present, absent, max_p):
    points = det(present, absent, max_p=max_p)
    assert len(points) <= 200
    for before, after in pairwise(points):
        assert before.max_p < after.max_p
        assert before.missed >= after.missed
        assert before.false <= after.false
        assert (before.missed, before.false) != (after.missed, after.false)
    for point in points:
        missed = sum(not p <= point.max_p for p in present) / len(present)
        assert point.missed == pytest.approx(missed)
        assert point.false == sum(p <= point.max_p for p in absent) / len(absent)
    if points:
        finite = [p for p in present + absent if p < inf]
        assert (points[0].max_p, points[-1].max_p) == (min(finite), max(finite))
        # The threshold in use stands there as it is.
        below = [p for p in finite if p <= max_p]
        assert max((q.max_p for q in points if q.max_p <= max_p), default=None) == max(
            below, default=None
        )


def test_det_is_thinned_evenly_in_the_logarithm():
    spaced = np.geomspace(1e-9, 1, 5000)
    points = det(spaced, [1e-3], max_p=3e-4)
    assert 150 < len(points) <= 200
    in_use = spaced[spaced <= 3e-4][-1]
    assert in_use in [point.max_p for point in points]
    steps = np.diff(np.log10([point.max_p for point in points if point.max_p != in_use]))
    assert steps.min() > 0.5 * 9 / 199
    assert steps.max() < 1.5 * 9 / 199


def test_reliability_by_hand():
    found = reliability([[1e-6, 5e-5], [0.01, 0.2, 0.9], [inf]])
    assert [p for p, _ in found] == list(NOMINAL) == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.3]
    assert [(share.k, share.n) for _, share in found] == [(k, 6) for k in (1, 1, 2, 2, 3, 3, 4)]
    assert {share.clusters for _, share in found} == {3}
