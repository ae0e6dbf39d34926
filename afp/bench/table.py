"""Scores as text, for tables on a terminal."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from afp.bench.metrics import pooled
from afp.bench.scores import SIGNIFICANT, Cell, Pair, Scores

BLOCKS = "▁▂▃▄▅▆▇█"
MOST_ERRORS = 10
MOST_LENGTHS_WITH_INTERVALS = 3  # more columns do not fit a terminal


@dataclass(frozen=True, slots=True)
class Section:
    """A table with a title.

    Attributes
    ----------
    title : str
    columns : tuple of str
        Headings, each different.
    rows : list of tuple of str
        As many texts as there are columns.
    right : tuple of str
        Columns of numbers, to be aligned right and never broken.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    right: tuple[str, ...] = ()


def sections(scores: Scores) -> list[Section]:
    """Lay scores out: what is found, where, what is false, what it takes, who is better."""
    candidates = [
        _found(scores),
        _overall(scores),
        _absent(scores),
        _costs(scores),
        _pairs(scores),
        _errors(scores),
    ]
    return [section for section in candidates if section.rows]


def bar(share: float) -> str:
    """Return one of eight blocks for a share of 0 to 1."""
    return BLOCKS[round(share * (len(BLOCKS) - 1))]


def _backends(scores: Scores) -> list[str]:
    return [cost.backend for cost in scores.costs]


def _found(scores: Scores) -> Section:
    """One line a condition and backend, one column a length: backends below each other."""
    cells = {(cell.condition, cell.backend, cell.seconds): cell for cell in scores.cells}
    lengths = sorted({cell.seconds for cell in scores.cells})
    backends = _backends(scores)
    told = len(lengths) <= MOST_LENGTHS_WITH_INTERVALS
    rows = []
    for condition in dict.fromkeys(cell.condition for cell in scores.cells):
        label = condition
        for backend in backends:
            line = [cells.get((condition, backend, seconds)) for seconds in lengths]
            if any(line):
                rows.append((label, backend, *(_cell(cell, interval=told) for cell in line)))
                label = ""
    return _without_lone_backend(
        Section(
            f"Right track, % of {_queries(scores.cells)} a cell, 95 % intervals"
            f"{'' if told else _widest(scores.cells)}; p_false ≤ {scores.max_p:g}",
            ("condition", "backend", *(f"{seconds:g} s" for seconds in lengths)),
            rows,
            tuple(f"{seconds:g} s" for seconds in lengths),
        ),
        backends,
    )


def _cell(cell: Cell | None, *, interval: bool) -> str:
    if cell is None:
        return ""
    share = f"{100 * cell.track.share:.1f} {bar(cell.track.share)}"
    ends = f"{100 * cell.track.low:.0f}–{100 * cell.track.high:.0f}"
    return f"{share} {ends:>6}" if interval else share


def _queries(cells: Iterable[Cell]) -> str:
    counts = {cell.track.n for cell in cells} or {0}
    low, high = min(counts), max(counts)
    return f"{low} queries" if low == high else f"{low} to {high} queries"


def _widest(cells: Iterable[Cell]) -> str:
    widths = [cell.track.high - cell.track.low for cell in cells] or [1.0]
    return f" up to {100 * max(widths):.0f} points wide"


def _overall(scores: Scores) -> Section:
    """All conditions of a length together."""
    columns = ("right", "±500 ms", "±250 ms", "±50 ms", "wrong", "any p_false")
    groups: dict[tuple[str, float], list[Cell]] = {}
    for backend in _backends(scores):
        for cell in sorted(scores.cells, key=lambda cell: cell.seconds):
            if cell.backend == backend:
                groups.setdefault((backend, cell.seconds), []).append(cell)
    rows = []
    for (backend, seconds), cells in groups.items():
        shares = (
            [getattr(cell, name) for cell in cells]
            for name in ("track", "near", "exact", "close", "wrong", "any_track")
        )
        rows.append((backend, f"{seconds:g}", *(_percent(pooled(share)) for share in shares)))
    return _without_lone_backend(
        Section(
            f"All conditions together, of {scores.excerpts} excerpts,"
            " %: right track, right place in it, wrong track",
            ("backend", "seconds", *columns),
            rows,
            ("seconds", *columns),
        ),
        _backends(scores),
    )


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}"


def _absent(scores: Scores) -> Section:
    rows: list[tuple[str, ...]] = []
    for absent in scores.absent:
        label = absent.backend
        for kind, false in absent.listed.items():
            share = f"{100 * false.share:.2f}"
            interval = f"{100 * false.low:.2f}–{100 * false.high:.2f}"
            numbers = (f"{false.k} of {false.n}", f"{false.clusters}", share, interval)
            rows.append((label, kind, *numbers))
            label = ""
    right = ("false answers", "excerpts", "%", "95 % interval")
    return _without_lone_backend(
        Section(
            f"False answers to what is not in the store, p_false ≤ {scores.max_p:g}",
            ("backend", "kind", *right),
            rows,
            right,
        ),
        _backends(scores),
    )


def _costs(scores: Scores) -> Section:
    right = ("bytes/s", "× realtime a CPU s", "query ms", "95th %ile", "CPU ms")
    rows = [
        (
            cost.backend,
            f"{cost.bytes_per_second:.0f}",
            "" if cost.index_x_realtime is None else f"{cost.index_x_realtime:.0f}",
            *(
                "" if math.isnan(ms) else f"{ms:.1f}"
                for ms in (cost.query_median_ms, cost.query_p95_ms, cost.query_cpu_ms)
            ),
        )
        for cost in scores.costs
    ]
    processes = scores.about.machine.get("processes")
    beside = f"; times with {processes} processes side by side" if processes else ""
    return Section(f"What it takes{beside}", ("backend", *right), rows, right)


def _pairs(scores: Scores) -> Section:
    """Compare backends over everything, by excerpts, and in the cells where they differ."""
    right = ("seconds", "only first", "only second", "p")
    shown = [pair for pair in scores.pairs if not pair.condition or pair.is_significant]
    return Section(
        "Right by one backend alone: of all, p by excerpts; conditions with"
        f" p < {SIGNIFICANT:g} (McNemar, Holm)",
        ("first", "second", "condition", *right),
        [_pair(pair) for pair in shown],
        right,
    )


def _pair(pair: Pair) -> tuple[str, ...]:
    everything = f"all, {pair.excerpts} excerpts"
    names = ("", "", pair.condition) if pair.condition else (pair.first, pair.second, everything)
    seconds = f"{pair.seconds:g}" if pair.condition else ""
    return (*names, seconds, f"{pair.only_first}", f"{pair.only_second}", f"{pair.p_adjusted:.2g}")


def _errors(scores: Scores) -> Section:
    n = len(scores.errors)
    rows: list[tuple[str, ...]] = [(error,) for error in scores.errors[:MOST_ERRORS]]
    if n > MOST_ERRORS:
        rows.append((f"… and {n - MOST_ERRORS} more",))
    noun = "query" if n == 1 else "queries"
    return Section(f"{n} {noun} could not be answered", ("query and reason",), rows)


def _without_lone_backend(section: Section, backends: Sequence[str]) -> Section:
    """Leave out the column of backends where there is only one, which the title then tells."""
    if len(backends) != 1:
        return section
    at = section.columns.index("backend")
    return Section(
        f"{backends[0]}: {section.title[0].lower()}{section.title[1:]}",
        section.columns[:at] + section.columns[at + 1 :],
        [row[:at] + row[at + 1 :] for row in section.rows],
        section.right,
    )
