"""Charts as PNG files, drawn with matplotlib."""

from pathlib import Path
from typing import Any

from afp.bench.report.charts import PALETTE, Chart, charts
from afp.bench.report.wording import shortened
from afp.bench.scores import Scores
from afp.errors import UsageError

MARKERS = "os^Dv*"
INK, SOFT, LINE = "#1b1f24", "#5b6570", "#e3e6ea"
COLUMNS = 3
LABEL, TITLE = 26, 40  # letters beside a panel and above it at most
DPI = 160


def draw(scores: Scores, folder: Path) -> list[Path]:
    """Draw the charts of a run, one file each.

    Parameters
    ----------
    scores : Scores
    folder : Path
        Made when it is not there.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UsageError
        When matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise UsageError(
            "pictures need matplotlib, which is not installed", hint="pip install 'afp[plot]'"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    # Names are shown as they are: no mathematics between dollar signs.
    with rc_context({"font.size": 9, "text.parse_math": False, "text.color": INK}):
        for chart in charts(scores):
            path = folder / f"{chart.name}.png"
            _figure(chart).savefig(path, dpi=DPI)
            written.append(path)
    return written


def _figure(chart: Chart) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(COLUMNS, len(chart.panels))
    lines = -(-len(chart.panels) // columns)
    tall = 0.9 + 0.24 * len(chart.y.ticks) if chart.sideways else 2.6
    size = (max(4.8, 3.3 * columns), tall * lines + 0.95)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    for unused in places[len(chart.panels) :]:
        unused.remove()
    for panel, (title, series) in zip(places, chart.panels, strict=False):
        _axes(panel, chart)
        panel.set_title(shortened(title, TITLE), fontsize="medium", fontweight="bold", loc="left")
        if chart.guide:
            panel.plot(*zip(*chart.guide, strict=True), "--", color=SOFT, linewidth=1)
        for one in series:
            colour, marker = _looks(one.colour)
            if chart.joined:
                where = [point.x for point in one.points], [point.y for point in one.points]
                panel.plot(*where, "-", color=colour, linewidth=1.4)
            for point in one.points:
                along = [point.low, point.high]
                across = [point.y if chart.sideways else point.x] * 2
                span = (along, across) if chart.sideways else (across, along)
                panel.plot(*span, "-", color=colour, alpha=0.3, linewidth=3, solid_capstyle="butt")
                panel.plot(
                    point.x,
                    point.y,
                    marker,
                    color=colour,
                    markersize=9 if point.main else 5,
                    markeredgecolor=INK if point.main else "white",
                    markeredgewidth=0.7,
                    clip_on=False,
                    zorder=3,
                )
    handles = []
    width = 1.4 if chart.joined else 0.0
    for label, index in chart.legend().items():
        colour, marker = _looks(index)
        handles.append(
            Line2D(
                [], [], color=colour, marker=marker, linewidth=width, label=shortened(label, TITLE)
            )
        )
    if chart.guide:
        handles.append(Line2D([], [], color=SOFT, linestyle="--", label=chart.guide_label))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False)
    figure.suptitle(chart.title, x=0.01, ha="left", fontweight="bold", fontsize="large")
    return figure


def _looks(colour: int) -> tuple[str, str]:
    return PALETTE[colour % len(PALETTE)][0], MARKERS[colour % len(MARKERS)]


def _axes(panel: Any, chart: Chart) -> None:
    panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    panel.set_xlabel(chart.x.label, fontsize="medium", color=SOFT)
    panel.set_ylabel(chart.y.label, fontsize="medium", color=SOFT)
    for axis, ticks in ((panel.xaxis, chart.x.ticks), (panel.yaxis, chart.y.ticks)):
        axis.set_ticks([at for at, _ in ticks], [shortened(label, LABEL) for _, label in ticks])
    panel.tick_params(length=0, labelcolor=SOFT)
    panel.grid(color=LINE)
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color(SOFT)
