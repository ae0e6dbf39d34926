"""The figures of a benchmark, each from plain numbers."""

import math
from collections.abc import Sequence

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
        return Proportion(0, 0, math.nan, 0.0, 1.0)
    z2 = _QUANTILE**2
    centre = (k + z2 / 2) / (n + z2)
    half = _QUANTILE / (n + z2) * math.sqrt(k * (n - k) / n + z2 / 4)
    # At the ends, where rounding would leave a trace of what is zero.
    low = 0.0 if k == 0 else centre - half
    high = 1.0 if k == n else centre + half
    return Proportion(k, n, k / n, low, high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p that two methods are right equally often.

    Where only one of them is right it is either with probability 1/2: twice the smaller tail of
    that binomial distribution.

    Parameters
    ----------
    only_first, only_second : int
        Queries that only one of the methods answers rightly.

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


def det(present_p: Sequence[float], absent_p: Sequence[float]) -> list[DetPoint]:
    """Trace misses against false answers over all thresholds of `p_false`.

    Parameters
    ----------
    present_p : sequence of float
        For each present query, `p_false` of its first answer; inf where that is not the right
        track, or there is none.
    absent_p : sequence of float
        For each absent query, `p_false` of its first answer; inf where there is none.

    Returns
    -------
    list of DetPoint
        One for each threshold that changes something, rising; of more than 200 those that lie
        most evenly in log `p_false`, the first and the last included. Empty where one of the
        sides has no queries.

    References
    ----------
    A. Martin et al., "The DET curve in assessment of detection task performance" (1997).
    """
    present, absent = np.sort(np.asarray(present_p)), np.sort(np.asarray(absent_p))
    if not present.size or not absent.size:
        return []
    thresholds = np.unique(np.concatenate([present, absent]))
    thresholds = _thinned(thresholds[np.isfinite(thresholds)])
    found = np.searchsorted(present, thresholds, side="right") / present.size
    false = np.searchsorted(absent, thresholds, side="right") / absent.size
    return [
        DetPoint(float(p), float(1 - right), float(wrong))
        for p, right, wrong in zip(thresholds, found, false, strict=True)
    ]


def _thinned(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if thresholds.size <= _DET_POINTS:
        return thresholds
    logs = np.log(np.maximum(thresholds, np.finfo(np.float64).tiny))
    even = np.linspace(logs[0], logs[-1], _DET_POINTS)
    after = np.clip(np.searchsorted(logs, even), 1, logs.size - 1)
    nearest = after - (even - logs[after - 1] < logs[after] - even)
    return thresholds[np.unique(nearest)]


def reliability(absent_p: Sequence[float]) -> list[tuple[float, Proportion]]:
    """Return, for nominal values of `p_false`, the share of absent queries at or below each.

    Parameters
    ----------
    absent_p : sequence of float
        For each absent query, `p_false` of its first answer; inf where there is none.

    Returns
    -------
    list of (float, Proportion)
        For each of `NOMINAL`; honest where the share is no larger.
    """
    values = np.asarray(absent_p)
    return [(p, wilson(int(np.sum(values <= p)), values.size)) for p in NOMINAL]
