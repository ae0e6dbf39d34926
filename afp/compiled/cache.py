"""Where compiled kernels are kept between runs: one checksummed file per kernel and key."""

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

DIGEST_BYTES = 16
ENTRIES_KEPT = 4  # per kernel: several environments may share one cache


def cache_directory() -> Path | None:
    """Return where compiled kernels are written, None where no directory allows it.

    ``AFP_CACHE`` if set, else ``__pycache__`` beside this module, else the user's cache directory.
    """
    for directory in _directories():
        with suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
            if os.access(directory, os.W_OK):
                return directory
    return None


def read(name: str, key: str) -> bytes | None:
    """Return what was stored, None where there is nothing or it is damaged."""
    for directory in _directories():  # one that is read-only may well hold it
        with suppress(OSError):
            stored = (directory / f"{_stem(name)}-{key}.kernel").read_bytes()
            content = stored[DIGEST_BYTES:]
            if stored[:DIGEST_BYTES] == _checksum(content):
                return content
    return None


def write(name: str, key: str, content: bytes) -> None:
    """Store the machine code of a kernel, and drop what is long out of date."""
    directory = cache_directory()
    if directory is None:
        _warn_without_directory()
        return
    with suppress(OSError):  # a full disk, or another process that tidies up as well
        path = directory / f"{_stem(name)}-{key}.kernel"
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(_checksum(content) + content)
        unfinished.replace(path)
        for old in _out_of_date(directory, name):
            old.unlink()


def numba_folder(name: str, key: str) -> Path | None:
    """Return where numba itself may cache a kernel, None where no directory allows it."""
    import shutil

    directory = cache_directory()
    if directory is None:
        _warn_without_directory()
        return None
    folder = directory / "numba" / f"{_stem(name)}-{key}"
    with suppress(OSError):
        folder.mkdir(parents=True)
        for old in _out_of_date(folder.parent, name):
            shutil.rmtree(old)
    return folder


def _out_of_date(directory: Path, name: str) -> list[Path]:
    entries = directory.glob(f"{_stem(name)}-*")
    return sorted(entries, key=lambda entry: -entry.stat().st_mtime_ns)[ENTRIES_KEPT:]


def _directories() -> Iterator[Path]:
    if os.environ.get("AFP_CACHE"):
        yield Path(os.environ["AFP_CACHE"])
        return
    yield Path(__file__).with_name("__pycache__")
    user = os.environ.get("XDG_CACHE_HOME", "")
    if sys.platform == "darwin":
        user = "~/Library/Caches"
    elif not Path(user).is_absolute():  # to be ignored, says the XDG specification
        user = "~/.cache"
    with suppress(RuntimeError):  # nobody's home
        yield Path(user, "afp").expanduser()


def _stem(name: str) -> str:
    return re.sub(r"[^\w.]", "_", name)


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


@cache
def _warn_without_directory() -> None:
    places = ", ".join(map(str, _directories()))
    message = f"kernels are compiled anew in each process: cannot write to {places}; set AFP_CACHE"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
