"""The lock that lets one process at a time write to a store."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from afp.errors import StoreError

LOCK_NAME = "writer.lock"
_PAUSE_SECONDS = 0.05

# By which process, as a fork copies this: the system's locks do not keep a process from itself.
_held: dict[Path, int] = {}


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
    by a killed writer do not keep the store locked.

    Raises
    ------
    StoreError
        When another writer holds it for longer than `wait_seconds`.
    """

    def __init__(self, folder: Path, *, wait_seconds: float) -> None:
        self._path = (folder / LOCK_NAME).resolve()
        deadline = time.monotonic() + wait_seconds
        while not self._acquire():
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"{folder} is being written by {self._holder()}",
                    hint="wait until it has finished, or wait for it with --wait SECONDS",
                )
            time.sleep(_PAUSE_SECONDS)

    def _acquire(self) -> bool:
        if self._is_ours():
            return False
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(self._handle)
            return False
        except BaseException:
            os.close(self._handle)
            raise
        _held[self._path] = os.getpid()
        with suppress(OSError):  # on a full disk others are not told who writes
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        return True

    def _holder(self) -> str:
        if self._is_ours():
            return f"this process ({os.getpid()}) already"
        pid = self._path.read_text().strip()
        return f"process {pid}" if pid else "another process"

    def release(self) -> None:
        """Let the next writer in."""
        if self._is_ours():
            del _held[self._path]
            os.ftruncate(self._handle, 0)
            os.close(self._handle)

    def _is_ours(self) -> bool:
        return _held.get(self._path) == os.getpid()
