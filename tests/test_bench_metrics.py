"""Metrics against cases worked out by hand, and against published values."""

import math
from fractions import Fraction
from itertools import pairwise
from math import comb, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.bench.metrics import NOMINAL, det, mcnemar, mean_reciprocal_rank, reliability, wilson
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


def test_mean_reciprocal_rank():
    assert mean_reciprocal_rank([1, 2, None, 4]) == (1 + 1 / 2 + 0 + 1 / 4) / 4
    assert mean_reciprocal_rank([None]) == 0
    assert math.isnan(mean_reciprocal_rank([]))


def test_det_by_hand():
    # Four present: right at 1e-9 and 1e-4, wrong first answer, no answer. Two absent: 1e-4, none.
    assert det([1e-9, 1e-4, inf, inf], [1e-4, inf]) == [
        DetPoint(1e-9, missed=0.75, false=0.0),
        DetPoint(1e-4, missed=0.5, false=0.5),
    ]


def test_det_needs_both_sides():
    assert det([], [0.1]) == det([0.1], []) == det([inf], [inf]) == []


p_values = st.lists(
    st.floats(0, 1) | st.just(inf) | st.integers(-300, 0).map(lambda e: 10.0**e), max_size=400
)


@given(p_values, p_values)
def test_det_is_monotone_and_counts(present, absent):
    points = det(present, absent)
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


def test_det_is_thinned_evenly_in_the_logarithm():
    spaced = np.geomspace(1e-9, 1, 5000)
    points = det(spaced, [1e-3])
    assert 150 < len(points) <= 200
    steps = np.diff(np.log10([point.max_p for point in points]))
    assert steps.min() > 0.5 * 9 / 199
    assert steps.max() < 1.5 * 9 / 199


def test_reliability_by_hand():
    found = reliability([1e-6, 5e-5, 0.01, 0.2, 0.9, inf])
    assert [p for p, _ in found] == list(NOMINAL) == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.3]
    assert [(share.k, share.n) for _, share in found] == [(k, 6) for k in (1, 1, 2, 2, 3, 3, 4)]
