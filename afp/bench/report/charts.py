"""What the pictures of a benchmark show: data only, for whatever draws them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from afp.bench.report.axes import SHARES, Axis, Scale, written_percent, written_power
from afp.bench.report.severities import severity_label
from afp.bench.report.wording import number, percent, printable, told
from afp.bench.rows import MUSIC
from afp.bench.scores import Absent, Cell, DetPoint, Scores

# Light and dark variants, from Okabe & Ito (2008): told apart by the colour-blind.
PALETTE = (
    ("#0072b2", "#5cb3f0"),
    ("#d55e00", "#ff8a4c"),
    ("#009e73", "#2fcb9f"),
    ("#b8558f", "#ea9fcb"),
    ("#b07d00", "#f0c04a"),
    ("#33434f", "#c9d3da"),
)
RIGHT = "right track, %"
STEP = 0.012  # between the marks of two series at the same place
CROWDED = 3.2  # series from which on steps are smaller


@dataclass(frozen=True, slots=True)
class Point:
    """A mark, placed by shares of the plot's width and height.

    Attributes
    ----------
    x, y : float
        0 is left and bottom, 1 right and top.
    low, high : float
        The interval along y, or along x in a chart that lies sideways.
    text : str
        What it stands for, with the exact figures.
    main : bool
        Whether to make it stand out.
    """

    x: float
    y: float
    low: float
    high: float
    text: str
    main: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour.

    Attributes
    ----------
    label : str
    colour : int
        Which of `PALETTE`, in turn.
    points : tuple of Point
    """

    label: str
    colour: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Panels side by side that share their axes and colours.

    Attributes
    ----------
    name : str
        Letters, digits and hyphens, for a file name.
    title, caption : str
    x, y : Axis
    panels : tuple of (str, tuple of Series)
        Each with its title.
    joined : bool
        Whether lines join the points of a series.
    sideways : bool
        Whether intervals lie along x.
    guide : tuple of (float, float)
        A line to compare with; empty for none.
    guide_label : str
    """

    name: str
    title: str
    caption: str
    x: Axis
    y: Axis
    panels: tuple[tuple[str, tuple[Series, ...]], ...]
    joined: bool = True
    sideways: bool = False
    guide: tuple[tuple[float, float], ...] = ()
    guide_label: str = ""

    def legend(self) -> dict[str, int]:
        """Return the colour of each label."""
        return {series.label: series.colour for _, panel in self.panels for series in panel}


def charts(scores: Scores) -> list[Chart]:
    """Choose the charts that a run has data for.

    Returns
    -------
    list of Chart
        All conditions at a glance; the right track against each severity that was varied, and
        against length; the DET curve; the reliability of `p_false`.
    """
    colours = colours_of(scores)
    distortions = dict.fromkeys(cell.distortion for cell in scores.cells)
    found = [
        _glance(scores.cells, colours),
        *(
            _severity(name, [cell for cell in scores.cells if cell.distortion == name], colours)
            for name in distortions
        ),
        _length(scores.cells, colours),
        _det(scores, colours),
        _reliability(scores.absent, colours),
    ]
    return [chart for chart in found if chart]


def colours_of(scores: Scores) -> dict[str, int]:
    """Return the colour of each backend, which is the same in every chart."""
    names = [*scores.about.backends, *(cell.backend for cell in scores.cells)]
    names += [absent.backend for absent in scores.absent]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "other"


def _point(cell: Cell, x: float) -> Point:
    text = printable(f"{cell.backend}, {cell.condition}, {number(cell.seconds)} s: ")
    track = cell.track
    return Point(x, track.share, track.low, track.high, text + told(track))


def _apart(series: Sequence[Series], step: float = STEP) -> tuple[Series, ...]:
    """Move the series of a panel along x, so that none covers another."""
    by = step * min(1.0, CROWDED / max(len(series), 1))
    return tuple(
        replace(
            one,
            points=tuple(
                replace(point, x=point.x + by * (i - (len(series) - 1) / 2)) for point in one.points
            ),
        )
        for i, one in enumerate(series)
    )


def _panels(
    cells: Sequence[Cell], colours: dict[str, int], place: Callable[[Cell], float], step: float
) -> list[tuple[str, tuple[Series, ...]]]:
    """Make a panel for each length; for a single backend, one with a series for each length."""
    cells = [cell for cell in cells if cell.track.n]
    lengths = sorted({cell.seconds for cell in cells})
    backends = [name for name in colours if any(cell.backend == name for cell in cells)]

    def points(backend: str, seconds: float) -> tuple[Point, ...]:
        of = [cell for cell in cells if (cell.backend, cell.seconds) == (backend, seconds)]
        return tuple(_point(cell, place(cell)) for cell in sorted(of, key=place))

    def series(name: str, colour: int, backend: str, seconds: float) -> list[Series]:
        found = points(backend, seconds)
        return [Series(printable(name), colour, found)] if found else []

    if len(backends) == 1 and len(lengths) > 1:
        every = [
            one
            for i, seconds in enumerate(lengths)
            for one in series(f"{number(seconds)} s", i, backends[0], seconds)
        ]
        return [("", _apart(every, step))]
    panels = []
    for seconds in lengths:
        every = [one for name in backends for one in series(name, colours[name], name, seconds)]
        panels.append((f"{number(seconds)} s", _apart(every, step)))
    return panels


def _glance(cells: Sequence[Cell], colours: dict[str, int]) -> Chart | None:
    rows = list(dict.fromkeys(cell.condition for cell in cells if cell.track.n))
    if not rows:
        return None
    middle = {condition: 1 - (i + 0.5) / len(rows) for i, condition in enumerate(rows)}
    panels = _panels(cells, colours, lambda cell: middle[cell.condition], -0.25 / len(rows))
    # Conditions stand below one another: what was made upright is laid on its side.
    turned = tuple(
        (
            title,
            tuple(
                replace(one, points=tuple(replace(p, x=p.y, y=p.x) for p in one.points))
                for one in panel
            ),
        )
        for title, panel in panels
    )
    return Chart(
        name="conditions",
        title="Every condition",
        caption="Share of queries whose accepted answer is the right track, with 95 % intervals.",
        x=Axis(RIGHT, SHARES),
        y=Axis("", tuple((middle[condition], printable(condition)) for condition in rows)),
        panels=turned,
        joined=False,
        sideways=True,
    )


def _severity(distortion: str, cells: Sequence[Cell], colours: dict[str, int]) -> Chart | None:
    """Draw against the number that varies most; other severities each get panels of their own."""
    values: dict[str, set[float]] = {}
    for cell in cells:
        for key, value in cell.severity.items():
            if not isinstance(value, str) and cell.track.n:
                values.setdefault(key, set()).add(value)
    axis = max(values, key=lambda key: len(values[key]), default="")
    if not axis or len(values[axis]) < 2:
        return None
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if not isinstance(cell.severity.get(axis, ""), str):
            rest = (f"{key}={_value(v)}" for key, v in cell.severity.items() if key != axis)
            groups.setdefault(", ".join(rest), []).append(cell)
    scale = Scale.around(values[axis])
    panels = [
        (printable(", ".join(filter(None, (rest, title)))), panel)
        for rest, group in groups.items()
        for title, panel in _panels(
            group, colours, lambda cell: scale(float(cell.severity[axis])), STEP
        )
    ]
    return Chart(
        name=f"severity-{_slug(distortion)}",
        title=printable(f"{distortion[:1].upper()}{distortion[1:]}"),
        caption="Right track against severity, with 95 % intervals.",
        x=Axis(severity_label(distortion, axis), scale.at(values[axis])),
        y=Axis(RIGHT, SHARES),
        panels=tuple(panels),
    )


def _value(value: float | str) -> str:
    return value if isinstance(value, str) else number(value)


def _length(cells: Sequence[Cell], colours: dict[str, int]) -> Chart | None:
    cells = [cell for cell in cells if cell.track.n]
    lengths = {cell.seconds for cell in cells}
    if len(lengths) < 2:
        return None
    scale = Scale.around(lengths)
    panels = []
    for condition in dict.fromkeys(cell.condition for cell in cells):
        every = []
        for backend, colour in colours.items():
            of = [c for c in cells if (c.backend, c.condition) == (backend, condition)]
            of.sort(key=lambda cell: cell.seconds)
            if of:
                points = tuple(_point(cell, scale(cell.seconds)) for cell in of)
                every.append(Series(printable(backend), colour, points))
        panels.append((printable(condition), _apart(every)))
    return Chart(
        name="length",
        title="Length of the query",
        caption="Right track against length in each condition, with 95 % intervals.",
        x=Axis("length, s", scale.at(lengths)),
        y=Axis(RIGHT, SHARES),
        panels=tuple(panels),
    )


def _det(scores: Scores, colours: dict[str, int]) -> Chart | None:
    curves = {name: _distinct(curve, scores.max_p) for name, curve in scores.det.items() if curve}
    if not curves or not scores.absent or not scores.cells:
        return None
    every = [point for curve in curves.values() for point in curve]
    missed, false = [point.missed for point in every], [point.false for point in every]
    queries = sum(cell.track.n for cell in scores.cells) / len(colours)
    x = Scale.of_shares(false, 1 / max(absent.false.n or 1 for absent in scores.absent))
    y = Scale.of_shares(missed, 1 / max(queries, 1))
    series = []
    for name, curve in curves.items():
        at = _threshold(curve, scores.max_p)
        points = [
            Point(
                x(point.false),
                y(point.missed),
                y(point.missed),
                y(point.missed),
                printable(name)
                + f", p_false ≤ {point.max_p:.2g}: misses {percent(point.missed)} %,"
                f" {percent(point.false)} % false answers",
                main=point is at,
            )
            for point in curve
        ]
        series.append(Series(printable(name), colours.get(name, len(colours)), tuple(points)))
    return Chart(
        name="det",
        title="Detection error trade-off",
        caption="Every threshold of p_false; the large mark is the one in use"
        f" ({scores.max_p:g}). Lower left is better.",
        x=Axis(
            f"false answers to {_unknown(scores.absent)}, %",
            x.decades(written_percent, zero=min(false) <= 0),
        ),
        y=Axis("present queries missed, %", y.decades(written_percent, zero=min(missed) <= 0)),
        panels=(("", tuple(series)),),
    )


def _distinct(curve: Sequence[DetPoint], max_p: float) -> list[DetPoint]:
    """Leave out points where an earlier one is, but the one in use."""
    kept: dict[tuple[float, float], DetPoint] = {}
    for point in curve:
        kept.setdefault((point.missed, point.false), point)
    if at := _threshold(curve, max_p):
        kept[at.missed, at.false] = at
    return list(kept.values())


def _threshold(curve: Sequence[DetPoint], max_p: float) -> DetPoint | None:
    """Return the point in use: thresholds between two points change nothing."""
    below = [point for point in curve if point.max_p <= max_p]
    return below[-1] if below else None


def _unknown(absents: Sequence[Absent]) -> str:
    of_music = all(absent.of == MUSIC for absent in absents)
    return "music that is not in the store" if of_music else "what is not in the store"


def _reliability(absents: Sequence[Absent], colours: dict[str, int]) -> Chart | None:
    known = {
        absent.backend: [(p, of) for p, of in absent.reliability if p > 0 and of.n]
        for absent in absents
    }
    every = [pair for pairs in known.values() for pair in pairs]
    if not every:
        return None
    nominal = [p for p, _ in every]
    x = Scale(min(nominal) / 1.5, max(1.0, *nominal), log=True)
    realised = [share for _, of in every for share in (of.share, of.low if of.k else 0.0, of.high)]
    y = Scale.of_shares(realised, 1 / max(of.n for _, of in every))
    series = []
    for name, pairs in known.items():
        points = [
            Point(
                x(p),
                y(of.share),
                y(of.low),
                y(of.high),
                printable(name) + f", p_false ≤ {p:.2g}: {told(of)}",
            )
            for p, of in pairs
        ]
        if points:
            series.append(Series(printable(name), colours[name], tuple(points)))
    ends = (max(x.low, y.low), min(x.high, y.high))
    return Chart(
        name="reliability",
        title="Reliability of p_false",
        caption=f"What p_false promises against what {_unknown(absents)} shows, with 95 %"
        " intervals. Honest is on the line or below it.",
        x=Axis("promised: p_false at most", x.decades(written_power, zero=False)),
        y=Axis("realised share of queries", y.decades(written_power, zero=min(realised) <= 0)),
        panels=(("", _apart(series)),),
        guide=tuple((x(value), y(value)) for value in ends) if ends[0] < ends[1] else (),
        guide_label="promised = realised",
    )
