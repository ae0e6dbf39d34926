"""Any source of audio as a regular file, which decoders may seek in."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, BinaryIO

from afp.errors import InputError

Source = str | os.PathLike[str] | BinaryIO

_WRITER_TIMEOUT_SECONDS = 10.0


def name_of(source: Source) -> str:
    """Name a source for messages."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and not name.startswith("<") else "standard input"


@contextmanager
def opened(source: Source) -> Iterator[int]:
    """Open a source once, so that every decoder sees the same bytes.

    A pipe or stream is copied to a temporary file without a name, which vanishes with the
    descriptor even when the process is killed.

    Yields
    ------
    int
        A descriptor of a regular file that is not empty, for the duration of the context.

    Raises
    ------
    InputError
        When the source cannot be read (``__cause__`` is then the OSError), is neither file nor
        pipe, or is empty.
    """
    name = name_of(source)
    with ExitStack() as stack:
        try:
            if isinstance(source, str | os.PathLike):
                descriptor = _open_path(os.fspath(source), name, stack)
            else:
                descriptor = _spool(source, stack)
            # Network file systems and failing disks may open a file and then not read it.
            is_empty = not os.pread(descriptor, 1, 0)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = error.strerror if isinstance(error, OSError) else None
            raise InputError(
                f"{name}: {reason or error}", hint="check the path and its permissions"
            ) from error
        if is_empty:
            raise InputError(f"{name}: is empty", hint="was it copied or downloaded completely?")
        yield descriptor


def _open_path(path: str, name: str, stack: ExitStack) -> int:
    # O_NONBLOCK: else a named pipe that nobody writes to blocks for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    if stat.S_ISDIR(mode):
        raise InputError(f"{name}: is a folder", hint="name the files in it")
    if not stat.S_ISFIFO(mode):
        raise InputError(f"{name}: is neither a file nor a pipe", hint="name an audio file")
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(_WRITER_TIMEOUT_SECONDS * 1000):
        raise InputError(
            f"{name}: nothing was written to this pipe for {_WRITER_TIMEOUT_SECONDS:.0f} s",
            hint="start the program that writes to it first",
        )
    os.set_blocking(descriptor, True)
    with open(descriptor, "rb", buffering=0, closefd=False) as pipe:
        return _spool(pipe, stack)


def _spool(stream: IO[bytes], stack: ExitStack) -> int:
    import shutil
    import tempfile

    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - so it is
    shutil.copyfileobj(stream, file, 1 << 20)
    file.flush()
    file.seek(0)
    return file.fileno()
