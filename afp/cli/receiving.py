"""What the commands have in common that take tracks from elsewhere: ``import`` and ``merge``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from afp.cli import terminal

if TYPE_CHECKING:
    from afp.library import Interruption
    from afp.library.receiver import Observer, TransferReport


@contextmanager
def receiving(
    what: str, store_path: Path, *, as_json: bool
) -> "Iterator[tuple[TransferReport, Observer, Interruption]]":
    """Show the progress of what takes tracks from elsewhere; tell what came of it in any case."""
    from afp.cli.progress import TransferProgress
    from afp.library import Interruption
    from afp.library.receiver import TransferReport

    report = TransferReport()
    failed = True
    try:
        with (
            Interruption() as interruption,
            TransferProgress(what, shown=terminal.is_interactive(sys.stderr)) as progress,
        ):
            yield (
                report,
                lambda report: progress.update(report.n_done, report.n_tracks),
                interruption,
            )
        failed = False
    finally:
        if report.n_done or not failed:
            _tell(report, store_path, as_json=as_json)
    if report.interrupted:
        raise SystemExit(128 + report.interrupted)


def _tell(report: "TransferReport", store_path: Path, *, as_json: bool) -> None:
    if as_json:
        terminal.json_line(
            {
                "added": report.added,
                "extended": report.extended,
                "known": report.known,
                "postings": report.n_postings,
                "seconds": round(report.wall_seconds, 3),
                "renamed": [{"path": path, "kept_as": kept} for path, kept in report.renamed],
            }
        )
    for path, kept in report.renamed:
        terminal.warn(f"{path} is another track here; the new one is kept as {kept}")
    counts = {"added": report.added, "extended": report.extended, "known": report.known}
    text = ", ".join(f"{n:,} {name}" for name, n in counts.items() if n) or "no tracks"
    if report.n_postings:
        seconds = report.wall_seconds
        text += (
            f"; {terminal.count(report.n_postings, 'posting')} in {terminal.duration(seconds)}"
            f" ({report.n_postings / seconds:,.0f} a second)"
        )
    terminal.note(f"{text}; store: {store_path}")
    if report.interrupted:
        n_left = report.n_tracks - report.n_done
        when = (
            f"with {terminal.count(n_left, 'track')} to go" if n_left else "before the first track"
        )
        terminal.note(f"interrupted {when}; the same command goes on from here")
