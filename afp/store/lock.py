"""The lock that lets one process at a time write to a store, and tells the others who it is."""

import fcntl
import json
import os
import shlex
import struct
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from afp.errors import StoreError

LOCK_NAME = "writer.lock"
_PAUSE_SECONDS = 0.05
_COMMAND_CHARACTERS = 120
_NOTE_BYTES = 4096

# struct flock, in which the system tells who holds a lock: more than a file could, in which one
# that was killed has left its name.
_LINUX = sys.platform == "linux"
_FLOCK = struct.Struct("@hhqqi0q" if _LINUX else "@qqihh0q")

# By which process, as a fork copies this: the system's locks do not keep a process from itself.
_held: dict[Path, int] = {}
_guard = threading.RLock()


class ReaderLock:
    """A shared lock that keeps writers out, for readers that LMDB cannot make known to them.

    Raises
    ------
    StoreError
        When there is a writer.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(self._handle)
            raise StoreError(
                f"{folder} is being written, and you may not write to it yourself",
                hint="wait until that has finished, or ask for permission to write to the folder",
            ) from None

    def release(self) -> None:
        """Let writers in."""
        os.close(self._handle)


class WriterLock:
    """An exclusive lock on a store, released when the process ends, however it ends.

    A record lock of `fcntl`: children made by fork do not inherit it, so that workers left behind
    by a killed writer do not keep the store locked. A context manager.

    Warns
    -----
    UserWarning
        When it has to wait: for whom.

    Raises
    ------
    StoreError
        When somebody else holds it for longer than `wait_seconds`.
    """

    def __init__(self, folder: Path, *, wait_seconds: float) -> None:
        self._path = (folder / LOCK_NAME).resolve()
        self._users = 1
        deadline = time.monotonic() + wait_seconds
        told = ""
        while (obstacle := self._acquire()) is not None:
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"{folder} is being {obstacle}",
                    hint="wait until it has finished, or wait for it with --wait SECONDS",
                )
            if obstacle != told:
                warnings.warn(f"waiting: {folder} is being {obstacle}", stacklevel=4)
                told = obstacle
            time.sleep(_PAUSE_SECONDS)

    def _acquire(self) -> str | None:
        """Return None once the lock is held, else what keeps us from it."""
        with _guard:
            if _held.get(self._path) == os.getpid():
                return f"written by this process ({os.getpid()}) already"
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                obstacle = _obstacle(handle)
                os.close(handle)
                return obstacle
            except BaseException:
                os.close(handle)
                raise
            self._handle = handle
            _held[self._path] = os.getpid()
            with suppress(OSError):  # on a full disk others are not told who writes
                os.ftruncate(handle, 0)
                os.pwrite(handle, _note(), 0)
            return None

    def share(self) -> Self:
        """Take part in holding it, until `release`."""
        with _guard:
            self._users += 1
        return self

    def release(self) -> None:
        """Let the next writer in, when this was the last user."""
        with _guard:
            self._users -= 1
            if self._users == 0 and _held.get(self._path) == os.getpid():
                del _held[self._path]
                os.ftruncate(self._handle, 0)
                os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _note() -> bytes:
    """Return what the holder writes of itself into the lock's file."""
    program, *arguments = sys.argv or [""]
    path = Path(program)
    name = path.parent.name if path.name == "__main__.py" else path.name
    command = shlex.join([name, *arguments])
    if len(command) > _COMMAND_CHARACTERS:
        command = command[: _COMMAND_CHARACTERS - 1] + "…"
    return json.dumps({"pid": os.getpid(), "command": command, "since": time.time()}).encode()


def _obstacle(handle: int) -> str:
    """Tell who holds the lock of a file, and nothing of whose end we may not have noticed."""
    kind, pid = _conflict(handle)
    who = f"process {pid}" if pid > 0 else "another process"
    if kind == fcntl.F_RDLCK:
        return f"read by {who}, which may not write to it"
    try:
        note = json.loads(os.pread(handle, _NOTE_BYTES, 0))
        if note["pid"] != pid:
            raise ValueError
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["since"]))
        return f"written by {who} ({note['command']}) since {since}"
    except (ValueError, KeyError, TypeError, OverflowError):  # not written yet, or another's
        return f"written by {who}"


def _conflict(handle: int) -> tuple[int, int]:
    """Return the kind of the lock that keeps us out, and the process (0 where it is not known)."""
    wanted = (fcntl.F_WRLCK, os.SEEK_SET)
    fields = (*wanted, 0, 0, 0) if _LINUX else (0, 0, 0, *wanted)
    try:
        found = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_GETLK, _FLOCK.pack(*fields)))
    except OSError:
        return fcntl.F_UNLCK, 0
    kind, pid = (found[0], found[4]) if _LINUX else (found[3], found[2])
    return (kind, 0) if kind == fcntl.F_UNLCK else (kind, pid)
