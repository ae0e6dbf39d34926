"""Charts as inline SVG: no script, no font, no picture from elsewhere."""

import math
from html import escape

from afp.bench.report.charts import PALETTE, Chart, Series
from afp.bench.report.wording import shortened

WIDTH, TOP, RIGHT, BOTTOM = 360.0, 26.0, 14.0, 44.0
PLOT_HEIGHT = 178.0
LETTER = 6.1  # width of a letter at 11 px, on average
LABEL, TITLE = 26, 54  # letters beside the plot and above it at most
RADIUS = 3.4


def _corners(n: int, turn: float, size: float, inner: float = 1.0) -> str:
    points = []
    for i in range(n):
        angle = 2 * math.pi * i / n + turn
        radius = size * (inner if i % 2 else 1.0)
        points.append(f"{radius * math.sin(angle):.2f},{-radius * math.cos(angle):.2f}")
    return f"M{'L'.join(points)}Z"


# A shape for each colour, for eyes and printers that do not tell the colours apart.
SHAPES = (
    f"M0,-{RADIUS}a{RADIUS},{RADIUS} 0 1 0 .01,0Z",
    _corners(4, math.pi / 4, 1.25 * RADIUS),
    _corners(3, 0.0, 1.4 * RADIUS),
    _corners(4, 0.0, 1.3 * RADIUS),
    _corners(3, math.pi, 1.4 * RADIUS),
    _corners(10, 0.0, 1.5 * RADIUS, 0.5),
)


def _variables(which: int) -> str:
    return "".join(f"--c{i}:{pair[which]};" for i, pair in enumerate(PALETTE))


# `--ink`, `--soft`, `--line` and `--paper` are the page's.
STYLE = (
    f":root{{{_variables(0)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(1)}}}}}"
    + "".join(f".c{i}{{--c:var(--c{i})}}" for i in range(len(PALETTE)))
    + """
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,23rem),1fr));
gap:2.25rem 1.5rem}
.chart{margin:0;min-width:0;break-inside:avoid}
.chart.wide{grid-column:1/-1}
.chart figcaption b{display:block;font-size:1.0625rem;line-height:1.3}
.chart figcaption,.legend{break-after:avoid}
.chart figcaption{color:var(--soft);font-size:.875rem;line-height:1.45}
.chart figcaption b{color:var(--ink)}
.legend{display:flex;flex-wrap:wrap;gap:.125rem 1rem;margin:.4rem 0 .25rem;padding:0;
list-style:none;font-size:.8125rem}
.legend svg{width:1.5rem;height:.75rem;margin-right:.35rem}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));
gap:.5rem 1rem}
.chart:not(.wide) .panels{display:block}
.plot{display:block;width:100%;max-width:28rem;height:auto;overflow:visible;break-inside:avoid;
font-size:11px;font-variant-numeric:tabular-nums}
.plot text{fill:var(--soft)}
.plot .name{fill:var(--ink);font-weight:600;font-size:12px}
.plot .row{fill:var(--ink)}
.plot .grid{stroke:var(--line);stroke-width:1}
.plot .base{stroke:var(--soft);stroke-width:1}
.guide{stroke:var(--soft);stroke-width:1.25;stroke-dasharray:4 4}
.plot .between{fill:none;stroke:var(--c);stroke-width:1.75;stroke-linejoin:round}
.plot .span{stroke:var(--c);stroke-width:3.5;stroke-opacity:.28}
.mark{fill:var(--c);stroke:var(--paper);stroke-width:1}
.main .mark{stroke:var(--ink);stroke-width:.8}
.plot .hit{fill:transparent}
.plot .point:hover .span{stroke-opacity:.75}
"""
)


def draw(chart: Chart) -> str:
    """Draw a chart.

    Parameters
    ----------
    chart : Chart

    Returns
    -------
    str
        A ``figure`` element with a legend, and an ``svg`` for each panel. Its looks are `STYLE`.
    """
    wide = " wide" if len(chart.panels) > 1 else ""
    panels = "".join(_panel(chart, title, series) for title, series in chart.panels)
    return (
        f'<figure class="chart{wide}" id="{escape(chart.name)}"><figcaption>'
        f"<b>{escape(chart.title)}</b>{escape(chart.caption)}</figcaption>{_legend(chart)}"
        f'<div class="panels">{panels}</div></figure>\n'
    )


def _legend(chart: Chart) -> str:
    line = '<line class="{}" x1="1" x2="23" y1="6" y2="6" stroke="{}" stroke-width="1.75"/>'
    joined = line.format("between", "var(--c)") if chart.joined else ""
    entries = [
        f'<li><svg class="c{colour % len(PALETTE)}" viewBox="0 0 24 12" aria-hidden="true">{joined}'
        f'<g transform="translate(12,6)">{_shape(colour)}</g></svg>{escape(label)}</li>'
        for label, colour in chart.legend().items()
    ]
    if chart.guide:
        guide = line.format("guide", "var(--soft)")
        entries.append(
            f'<li><svg viewBox="0 0 24 12" aria-hidden="true">{guide}</svg>'
            f"{escape(chart.guide_label)}</li>"
        )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _shape(colour: int, scale: float = 1.0) -> str:
    larger = f' transform="scale({scale})"' if scale != 1.0 else ""
    return f'<path class="mark" d="{SHAPES[colour % len(SHAPES)]}"{larger}/>'


def _panel(chart: Chart, title: str, series: tuple[Series, ...]) -> str:
    rows = [label for _, label in chart.y.ticks] if chart.sideways else []
    longest = max((min(len(label), LABEL) for _, label in chart.y.ticks), default=0)
    left = longest * LETTER + (12 if rows else 30)
    width = WIDTH - left - RIGHT
    row_height = max(22.0, 8.0 * len(series) + 4)
    height = row_height * len(rows) if rows else PLOT_HEIGHT
    bottom = TOP + height

    def x(share: float) -> float:
        return left + width * share

    def y(share: float) -> float:
        return bottom - height * share

    parts = [_text("name", 0, 13, "start", title)] if title else []
    for at, label in chart.x.ticks:
        parts.append(_line("grid", x(at), TOP, x(at), bottom))
        parts.append(_text("tick", x(at), bottom + 16, "middle", label))
    for at, label in chart.y.ticks:
        parts.append(_line("grid", left, y(at), left + width, y(at)))
        parts.append(_text("row" if rows else "tick", left - 8, y(at) + 4, "end", label))
    parts.append(_line("base", left, bottom, left + width, bottom))
    parts.append(_text("label", left + width / 2, bottom + 36, "middle", chart.x.label))
    if chart.y.label:
        place = f'transform="translate(11,{TOP + height / 2:.1f}) rotate(-90)"'
        parts.append(f'<text {place} text-anchor="middle">{escape(chart.y.label)}</text>')
    if chart.guide:
        (x1, y1), (x2, y2) = chart.guide
        parts.append(_line("guide", x(x1), y(y1), x(x2), y(y2)))
    for one in series:
        parts.append(f'<g class="c{one.colour % len(PALETTE)}">')
        if chart.joined and len(one.points) > 1:
            way = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in one.points)
            parts.append(f'<polyline class="between" points="{way}"/>')
        for point in one.points:
            px, py = x(point.x), y(point.y)
            if chart.sideways:
                span = _line("span", x(point.low), py, x(point.high), py)
            else:
                span = _line("span", px, y(point.low), px, y(point.high))
            parts.append(
                f'<g class="point{" main" if point.main else ""}"><title>{escape(point.text)}'
                f"</title>{span if point.low < point.high else ''}"
                f'<g transform="translate({px:.1f},{py:.1f})"><circle class="hit" r="7"/>'
                f"{_shape(one.colour, 1.8 if point.main else 1.0)}</g></g>"
            )
        parts.append("</g>")
    names = ", ".join(one.label for one in series)
    said = ": ".join(filter(None, (chart.title, title))) + f" ({names}). {chart.caption}"
    return (
        f'<svg class="plot" role="img" aria-label="{escape(said)}" '
        f'viewBox="0 0 {WIDTH:g} {bottom + BOTTOM:g}">{"".join(parts)}</svg>'
    )


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(name: str, x: float, y: float, anchor: str, text: str) -> str:
    """Write a text, cut where it is too long for its place; whole as its tooltip."""
    most = LABEL if name == "row" else TITLE
    whole = f"<title>{escape(text)}</title>" if len(text) > most else ""
    return (
        f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{whole}{escape(shortened(text, most))}</text>"
    )
