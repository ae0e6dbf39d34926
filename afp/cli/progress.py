"""The progress bar of ``afp index``."""
# ruff: noqa: RUF001 - × is meant

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from afp.cli import terminal

if TYPE_CHECKING:
    from afp.library.report import FileOutcome, Planned


class IndexProgress:
    """Files done, speed against realtime, time to go, failures so far.

    Parameters
    ----------
    shown : bool
        Whether to draw anything.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._n_failed = 0
        self._audio_seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown and hasattr(self, "_progress"):
            self._progress.stop()

    def update(self, event: "Planned | FileOutcome") -> None:
        """Take what `afp.library.index` tells its observer."""
        from afp.library.report import Planned, Status

        if not self._shown:
            return
        if isinstance(event, Planned):
            if event.n_files:
                self._start(event)
        elif event.status is not Status.SKIPPED:
            self._n_failed += event.status is Status.FAILED
            if event.track is not None:
                self._audio_seconds += event.track.duration_seconds
            self._n_files += 1
            self._progress.advance(self._task, event.file.size)
            self._show_figures()

    def _start(self, planned: "Planned") -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._n_planned = planned.n_files
        self._n_files = 0
        self._progress = Progress(
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
        self._task = self._progress.add_task(
            "", total=planned.n_bytes, files="", speed="", failed=""
        )
        self._show_figures()
        self._progress.start()

    def _show_figures(self) -> None:
        elapsed = self._progress.tasks[0].elapsed
        self._progress.update(
            self._task,
            files=f"{self._n_files:,}/{self._n_planned:,} files",
            speed=f"{self._audio_seconds / elapsed:,.0f} × realtime" if elapsed else "",
            failed=f"{self._n_failed} failed" if self._n_failed else "",
        )
