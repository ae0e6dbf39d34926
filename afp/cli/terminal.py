"""All output: data to stdout, everything else to stderr.

Nothing else in the command line prints. Rich is imported only to draw on a real terminal.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from afp.errors import AfpError

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, marks that turn the direction of writing, and undecodable bytes.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def is_interactive(stream: TextIO | None = None) -> bool:
    """Whether a person looks at the stream (stdout by default)."""
    return (stream or sys.stdout).isatty()


def printable(text: str) -> str:
    r"""Escape what could change the terminal's state: ``\x1b`` and its like."""
    return _UNSAFE.sub(lambda match: _escaped(match.group()), text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _write(text: str) -> None:
    """Write a line to stdout, undecodable bytes of paths as the bytes that they were."""
    try:
        sys.stdout.write(f"{text}\n")
    except UnicodeEncodeError:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="surrogateescape") + b"\n")


def line(text: str) -> None:
    """Print a line of data for people."""
    _write(printable(text))


def json_line(value: object) -> None:
    r"""Print one JSON object on a line of its own; undecodable bytes as ``\udcXX``."""
    text = json.dumps(value, ensure_ascii=False)
    _write(text.encode(errors="backslashreplace").decode())


def tsv_line(fields: Iterable[object]) -> None:
    r"""Print tab-separated fields; tab, newline and backslash in them as ``\t \n \\``."""
    _write("\t".join(str(field).translate(_TSV_ESCAPES) for field in fields))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Draw a table on the terminal.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : iterable of sequence of str
        Cells.
    right, whole : sequence of str
        Columns to align right, and columns never to break into several lines.
    """
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        drawn.add_column(column, justify=justify, overflow="fold", no_wrap=column in whole)
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    console().print(drawn)


def console(stream: TextIO | None = None) -> "Console":
    """Return a rich console on the stream (stdout by default)."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False)


def note(*lines: str) -> None:
    """Say something on stderr."""
    # Data that was printed before must not appear after it.
    sys.stdout.flush()
    for text in lines:
        print(printable(text), file=sys.stderr)


def warn(text: str) -> None:
    """Warn on stderr."""
    note(f"afp: warning: {text}")


def error(failure: AfpError) -> None:
    """Tell an error and what to do about it on stderr."""
    note(f"afp: error: {failure}")
    if failure.hint:
        note(f"hint: {failure.hint}")


def silence_stdout() -> None:
    """Send what is left to print nowhere: whoever read it has gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def clock(seconds: float) -> str:
    """Format a time in a recording: ``3:07.2``, ``1:02:03.0``."""
    tenths = round(seconds * 10)
    sign = "-" if tenths < 0 else ""
    minutes, tenths = divmod(abs(tenths), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{sign}{hours}:{minutes:02d}:{rest}" if hours else f"{sign}{minutes}:{rest}"


def duration(seconds: float) -> str:
    """Format a length: ``42 s``, ``3 min 7 s``, ``12 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def size(n_bytes: float) -> str:
    """Format a number of bytes: ``41.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB"


def probability(p: float) -> str:
    """Format a probability briefly: ``0.02``, ``3e-09``."""
    return f"{p:.1g}"


def count(n: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


JsonObject = dict[str, Any]
