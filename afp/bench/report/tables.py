"""Tables of a report, as HTML."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from afp.bench.metrics import pooled
from afp.bench.report import svg
from afp.bench.report.charts import PALETTE, colours_of
from afp.bench.report.wording import interval, number, percent, printable
from afp.bench.rows import MUSIC
from afp.bench.scores import Cell, Pair, Proportion, Scores

NONE = "–"
PLACES = ("±500<br>ms", "±250<br>ms", "±50<br>ms")


def escaped(value: object) -> str:
    """Write anything as text that is no markup, without control characters."""
    return escape(printable(str(value)))


def several(n: int, one: str, many: str = "") -> str:
    """Write a number of things: ``1 track``, ``1,200 tracks``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _figure(value: float | None, digits: int = 0) -> str:
    if value is None or math.isnan(value):
        return NONE
    return f"{value:,.{digits}f}"


def _of(of: Proportion, name: str = "") -> str:
    """Return a table cell with a share in percent; its makings and interval as a tooltip."""
    kind = f' class="{name}"' if name else ""
    return f'<td{kind} title="{of.k} of {of.n}: {interval(of)} %">{percent(of.share)}</td>'


def _td(text: str, name: str = "") -> str:
    return f'<td class="{name}">{text}</td>' if name else f"<td>{text}</td>"


def _swatch(backend: str, colours: dict[str, int]) -> str:
    colour = colours.get(backend, 0)
    shape = svg.SHAPES[colour % len(svg.SHAPES)]
    return (
        f'<svg class="swatch c{colour % len(PALETTE)}" viewBox="-6 -6 12 12" aria-hidden="true">'
        f'<path class="mark" d="{shape}"/></svg>{escaped(backend)}'
    )


def _table(head: str, bodies: Iterable[str], name: str = "") -> str:
    body = "\n".join(f"<tbody>{rows}</tbody>" for rows in bodies)
    return (
        f'<div class="scroll" tabindex="0"><table class="{name}"><thead>{head}</thead>\n{body}'
        "</table></div>\n"
    )


def _head(*titles: str) -> str:
    return "<tr>" + "".join(f'<th scope="col">{title}</th>' for title in titles) + "</tr>"


def summary(scores: Scores) -> str:
    """Write one line a backend: what it finds in all cells together, and what it takes."""
    colours = colours_of(scores)
    costs = {cost.backend: cost for cost in scores.costs}
    absent = {one.backend: one for one in scores.absent}
    figures: dict[str, list[tuple[float, str]]] = {}  # what counts as best, and what is shown
    for name in colours:
        cells = [cell for cell in scores.cells if cell.backend == name]
        right, wrong = pooled(c.track for c in cells), pooled(c.wrong for c in cells)
        row = [(-right, percent(right)), (wrong, percent(wrong))]
        if name in absent:
            false = absent[name].false
            span = f"{percent(false.share)} <small>{interval(false)}</small>"
            row.append((false.share, span))
        else:
            row.append((math.nan, NONE))
        if name in costs:
            cost = costs[name]
            speed = cost.index_x_realtime
            row += [
                (cost.bytes_per_second, _figure(cost.bytes_per_second)),
                (math.nan if speed is None else -speed, _figure(speed)),
                (cost.query_median_ms, _figure(cost.query_median_ms, 1)),
                (cost.query_p95_ms, _figure(cost.query_p95_ms, 1)),
                (cost.query_cpu_ms, _figure(cost.query_cpu_ms, 1)),
            ]
        else:
            row += [(math.nan, NONE)] * 5
        figures[name] = row
    best = []
    for column in zip(*figures.values(), strict=True):
        values = {value for value, _ in column if not math.isnan(value)}
        best.append(min(values) if len(values) > 1 else math.nan)
    rows = ""
    for name, row in figures.items():
        marked = (
            _td(shown, "best" if value == top else "")
            for (value, shown), top in zip(row, best, strict=True)
        )
        rows += f'<tr><th scope="row">{_swatch(name, colours)}</th>{"".join(marked)}</tr>\n'
    head = _head(
        "Backend",
        "Right,<br>%",
        "Wrong,<br>%",
        f"False answers{_to(scores)},<br>% <small>95 % interval</small>",
        "Store,<br>bytes/s",
        "Index,<br>× real time",
        "Query,<br>ms",
        "95 % of queries<br>within, ms",
        "CPU a query,<br>ms",
    )
    return _table(head, [rows], "summary") + _load(scores)


def _to(scores: Scores) -> str:
    return " to music" if {one.of for one in scores.absent} == {MUSIC} else ""


def _load(scores: Scores) -> str:
    """Write what the times were measured under, where the run tells it."""
    processes = scores.about.machine.get("processes")
    if not isinstance(processes, int):
        return ""
    return (
        "<p><small>Times of queries were measured while "
        f"{several(processes, 'process', 'processes')} worked side by side.</small></p>\n"
    )


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 or p == 0 else f"{p:.0e}".replace("e-0", "e-")


def verdicts(scores: Scores) -> str:
    """Write one sentence for each two backends."""
    said = []
    for pair in scores.pairs:
        if pair.condition:
            continue
        first, second = escaped(pair.first), escaped(pair.second)
        if not pair.is_significant:
            who = f"Between <b>{first}</b> and <b>{second}</b> no difference can be told"
        elif pair.for_first > pair.for_second:
            who = f"<b>{first}</b> finds more than <b>{second}</b>"
        else:
            who = f"<b>{second}</b> finds more than <b>{first}</b>"
        said.append(
            f"<li>{who}: only {first} is right on {several(pair.only_first, 'query', 'queries')}, "
            f"only {second} on {pair.only_second:,}, both on {pair.both:,}, neither on "
            f"{pair.neither:,}. Of {several(pair.excerpts, 'excerpt')}, {pair.for_first:,} "
            f"favour {first} and {pair.for_second:,} {second} (exact sign test by excerpts, "
            f"p = {_p(pair.p)}).</li>"
        )
    return f'<ul class="verdicts">{"".join(said)}</ul>\n' if said else ""


def cells(scores: Scores) -> str:
    """Write every figure of every condition, length and backend."""
    if not scores.cells:
        return "<p>No query of an indexed track was asked.</p>"
    colours = colours_of(scores)
    ranks = sorted({k for cell in scores.cells for k in cell.recall if k > 1})
    named = len(colours) > 1  # one backend needs no column
    group = '<th scope="colgroup" colspan="{}">{}</th>'
    head = (
        f'<tr><td colspan="{3 + named}"></td>'
        + group.format(6, "accepted answers, %")
        + group.format(5 + len(ranks), "first answer whatever its p_false, %")
        + group.format(2, "place off by, ms")
        + group.format(2, "time, ms")
        + "</tr>"
        + _head(
            "Condition",
            "s",
            *["Backend"] * named,
            *("Queries", "right", "95 %<br>interval", "wrong", *PLACES),
            *("right", *PLACES),
            *(f"top<br>{k}" for k in ranks),
            *("MRR", "median", "95 %", "median", "95 %"),
        )
    )
    order = {name: i for i, name in enumerate(dict.fromkeys(c.condition for c in scores.cells))}
    cells = sorted(scores.cells, key=lambda c: (order[c.condition], c.seconds, colours[c.backend]))
    bodies = []
    for condition, found in groupby(cells, key=lambda cell: cell.condition):
        group_cells = list(found)
        rows = ""
        for i, cell in enumerate(group_cells):
            first = f'<th scope="rowgroup" rowspan="{len(group_cells)}">{escaped(condition)}</th>'
            name = f'<td class="backend">{_swatch(cell.backend, colours)}</td>' * named
            rows += (
                f"<tr>{first * (i == 0)}<td>{number(cell.seconds)}</td>{name}"
                f"<td>{cell.track.n}</td>{_cell(cell, colours[cell.backend], ranks)}</tr>\n"
            )
        bodies.append(rows)
    return _table(head, bodies, "cells")


def _cell(cell: Cell, colour: int, ranks: Sequence[int]) -> str:
    share = 0.0 if math.isnan(cell.track.share) else 100 * cell.track.share
    right = (
        f'<td class="right c{colour % len(PALETTE)}" style="--share:{share:.1f}%" '
        f'title="{cell.track.k} of {cell.track.n}">{percent(cell.track.share)}</td>'
    )
    recall = (_of(cell.recall[k]) if k in cell.recall else _td(NONE) for k in ranks)
    return (
        right
        + _td(interval(cell.track), "interval")
        + "".join(map(_of, (cell.wrong, cell.near, cell.exact, cell.close)))
        + _of(cell.any_track, "first")
        + "".join(map(_of, (cell.any_near, cell.any_exact, cell.any_close)))
        + "".join(recall)
        + _td(_figure(cell.mrr, 3))
        + _td(_figure(cell.offset_median_ms, 1), "first")
        + _td(_figure(cell.offset_p95_ms, 1))
        + _td(_figure(cell.query_median_ms, 1), "first")
        + _td(_figure(cell.query_p95_ms, 1))
    )


def absent(scores: Scores) -> str:
    """Write the false answers by kind of query, and what `p_false` promised."""
    if not scores.absent:
        return ""
    colours = colours_of(scores)

    def row(name: str, of: Proportion) -> str:
        return (
            f'<td class="backend">{name}</td><td>{of.clusters}</td><td>{of.n}</td><td>{of.k}</td>'
            f"<td>{percent(of.share)}</td><td>{interval(of)}</td></tr>\n"
        )

    bodies = []
    for one in scores.absent:
        kinds = one.listed.items()
        head = (
            f'<tr><th scope="rowgroup" rowspan="{len(kinds)}">{_swatch(one.backend, colours)}</th>'
        )
        bodies.append(head + "<tr>".join(row(escaped(kind), of) for kind, of in kinds))
    kinds_table = _table(
        _head("Backend", "What the query is", "Excerpts", "Queries", "False", "%", "95 % interval"),
        bodies,
    )
    promised = sorted({p for one in scores.absent for p, _ in one.reliability})
    if not promised:
        return kinds_table
    realised = [dict(one.reliability) for one in scores.absent]
    rows = "".join(
        f'<tr><th scope="row">{p:.3g}</th>'
        + "".join(
            f"<td>{percent(known[p].share)}</td><td>{interval(known[p])}</td>"
            if p in known
            else _td(NONE) * 2
            for known in realised
        )
        + "</tr>\n"
        for p in promised
    )
    titles = [
        title for one in scores.absent for title in (f"{escaped(one.backend)}, %", "95 % interval")
    ]
    return kinds_table + _table(_head("p_false at most", *titles), [rows])


def pairs(scores: Scores) -> str:
    """Write who is right alone, for each two backends, condition and length."""

    def row(pair: Pair) -> str:
        length = f"{number(pair.seconds)} s" if pair.condition else ""
        strong = ' class="best"' if pair.is_significant else ""
        return (
            f'<tr><th scope="row">{escaped(pair.condition or "all together")}</th><td>{length}</td>'
            f"<td>{pair.both}</td><td>{pair.only_first}</td><td>{pair.only_second}</td>"
            f"<td>{pair.neither}</td><td>{pair.for_first} : {pair.for_second}</td>"
            f"<td{strong}>{_p(pair.p_adjusted)}</td></tr>\n"
        )

    tables = []
    for (first, second), pairs in groupby(scores.pairs, key=lambda p: (p.first, p.second)):
        head = _head(
            "Condition",
            "Length",
            "both right",
            f"only {escaped(first)}",
            f"only {escaped(second)}",
            "neither",
            "excerpts<br>for each",
            "p (Holm)",
        )
        tables.append(_table(head, ["".join(map(row, pairs))]))
    return "".join(tables)
