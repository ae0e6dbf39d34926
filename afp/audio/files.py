"""Audio files, found in folders."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from afp.errors import InputError

_EXTENSIONS = (
    "3g2 3gp aac ac3 aif aifc aiff amr ape asf au avi bwf caf dsf dts eac3 f4a flac flv gsm m2a "
    "m4a m4b m4r mka mkv mov mp2 mp3 mp4 mpa mpc mpga nist oga ogg oma opus ra rf64 rm shn snd "
    "spx tak tta voc w64 wav wave weba webm wma wv"
)
SUFFIXES = frozenset(f".{extension}" for extension in _EXTENSIONS.split())


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A file that may hold audio, as its directory describes it.

    Attributes
    ----------
    path : str
        As it was named or found (undecodable bytes as surrogate escapes).
    size : int
        In bytes.
    mtime_ns : int
        Modification time in nanoseconds.
    """

    path: str
    size: int
    mtime_ns: int


def walk(
    paths: Iterable[str | os.PathLike[str]],
    *,
    on_error: Callable[[str, InputError], None] | None = None,
) -> Iterator[AudioFile]:
    """Find audio files: one stat call each, in an order that depends on their names alone.

    A file that is named is taken whatever its name ends in, unless it is a pipe, a device or a
    socket, which reading could block or change. Folders are searched to the bottom for names
    that end in one of `SUFFIXES`; what starts with a dot is left out. Links are followed, but no
    folder is searched twice, so that a loop of links ends.

    Parameters
    ----------
    paths : iterable of path
        Files and folders.
    on_error : callable, optional
        Called with a path that cannot be looked at and why; the walk then goes on. Without it
        the first such path raises.

    Yields
    ------
    AudioFile
        A file reached by two names (links) comes twice, one that was also named only once.

    Raises
    ------
    InputError
        For a missing or unreadable path, when ``on_error`` is None.
    """

    def report(path: str, error: OSError) -> None:
        problem = InputError(
            f"{path}: {error.strerror or error}",
            hint="check the path and its permissions",
        )
        if on_error is None:
            raise problem from error
        on_error(path, problem)

    names = list(dict.fromkeys(os.fspath(path) for path in paths))
    named = frozenset(names)
    visited: set[tuple[int, int]] = set()
    for name in names:
        try:
            status = os.stat(name)  # noqa: PTH116 - str in, str out: millions of paths
        except (OSError, ValueError) as error:
            report(name, error if isinstance(error, OSError) else OSError(0, str(error)))
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _search(name, status, named, visited, report)
        elif not stat.S_ISREG(status.st_mode):
            report(name, OSError(0, "is neither a file nor a folder"))
        else:
            yield AudioFile(name, status.st_size, status.st_mtime_ns)


def _search(
    root: str,
    status: os.stat_result,
    named: frozenset[str],
    visited: set[tuple[int, int]],
    report: Callable[[str, OSError], None],
) -> Iterator[AudioFile]:
    """Search one folder, depth first."""

    def entries(folder: str, status: os.stat_result) -> Iterator[os.DirEntry[str]]:
        identity = status.st_dev, status.st_ino
        if identity in visited:
            return iter(())
        visited.add(identity)
        with os.scandir(folder) as found:
            return iter(sorted(found, key=lambda entry: entry.name))

    try:
        stack = [entries(root, status)]
    except OSError as error:
        report(root, error)
        return
    while stack:  # not recursion: folders nest deeper than Python's stack
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir():
                stack.append(entries(entry.path, entry.stat()))
            elif PurePath(entry.name).suffix.lower() in SUFFIXES and entry.path not in named:
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield AudioFile(entry.path, status.st_size, status.st_mtime_ns)
        except OSError as error:
            report(entry.path, error)
