"""The figures of a benchmark, each from plain numbers."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from afp.bench.scores import DetPoint, Proportion

NOMINAL = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.3)
_QUANTILE = 1.959963984540054  # of the normal distribution at 97.5 %
_DET_POINTS = 200


def wilson(k: int, n: int) -> Proportion:
    """Return a share with its 95 % score interval.

    Parameters
    ----------
    k, n : int
        So many of so many.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927); without correction for
    continuity, as R. G. Newcombe (1998) compares it as method 3.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no proportion")
    if n == 0:
        return Proportion(0, 0, math.nan, 0.0, 1.0, clusters=0)
    return Proportion(k, n, k / n, *_score_interval(k, n), clusters=n)


def clustered(groups: Sequence[tuple[int, int]]) -> Proportion:
    """Return a share with its 95 % interval where observations come in clusters.

    Wilson's interval, with as many independent observations as are worth the same: their number
    divided by the design effect, by which the variance of the share is larger than if all were
    independent. The effect is estimated from how far the clusters differ (ratio estimator), and
    is at least 1. Where few clusters hold the rarer outcome the estimate is too small more often
    than not; so it is averaged with the largest effect there can be, that of clusters which are
    all or nothing, which counts as one more cluster. That is all there is for k = 0 and k = n.

    Parameters
    ----------
    groups : sequence of (int, int)
        For each cluster k and n: so many of so many.

    References
    ----------
    L. Kish, "Survey sampling" (1965). C. Franco, R. J. A. Little, T. A. Louis, E. V. Slud,
    "Comparative study of confidence intervals for proportions in complex sample surveys",
    Journal of Survey Statistics and Methodology 7 (2019), who recommend Wilson's interval with
    the effective number, and show that the design effect estimated alone is too small.
    """
    groups = [(k, n) for k, n in groups if n]
    if not all(0 <= k <= n for k, n in groups):
        raise ValueError(f"a cluster of {groups} is no proportion")
    k, n = sum(k for k, _ in groups), sum(n for _, n in groups)
    if n == 0:
        return wilson(0, 0)
    shrunk = 1 / _design_effect(groups, k, n)
    low, high = _score_interval(k * shrunk, n * shrunk)
    return Proportion(k, n, k / n, low, high, clusters=len(groups))


def _design_effect(groups: Sequence[tuple[int, int]], k: int, n: int) -> float:
    most = sum(size**2 for _, size in groups) / n
    telling = min(sum(hits > 0 for hits, _ in groups), sum(hits < size for hits, size in groups))
    if telling == 0 or len(groups) == 1:
        return most
    share, m = k / n, len(groups)
    between = m / (m - 1) * math.fsum((hits - share * size) ** 2 for hits, size in groups) / n**2
    estimated = between * (n - 1) / (share * (1 - share))
    return (telling * min(max(estimated, 1.0), most) + most) / (telling + 1)


def _score_interval(k: float, n: float) -> tuple[float, float]:
    z2 = _QUANTILE**2
    centre = (k + z2 / 2) / (n + z2)
    half = _QUANTILE / (n + z2) * math.sqrt(k * (n - k) / n + z2 / 4)
    # At the ends, where rounding would leave a trace of what is zero.
    return 0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half


def pooled(proportions: Iterable[Proportion]) -> float:
    """Return the share of several together, NaN of nothing.

    It has no interval: cells of a grid distort the same excerpts, so their counts alone do not
    tell how far their sum is off.
    """
    counts = [(one.k, one.n) for one in proportions]
    n = sum(n for _, n in counts)
    return sum(k for k, _ in counts) / n if n else math.nan


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p that two methods are right equally often.

    Where only one of them is right it is either with probability 1/2: twice the smaller tail of
    that binomial distribution.

    Parameters
    ----------
    only_first, only_second : int
        Queries that only one of the methods answers rightly; or excerpts of which one of them
        answers more queries rightly, which makes it a sign test.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947); exact, as T. G. Dietterich, "Approximate statistical
    tests for comparing supervised classification learning algorithms" (1998), discusses it.
    """
    n, smaller = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    i = np.arange(1, smaller + 1)
    # Logarithms of the binomial coefficients n over 0, 1, … smaller.
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - i + 1) / i))])
    tail = math.fsum(np.exp(logs - logs[-1])) * math.exp(logs[-1] - n * math.log(2))
    return min(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p of several tests, so that one error among all is as rare as in one test.

    Parameters
    ----------
    p_values : sequence of float

    Returns
    -------
    list of float
        In the same order, none smaller than before and none above 1.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979).
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for done, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def mean_reciprocal_rank(ranks: Sequence[int | None]) -> float:
    """Return the mean of 1 / rank, NaN of nothing.

    Parameters
    ----------
    ranks : sequence of int or None
        Of the right answer, from 1; None where it is not among the answers, which counts as 0.

    References
    ----------
    E. M. Voorhees, "The TREC-8 question answering track report" (1999).
    """
    if not ranks:
        return math.nan
    return math.fsum(1 / rank for rank in ranks if rank is not None) / len(ranks)


def det(present_p: Sequence[float], absent_p: Sequence[float], *, max_p: float) -> list[DetPoint]:
    """Trace misses against false answers over all thresholds of `p_false`.

    Parameters
    ----------
    present_p : sequence of float
        For each present query, `p_false` of its first answer; inf where that is not the right
        track, or there is none.
    absent_p : sequence of float
        For each absent query, `p_false` of its first answer; inf where there is none.
    max_p : float
        The threshold in use.

    Returns
    -------
    list of DetPoint
        One for each threshold that changes something, rising; of more than 200 those that lie
        most evenly in log `p_false`, the first and the last included, and the largest that is no
        larger than the threshold in use. Empty where one of the sides has no queries.

    References
    ----------
    A. Martin et al., "The DET curve in assessment of detection task performance" (1997).
    """
    present, absent = np.sort(np.asarray(present_p)), np.sort(np.asarray(absent_p))
    if not present.size or not absent.size:
        return []
    thresholds = np.unique(np.concatenate([present, absent]))
    thresholds = _thinned(thresholds[np.isfinite(thresholds)], max_p)
    found = np.searchsorted(present, thresholds, side="right") / present.size
    false = np.searchsorted(absent, thresholds, side="right") / absent.size
    return [
        DetPoint(float(p), float(1 - right), float(wrong))
        for p, right, wrong in zip(thresholds, found, false, strict=True)
    ]


def _thinned(thresholds: npt.NDArray[np.float64], max_p: float) -> npt.NDArray[np.float64]:
    if thresholds.size <= _DET_POINTS:
        return thresholds
    logs = np.log(np.maximum(thresholds, np.finfo(np.float64).tiny))
    even = np.linspace(logs[0], logs[-1], _DET_POINTS - 1)
    after = np.clip(np.searchsorted(logs, even), 1, logs.size - 1)
    nearest = after - (even - logs[after - 1] < logs[after] - even)
    in_use = max(int(np.searchsorted(thresholds, max_p, side="right")) - 1, 0)
    thinned: npt.NDArray[np.float64] = thresholds[np.union1d(nearest, [in_use])]
    return thinned


def reliability(absent_p: Sequence[Sequence[float]]) -> list[tuple[float, Proportion]]:
    """Return, for nominal values of `p_false`, the share of absent queries at or below each.

    Parameters
    ----------
    absent_p : sequence of sequence of float
        For each absent excerpt, `p_false` of the first answer to each query made from it; inf
        where there is none.

    Returns
    -------
    list of (float, Proportion)
        For each of `NOMINAL`; honest where the share is no larger.
    """
    return [
        (p, clustered([(sum(value <= p for value in values), len(values)) for values in absent_p]))
        for p in NOMINAL
    ]
