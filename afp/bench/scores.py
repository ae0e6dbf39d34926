"""What rows come to: the figures of each cell, of each pair of backends, of absent queries."""

from dataclasses import dataclass

from afp.bench.rows import About

SIGNIFICANT = 0.05
"""p below which a difference between two backends is told."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its 95 % interval (Wilson 1927).

    Attributes
    ----------
    k, n : int
        So many of so many.
    share, low, high : float
        0 to 1; for n = 0 the share is NaN and the interval all there is.
    clusters : int
        Of what is independent in them: n, or the excerpts that the queries were made from.
    """

    k: int
    n: int
    share: float
    low: float
    high: float
    clusters: int


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
    excerpts, for_first, for_second : int
        Different excerpts that the queries were made from; and those of which one backend
        answers more queries rightly than the other. In a cell each query is of another excerpt.
    p : float
        Exact two-sided p that excerpts favour either backend equally often. In a cell that is
        McNemar's test; over all cells the sign test by excerpts, since the queries made from one
        excerpt are not independent.
    p_adjusted : float
        In a cell p after Holm, for there are as many tests as cells; else p.
    """

    first: str
    second: str
    condition: str
    seconds: float
    both: int
    only_first: int
    only_second: int
    neither: int
    excerpts: int
    for_first: int
    for_second: int
    p: float
    p_adjusted: float

    @property
    def is_significant(self) -> bool:
        """Whether a difference can be told."""
        return self.p_adjusted < SIGNIFICANT


@dataclass(frozen=True, slots=True)
class Absent:
    """Queries of one backend that no track answers.

    Intervals take into account that several queries are made from one excerpt.

    Attributes
    ----------
    backend : str
    of : str
        What `false` and `reliability` are about: ``music``, or where there is none ``all``, every
        kind together. Silence, tones and the like hardly ever get an answer, and would only
        dilute them.
    false : Proportion
        Queries with an accepted answer.
    by_kind : dict of str to Proportion
        The same by kind of query, whatever the kind.
    reliability : list of (float, Proportion)
        Nominal `p_false`, and the share of the queries whose first answer is at or below it:
        honest when that share is no larger.
    """

    backend: str
    of: str
    false: Proportion
    by_kind: dict[str, Proportion]
    reliability: list[tuple[float, Proportion]]

    @property
    def listed(self) -> dict[str, Proportion]:
        """False answers by kind, with what is told of first."""
        return self.by_kind if len(self.by_kind) == 1 else {self.of: self.false, **self.by_kind}


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
        Share of absent queries with an answer at it; of those that `Absent.of` names.
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
    excerpts : int
        Different excerpts of indexed tracks; every cell distorts the same.
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
    excerpts: int
    cells: list[Cell]
    pairs: list[Pair]
    absent: list[Absent]
    det: dict[str, list[DetPoint]]
    costs: list[Cost]
    errors: list[str]
