"""What rows come to: the figures of each cell, of each pair of backends, of absent queries."""

from dataclasses import dataclass

from afp.bench.rows import About


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its 95 % interval (Wilson 1927).

    Attributes
    ----------
    k, n : int
        So many of so many.
    share, low, high : float
        0 to 1; for n = 0 the share is NaN and the interval all there is.
    """

    k: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Cell:
    """Queries of indexed tracks, of one backend, condition and length.

    "Accepted" answers are those whose `p_false` is at most the threshold.

    Attributes
    ----------
    backend, condition, distortion : str
    severity : dict
    seconds : float
        What they have in common; see `afp.bench.rows.Row`.
    track, near, exact, close : Proportion
        Accepted first answers that name the right track; and there the place within ±500 ms,
        within ±250 ms (half a hop of Chang et al. 2021), within ±50 ms.
    wrong : Proportion
        Accepted first answers that name another track.
    any_track, any_near, any_exact, any_close : Proportion
        First answers whatever their `p_false`, as tools without a threshold count.
    recall : dict of int to Proportion
        Right track among the first 1, 5, 10 answers, whatever their `p_false`.
    mrr : float
        Mean reciprocal rank of the right track, 0 where it is not among the answers.
    offset_median_ms, offset_p95_ms : float or None
        Absolute error of the place, over accepted first answers with the right track.
    query_median_ms, query_p95_ms, query_cpu_ms : float
        Median and 95th percentile of the wall time, mean of the CPU time.
    """

    backend: str
    condition: str
    distortion: str
    severity: dict[str, float | str]
    seconds: float
    track: Proportion
    near: Proportion
    exact: Proportion
    close: Proportion
    wrong: Proportion
    any_track: Proportion
    any_near: Proportion
    any_exact: Proportion
    any_close: Proportion
    recall: dict[int, Proportion]
    mrr: float
    offset_median_ms: float | None
    offset_p95_ms: float | None
    query_median_ms: float
    query_p95_ms: float
    query_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two backends on the same queries of one condition and length.

    Attributes
    ----------
    first, second : str
        The backends.
    condition : str
    seconds : float
        None of both for all cells together: ``condition`` is then empty and ``seconds`` 0.
    both, only_first, only_second, neither : int
        Queries with the right track accepted by them.
    p : float
        Exact two-sided p of McNemar's test.
    """

    first: str
    second: str
    condition: str
    seconds: float
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float


@dataclass(frozen=True, slots=True)
class Absent:
    """Queries of one backend that no track answers.

    Attributes
    ----------
    backend : str
    false : Proportion
        Queries with an accepted answer.
    by_kind : dict of str to Proportion
        The same by kind of query.
    reliability : list of (float, Proportion)
        Nominal `p_false`, and the share of the queries whose first answer is at or below it:
        honest when that share is no larger.
    """

    backend: str
    false: Proportion
    by_kind: dict[str, Proportion]
    reliability: list[tuple[float, Proportion]]


@dataclass(frozen=True, slots=True)
class DetPoint:
    """One threshold: what is missed and what is false at it.

    Attributes
    ----------
    max_p : float
        Threshold of `p_false`.
    missed : float
        Share of present queries without the right track at it.
    false : float
        Share of absent queries with an answer at it.
    """

    max_p: float
    missed: float
    false: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What one backend takes.

    Attributes
    ----------
    backend : str
    bytes_per_second : float
        Of the store, per second of audio.
    index_x_realtime : float or None
        Seconds of audio in a CPU second; None where nothing was indexed.
    query_median_ms, query_p95_ms, query_cpu_ms : float
        Over all queries, absent ones too.
    """

    backend: str
    bytes_per_second: float
    index_x_realtime: float | None
    query_median_ms: float
    query_p95_ms: float
    query_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of a run.

    Attributes
    ----------
    about : About
    max_p : float
        The threshold that the figures were made with.
    cells : list of Cell
        In the order of the rows.
    pairs : list of Pair
        For each two backends: all cells together first, then each cell.
    absent : list of Absent
        One a backend; empty without absent queries.
    det : dict of str to list of DetPoint
        By backend, thresholds rising.
    costs : list of Cost
        One a backend.
    errors : list of str
        Queries that could not be answered, and why.
    """

    about: About
    max_p: float
    cells: list[Cell]
    pairs: list[Pair]
    absent: list[Absent]
    det: dict[str, list[DetPoint]]
    costs: list[Cost]
    errors: list[str]
