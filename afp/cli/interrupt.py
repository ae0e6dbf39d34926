"""What Ctrl-C and SIGTERM do to a command: it ends with a line and a status, not a traceback."""

import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from afp.cli import terminal

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class Interrupted(SystemExit):
    """Raised where a signal meets the program; its code is the exit status."""


def install() -> None:
    """Have both signals raise `Interrupted`, but for one that is to be ignored.

    `afp.library.Interruption` takes their place in commands that have something to finish.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)
    sys.unraisablehook = _end


def ignore() -> None:
    """Take no more signals: what was to be done is done and told, and so is its status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def tell() -> None:
    """Say that the program was interrupted."""
    try:
        terminal.note("afp: interrupted")
    except BrokenPipeError:  # so was who read it
        terminal.silence_stdout()


def _raise(number: int, frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):  # one more ends it, whatever it is at
        if signal.getsignal(other) is _raise:
            signal.signal(other, signal.SIG_DFL)
    raise Interrupted(128 + number)


def _end(event: "UnraisableHookArgs") -> None:
    """End the program where Python cannot raise: in a destructor, or as it shuts down."""
    if isinstance(event.exc_value, Interrupted):
        tell()
        os._exit(event.exc_value.code)  # type: ignore[arg-type]
    if isinstance(event.exc_value, Exception):  # else an `Interruption`, which has taken note
        sys.__unraisablehook__(event)
