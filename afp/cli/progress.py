"""The progress bar of ``afp index``."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from afp.cli import terminal

if TYPE_CHECKING:
    from rich.progress import Progress

    from afp.library import FileOutcome, Planned


class IndexProgress:
    """Files done, speed against realtime, time to go, failures so far.

    Parameters
    ----------
    shown : bool
        Whether to draw anything.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Progress | None = None
        self._n_planned = self._n_files = self._n_failed = 0
        self._audio_seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

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
