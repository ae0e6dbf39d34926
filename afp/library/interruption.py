"""Ctrl-C and SIGTERM as a request to stop, rather than an exception anywhere."""

import os
import signal
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")


class _Stop(BaseException):
    """Raised by a signal where there is nothing to finish."""


class Interruption:
    """Within it, the first SIGINT or SIGTERM is noted; the second does what it always did.

    A signal that the process was told to ignore, as the shell does for what runs in the
    background of a script, stays ignored.

    Attributes
    ----------
    signal : int or None
        The signal that arrived.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._raises = False
        self._before: Mapping[int, Any] = {}

    def __enter__(self) -> Self:
        self._readable, self._writable = os.pipe()
        self._before = {
            number: signal.signal(number, self._note)
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        os.close(self._readable)
        os.close(self._writable)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        os.write(self._writable, b"!")
        self._restore()
        if self._raises:
            raise _Stop

    def unless_stopped(self, work: Callable[[], _T]) -> _T | None:
        """Return what `work` returns, or None as soon as a signal comes, or when one has come.

        For work that leaves nothing to finish.
        """
        try:
            self._raises = True
            result = work() if self.signal is None else None
            self._raises = False
        except _Stop:
            return None
        finally:
            self._raises = False
        return result

    def fileno(self) -> int:
        """Return a file descriptor that is readable once a signal has arrived."""
        return self._readable
