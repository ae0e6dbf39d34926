"""Ctrl-C and SIGTERM as a request to stop, rather than an exception anywhere."""

import os
import signal
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any, Self


class Interruption:
    """Within it, the first SIGINT or SIGTERM is noted; the second does what it always did.

    Attributes
    ----------
    signal : int or None
        The signal that arrived.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: Mapping[int, Any] = {}

    def __enter__(self) -> Self:
        self._readable, self._writable = os.pipe()
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
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

    def fileno(self) -> int:
        """Return a file descriptor that is readable once a signal has arrived."""
        return self._readable
