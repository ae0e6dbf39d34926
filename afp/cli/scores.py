"""How the scores of a benchmark are shown."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from afp.cli import options, terminal
from afp.errors import UsageError

if TYPE_CHECKING:
    from afp.bench.scores import Scores

Command = TypeVar("Command", bound=Callable[..., Any])

CELL_COLUMNS = (
    "backend",
    "condition",
    "seconds",
    "queries",
    "right",
    "low",
    "high",
    "within_500_ms",
    "within_250_ms",
    "within_50_ms",
    "wrong",
    "any_score",
    "offset_median_ms",
    "query_median_ms",
)


def shown(command: Command) -> Command:
    """Add the options that say how scores are shown."""
    for option in (
        options.json,
        click.option(
            "--plot",
            metavar="DIR",
            type=options.PathType(path_type=Path),
            help="Draw the report's charts as PNG files in DIR (extra: plot).",
        ),
        click.option(
            "--report",
            metavar="FILE",
            type=options.PathType(path_type=Path),
            help="Write one self-contained HTML file with tables and charts.",
        ),
        click.option(
            "--max-p",
            type=options.Probability(),
            metavar="P",
            help="Largest p_false of an answer that counts.  [default: that of afp query]",
        ),
    ):
        command = option(command)
    return command


def require_means(report: Path | None, plot: Path | None) -> None:
    """Complain of what is missing for a report or charts before the run rather than after it.

    Raises
    ------
    UsageError
        When the report's folder is not there, or charts are asked for without matplotlib.
    """
    if report is not None and (report.is_dir() or not report.absolute().parent.is_dir()):
        what = "is a folder" if report.is_dir() else "its folder is not there"
        raise UsageError(f"{report}: {what}", hint="name a file for the report in a folder")
    if plot is not None and find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib", hint="pip install 'afp[plot]'")


def show(scores: "Scores", *, report: Path | None, plot: Path | None, as_json: bool) -> None:
    """Print the scores: tables on a terminal, one cell a line in a pipe, or JSON."""
    if as_json:
        from afp.bench.scoring import as_json as jsonable

        terminal.json_line(jsonable(scores))
    elif terminal.is_interactive():
        _draw_tables(scores)
    else:
        _print_cells(scores)
    if report is not None:
        from afp.bench.report.html import report as written

        try:
            report.write_text(written(scores), encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{report}: cannot be written: {error.strerror}", hint="name another file"
            ) from None
        terminal.note(f"report: {report}")
    if plot is not None:
        from afp.bench.report.png import draw

        try:
            drawn = draw(scores, plot)
        except OSError as error:
            raise UsageError(
                f"{plot}: cannot be written: {error.strerror}", hint="name another folder"
            ) from None
        for path in drawn:
            terminal.note(f"chart: {path}")


def _draw_tables(scores: "Scores") -> None:
    from afp.bench.table import sections

    for section in sections(scores):
        terminal.line("")
        terminal.line(section.title)
        terminal.Table(section.columns, right=section.right, whole=section.right).draw(section.rows)


def _print_cells(scores: "Scores") -> None:
    """Print a line a cell, then one for each kind of absent queries: shares from 0 to 1."""
    terminal.tsv_line(CELL_COLUMNS)
    for cell in scores.cells:
        shares = (cell.near, cell.exact, cell.close, cell.wrong, cell.any_track)
        offset = cell.offset_median_ms
        terminal.tsv_line(
            (
                cell.backend,
                cell.condition,
                f"{cell.seconds:g}",
                cell.track.n,
                *(f"{value:.4f}" for value in (cell.track.share, cell.track.low, cell.track.high)),
                *(f"{proportion.share:.4f}" for proportion in shares),
                "" if offset is None else f"{offset:.2f}",
                f"{cell.query_median_ms:.1f}",
            )
        )
    for absent in scores.absent:
        blank = [""] * (len(CELL_COLUMNS) - 7)
        for kind, false in absent.by_kind.items():
            values = (f"{value:.4f}" for value in (false.share, false.low, false.high))
            what = f"(false answers: {kind})"
            terminal.tsv_line((absent.backend, what, "", false.n, *values, *blank))
