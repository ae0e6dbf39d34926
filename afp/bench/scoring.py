"""From rows to scores: a pure function, so that anyone can recompute them."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from afp.bench.metrics import (
    clustered,
    det,
    holm,
    mcnemar,
    mean_reciprocal_rank,
    reliability,
    wilson,
)
from afp.bench.rows import MUSIC, PRESENT, About, Answer, Row
from afp.bench.scores import Absent, Cell, Cost, DetPoint, Pair, Proportion, Scores
from afp.errors import InputError

NEAR, EXACT, CLOSE = 0.5, 0.25, 0.05  # seconds, either way
RECALL_AT = (1, 5, 10)
_ROUNDING = 1e-6  # seconds: differences of rounded times are not exact
_SAME_START = 1e-3  # seconds
_K = TypeVar("_K", bound=Hashable)


def score(about: About, rows: Sequence[Row], *, max_p: float | None = None) -> Scores:
    """Judge rows.

    A query that could not be answered counts as missed, and not at all where no track answers it.

    Parameters
    ----------
    about : About
        What the run was.
    rows : sequence of Row
        Of one run or of several that `afp.bench.rows.join` put together.
    max_p : float, optional
        Threshold of `p_false`, that of the run by default.

    Raises
    ------
    InputError
        When a query is there twice, two backends were asked different queries under the same
        number, or the run does not tell what a backend takes.

    Notes
    -----
    Queries made from one excerpt are not independent of each other: what is told of several
    cells together is tested by excerpts, or has intervals that take them as clusters.
    """
    threshold = about.max_p if max_p is None else max_p
    _require_distinct(rows)
    _require_common(rows)
    by_backend = _grouped(rows, lambda row: row.backend)
    present = [row for row in rows if row.kind == PRESENT]
    cells = _grouped(present, lambda row: (row.backend, row.condition, row.seconds))
    return Scores(
        about=about,
        max_p=threshold,
        excerpts=len({_excerpt(row) for row in present}),
        cells=[_cell(group, threshold) for group in cells.values()],
        pairs=[
            pair
            for first, second in combinations(by_backend, 2)
            for pair in _pairs(by_backend[first], by_backend[second], threshold)
        ],
        absent=[
            _absent(absent, threshold)
            for group in by_backend.values()
            if (absent := [row for row in group if row.kind != PRESENT and row.error is None])
        ],
        det={name: _det(group, threshold) for name, group in by_backend.items()},
        costs=[_cost(about, name, group) for name, group in by_backend.items()],
        errors=[f"{_name(row)}: {row.error}" for row in rows if row.error is not None],
    )


def as_json(scores: Scores) -> dict[str, Any]:
    """Return the scores for strict JSON: null in place of NaN."""
    values = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    return {name: _json(value) for name, value in values.items()}


def _json(value: Any) -> Any:
    if isinstance(value, About):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(name): _json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _grouped(rows: Iterable[Row], key: Callable[[Row], _K]) -> dict[_K, list[Row]]:
    groups: dict[_K, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _query(row: Row) -> tuple[str, float, str, int, int]:
    return row.condition, row.seconds, row.kind, row.number, row.seed


def _excerpt(row: Row) -> tuple[str, int, int]:
    return row.kind, row.number, row.seed


def _name(row: Row) -> str:
    return f"{row.backend}, {row.condition}, {row.seconds:g} s, {row.kind} {row.number}"


def _require_distinct(rows: Sequence[Row]) -> None:
    seen = set()
    for row in rows:
        key = (row.backend, *_query(row))
        if key in seen:
            raise InputError(
                f"a query is there twice: {_name(row)}, seed {row.seed}",
                hint="give each file of rows once",
            )
        seen.add(key)


def _require_common(rows: Sequence[Row]) -> None:
    """Make sure that backends were asked the same where they are compared query by query."""
    asked: dict[tuple[str, float, str, int, int], Row] = {}
    for row in rows:
        if row.kind != PRESENT:
            continue
        other = asked.setdefault(_query(row), row)
        differing = [
            name
            for name, differs in (
                ("track", (row.truth and row.truth.track) != (other.truth and other.truth.track)),
                ("source", row.source != other.source),
                ("start", abs(row.start - other.start) > _SAME_START),
                ("start in the track", abs(_start(row) - _start(other)) > _SAME_START),
                ("speed", (row.truth and row.truth.speed) != (other.truth and other.truth.speed)),
                ("what chance chose", row.drawn != other.drawn),
            )
            if differs
        ]
        if differing:
            raise InputError(
                f"{_name(row)} is another query than that of {other.backend}: they differ in "
                f"{', '.join(differing)}",
                hint="ask both backends in one run, or in runs on the same music with the same "
                "distortions, lengths and recordings; else score the runs apart",
            )


def _start(row: Row) -> float:
    return row.truth.start if row.truth else 0.0


def _answers(row: Row) -> tuple[Answer, ...]:
    return row.answers if row.error is None else ()


def _is_right(row: Row, answer: Answer) -> bool:
    return row.truth is not None and answer.track == row.truth.track


def _accepted(row: Row, max_p: float) -> Answer | None:
    """Return the first answer, unless its `p_false` is too large."""
    answers = _answers(row)
    return answers[0] if answers and answers[0].p_false <= max_p else None


def _finds(row: Row, max_p: float) -> bool:
    answer = _accepted(row, max_p)
    return answer is not None and _is_right(row, answer)


def _offset_errors(rows: Sequence[Row], max_p: float) -> list[float]:
    """Return how far off, in seconds, the accepted first answers with the right track are."""
    return [
        abs(answer.start - row.truth.start)
        for row in rows
        if (answer := _accepted(row, max_p)) and row.truth and answer.track == row.truth.track
    ]


def _rank(row: Row) -> int | None:
    ranks = (i for i, answer in enumerate(_answers(row), 1) if _is_right(row, answer))
    return next(ranks, None)


def _cell(rows: Sequence[Row], max_p: float) -> Cell:
    head, n = rows[0], len(rows)
    errors, any_errors = _offset_errors(rows, max_p), _offset_errors(rows, math.inf)
    n_accepted = sum(_accepted(row, max_p) is not None for row in rows)
    ranks = [_rank(row) for row in rows]

    def within(seconds: float, among: Sequence[float]) -> Proportion:
        return wilson(sum(error <= seconds + _ROUNDING for error in among), n)

    return Cell(
        backend=head.backend,
        condition=head.condition,
        distortion=head.distortion,
        severity=head.severity,
        seconds=head.seconds,
        track=wilson(len(errors), n),
        near=within(NEAR, errors),
        exact=within(EXACT, errors),
        close=within(CLOSE, errors),
        wrong=wilson(n_accepted - len(errors), n),
        any_track=wilson(len(any_errors), n),
        any_near=within(NEAR, any_errors),
        any_exact=within(EXACT, any_errors),
        any_close=within(CLOSE, any_errors),
        recall={
            at: wilson(sum(rank is not None and rank <= at for rank in ranks), n)
            for at in RECALL_AT
        },
        mrr=mean_reciprocal_rank(ranks),
        offset_median_ms=1000 * _quantile(errors, 0.5) if errors else None,
        offset_p95_ms=1000 * _quantile(errors, 0.95) if errors else None,
        **_times(rows),
    )


def _quantile(values: Sequence[float], q: float) -> float:
    return float(np.quantile(values, q)) if values else math.nan


def _times(rows: Sequence[Row]) -> dict[str, float]:
    """Sum up the times of the queries that were answered; NaN when none was."""
    done = [row for row in rows if row.error is None]
    wall = [row.query_ms for row in done]
    return {
        "query_median_ms": _quantile(wall, 0.5),
        "query_p95_ms": _quantile(wall, 0.95),
        "query_cpu_ms": math.fsum(row.query_cpu_ms for row in done) / len(done)
        if done
        else math.nan,
    }


def _pairs(first: Sequence[Row], second: Sequence[Row], max_p: float) -> list[Pair]:
    """Compare two backends on the present queries that both were asked."""
    theirs = {_query(row): row for row in second if row.kind == PRESENT}
    common = [(row, theirs[_query(row)]) for row in first if _query(row) in theirs]
    if not common:
        return []
    cells: dict[tuple[str, float], list[tuple[Row, Row]]] = {}
    for row, other in common:
        cells.setdefault((row.condition, row.seconds), []).append((row, other))
    compared = [_pair(*cell, asked, max_p) for cell, asked in cells.items()]
    adjusted = holm([pair.p for pair in compared])
    return [
        _pair("", 0.0, common, max_p),
        *(replace(pair, p_adjusted=p) for pair, p in zip(compared, adjusted, strict=True)),
    ]


def _pair(condition: str, seconds: float, asked: list[tuple[Row, Row]], max_p: float) -> Pair:
    outcomes = [(_finds(row, max_p), _finds(other, max_p)) for row, other in asked]
    margins: dict[tuple[str, int, int], int] = {}  # how many more the first answers rightly
    for (row, _), (ours, theirs) in zip(asked, outcomes, strict=True):
        margins[_excerpt(row)] = margins.get(_excerpt(row), 0) + ours - theirs
    for_first = sum(margin > 0 for margin in margins.values())
    for_second = sum(margin < 0 for margin in margins.values())
    p = mcnemar(for_first, for_second)
    return Pair(
        first=asked[0][0].backend,
        second=asked[0][1].backend,
        condition=condition,
        seconds=seconds,
        both=outcomes.count((True, True)),
        only_first=outcomes.count((True, False)),
        only_second=outcomes.count((False, True)),
        neither=outcomes.count((False, False)),
        excerpts=len(margins),
        for_first=for_first,
        for_second=for_second,
        p=p,
        p_adjusted=p,
    )


def _told_of(absent: Sequence[Row]) -> tuple[str, Sequence[Row]]:
    """Choose the absent queries that false answers are told of; see `Absent.of`."""
    music = [row for row in absent if row.kind == MUSIC]
    return (MUSIC, music) if music else ("all", absent)


def _first_p(row: Row) -> float:
    answers = _answers(row)
    return answers[0].p_false if answers else math.inf


def _absent(rows: Sequence[Row], max_p: float) -> Absent:
    def false(among: Sequence[Row]) -> Proportion:
        return clustered(
            [
                (sum(_accepted(row, max_p) is not None for row in queries), len(queries))
                for queries in _grouped(among, _excerpt).values()
            ]
        )

    of, chosen = _told_of(rows)
    return Absent(
        backend=rows[0].backend,
        of=of,
        false=false(chosen),
        by_kind={k: false(group) for k, group in _grouped(rows, lambda row: row.kind).items()},
        reliability=reliability(
            [[_first_p(row) for row in group] for group in _grouped(chosen, _excerpt).values()]
        ),
    )


def _det(rows: Sequence[Row], max_p: float) -> list[DetPoint]:
    present = [row for row in rows if row.kind == PRESENT]
    _, absent = _told_of([row for row in rows if row.kind != PRESENT and row.error is None])
    return det(
        [_first_p(row) if _finds(row, math.inf) else math.inf for row in present],
        [_first_p(row) for row in absent],
        max_p=max_p,
    )


def _cost(about: About, backend: str, rows: Sequence[Row]) -> Cost:
    facts = about.backends.get(backend)
    if facts is None:
        raise InputError(
            f"there are rows of {backend}, but the run tells only of {', '.join(about.backends)}",
            hint="keep the first line of a file of rows as `afp bench` wrote it",
        )
    indexing = facts["index_cpu_seconds"]
    return Cost(
        backend=backend,
        bytes_per_second=facts["bytes_per_second"],
        index_x_realtime=about.seconds / indexing if indexing else None,
        **_times(rows),
    )
