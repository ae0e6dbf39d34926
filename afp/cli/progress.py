"""The progress bars of ``afp index``, ``afp bench``, and of moving tracks between stores."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from afp.cli import terminal

if TYPE_CHECKING:
    from rich.progress import Progress

    from afp.bench.task import Remark, Stage
    from afp.library import FileOutcome, Planned

REDRAW_SECONDS = 0.25


class _Drawing:
    """What draws a bar until it is left; a context manager."""

    _bar: "Progress | None" = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class IndexProgress(_Drawing):
    """Files done, speed against realtime, time to go, failures so far.

    Parameters
    ----------
    shown : bool
        Whether to draw anything.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._n_planned = self._n_files = self._n_failed = 0
        self._audio_seconds = 0.0

    def update(self, event: "Planned | FileOutcome") -> None:
        """Take what `afp.library.index` tells its observer."""
        from afp.library import Planned, Status

        if isinstance(event, Planned):
            if self._shown and event.n_files:
                self._n_planned = event.n_files
                self._bar = _bar()
                self._bar.add_task("", total=event.n_bytes, files="", speed="", failed="")
                self._bar.start()
        elif event.status is not Status.SKIPPED:
            self._n_failed += event.status is Status.FAILED
            self._audio_seconds += event.track.duration_seconds if event.track else 0.0
            if self._bar is not None:
                self._n_files += 1
                self._advance(self._bar, event.file.size)

    def _advance(self, bar: "Progress", n_bytes: int) -> None:
        (task,) = bar.tasks
        speed = self._audio_seconds / task.elapsed if task.elapsed else 0.0
        bar.update(
            task.id,
            advance=n_bytes,
            files=f"{self._n_files:,}/{self._n_planned:,} files",
            speed=f"{speed:,.0f} × realtime",
            failed=f"{self._n_failed:,} failed" if self._n_failed else "",
        )


def _bar() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("indexing"),
        BarColumn(),
        TextColumn("{task.fields[files]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}", style="red"),
        console=terminal.console(sys.stderr),
        transient=True,
        refresh_per_second=4,
    )


class BenchProgress(_Drawing):
    """The stage that a benchmark is at, with the time to go; remarks between.

    A pipe gets the name of each stage on a line. Nothing draws but `update`: a benchmark forks,
    and a thread that draws must not be forked.
    """

    def __init__(self) -> None:
        self._shown = terminal.is_interactive(sys.stderr)
        self._stage = ""
        self._drawn = 0.0

    def update(self, event: "Stage | Remark") -> None:
        """Take what `afp.bench.run.run` tells its observer."""
        from afp.bench.task import Remark

        if isinstance(event, Remark):
            terminal.warn(event.text)
            return
        if event.name != self._stage:
            self._stop()
            self._stage = event.name
            if not self._shown:
                terminal.note(event.name)
            else:
                self._bar = _stage_bar()
                self._bar.add_task(event.name, total=event.total, completed=event.done)
                self._bar.start()
        now = time.monotonic()
        if self._bar is not None and (now - self._drawn > REDRAW_SECONDS):
            self._drawn = now
            (task,) = self._bar.tasks
            self._bar.update(task.id, completed=event.done, total=event.total)
            self._bar.refresh()


def _stage_bar() -> "Progress":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=terminal.console(sys.stderr),
        transient=True,
        auto_refresh=False,
    )


class TransferProgress(_Drawing):
    """Tracks done, time to go.

    Parameters
    ----------
    what : str
        Is being done.
    shown : bool
        Whether to draw anything.
    """

    def __init__(self, what: str, *, shown: bool) -> None:
        self._what = what
        self._shown = shown
        self._drawn = 0.0

    def update(self, n_done: int, n_tracks: int) -> None:
        """Show how many tracks are done, of how many."""
        now = time.monotonic()
        if not self._shown or now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        if self._bar is None:
            self._bar = _stage_bar()
            self._bar.add_task(self._what, total=n_tracks)
            self._bar.start()
        (task,) = self._bar.tasks
        self._bar.update(task.id, completed=n_done, total=n_tracks)
        self._bar.refresh()
