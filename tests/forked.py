"""The command line in a fork of the test: a process of its own, without the start-up."""

import io
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from afp.cli import main

LIMIT_SECONDS = 60.0


class Done(NamedTuple):
    """How a command ended: exit status (negative: a signal), what it wrote, how long it took."""

    status: int
    out: str
    err: str
    seconds: float

    def objects(self) -> list[Any]:
        """Return the JSON objects that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]


def afp(
    *arguments: str | bytes | Path,
    db: str | bytes | Path,
    stdout: str = "",
    before: Callable[[], None] = lambda: None,
) -> Done:
    """Run a command, `before` first; one that takes longer than a minute is killed by SIGALRM."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            before()
            _become(["afp", *map(os.fsdecode, arguments)], os.fsdecode(db), out, err, stdout)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = time.monotonic() - started
        written = []
        for file in (out, err):
            file.seek(0)
            written.append(os.fsdecode(file.read()))
    return Done(status, written[0], written[1], seconds)


def _become(arguments: list[str], db: str, out: Any, err: Any, stdout: str) -> None:
    status: Any = 1
    try:
        signal.alarm(int(LIMIT_SECONDS))
        target = os.open(stdout, os.O_WRONLY) if stdout else out.fileno()
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((null, 0), (target, 1), (err.fileno(), 2)):
            os.dup2(descriptor, number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), errors="surrogateescape")
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), errors="backslashreplace", write_through=True
        )
        sys.argv = arguments
        os.environ["AFP_DB"] = db
        main()
        status = 0
    except SystemExit as end:
        status = 0 if end.code is None else end.code
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120  # what the interpreter says then
    os._exit(status)
