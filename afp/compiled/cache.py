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
        entries = directory.glob(f"{_stem(name)}-*")
        for old in sorted(entries, key=lambda entry: -entry.stat().st_mtime_ns)[ENTRIES_KEPT:]:
            old.unlink()


def _directories() -> Iterator[Path]:
    if os.environ.get("AFP_CACHE"):
        yield Path(os.environ["AFP_CACHE"])
        return
    yield Path(__file__).with_name("__pycache__")
    if sys.platform == "win32":
        user = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        user = str(Path("~/Library/Caches").expanduser())
    else:
        user = os.environ.get("XDG_CACHE_HOME", "")
        with suppress(RuntimeError):  # nobody's home
            user = user or str(Path("~/.cache").expanduser())
    if Path(user).is_absolute():
        yield Path(user, "afp")


def _stem(name: str) -> str:
    return re.sub(r"[^\w.]", "_", name)


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


@cache
def _warn_without_directory() -> None:
    places = ", ".join(map(str, _directories()))
    message = f"kernels are compiled anew in each process: cannot write to {places}; set AFP_CACHE"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
