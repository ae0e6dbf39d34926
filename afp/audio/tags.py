"""Title, artist and album, as a file's tags tell them."""

import os
import stat
from dataclasses import dataclass

_MAX_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Tags:
    """What a file says of itself: untrusted text, None where it says nothing.

    Attributes
    ----------
    title, artist, album : str or None
        Valid Unicode without NUL characters, at most 1,000 characters each. Other control
        characters are kept: whoever prints a tag strips them.
    """

    title: str | None = None
    artist: str | None = None
    album: str | None = None


def read_tags(path: str | os.PathLike[str]) -> Tags:
    """Read the tags of a file; a file without readable tags has empty ones, never an error."""
    import tinytag

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a pipe would block
            return Tags()
        found = tinytag.TinyTag.get(path, duration=False)
    except Exception:  # a parser that meets hostile bytes may raise anything
        return Tags()
    return Tags(_text(found.title), _text(found.artist), _text(found.album))


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    clean = value.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    return clean[:_MAX_LENGTH].strip() or None
