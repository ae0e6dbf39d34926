"""A process that ends itself with SIGKILL at the k-th step that it takes on files."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import lmdb

STEPS = frozenset(
    [
        *("open", "mkdir", "rename", "replace", "unlink", "truncate", "ftruncate", "pwrite"),
        *("fsync", "sync"),
    ]
)
"""C functions of `os`, `io` and LMDB after which a folder may be another."""


def is_step(function: Any) -> bool:
    """Tell whether a C function makes or takes away a file, or makes changes last."""
    ends_transaction = function.__name__ == "__exit__" and isinstance(
        function.__self__, lmdb.Transaction
    )
    return function.__name__ in STEPS or ends_transaction


def killed_at(step: int, work: Callable[[Callable[[str], None]], object]) -> tuple[bool, list[str]]:
    """Do some work in a process that kills itself before its `step`-th step on files.

    Parameters
    ----------
    step : int
        From 0 on.
    work : callable
        Gets a function that reports a line to us, as a command reports to its output.

    Returns
    -------
    tuple of bool and list of str
        Whether it was killed, rather than through; and what it had reported.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(readable)
            count = 0

            def watch(frame: Any, event: str, function: Any) -> None:
                nonlocal count
                if event == "c_call" and is_step(function):
                    if count == step:
                        os.kill(os.getpid(), signal.SIGKILL)
                    count += 1

            def report(line: str) -> None:
                sys.setprofile(None)
                os.write(writable, f"{line}\n".encode())
                sys.setprofile(watch)

            sys.setprofile(watch)
            work(report)
            sys.setprofile(None)
            status = 0
        except BaseException:
            sys.setprofile(None)
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    os.close(writable)
    with os.fdopen(readable) as reports:
        lines = reports.read().splitlines()
    exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert exit_code in (0, -signal.SIGKILL), exit_code
    return exit_code != 0, lines
