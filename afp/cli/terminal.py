"""All output: data to stdout, everything else to stderr.

Nothing else in the command line prints. Rich is imported only to draw on a real terminal.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO

from afp.errors import AfpError

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, line separators, marks that turn the direction of writing, undecodable bytes.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
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
    r"""Print one JSON object on a line of its own; what `printable` escapes as ``\uXXXX``."""
    text = json.dumps(value, ensure_ascii=False)
    _write(_UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text))


def tsv_line(fields: Iterable[object]) -> None:
    r"""Print tab-separated fields; tab, newline and backslash in them as ``\t \n \\``.

    A pipe gets all else as it is, to go on with; a terminal gets what is `printable`.
    """
    escaped = [str(field).translate(_TSV_ESCAPES) for field in fields]
    _write("\t".join(map(printable, escaped) if is_interactive() else escaped))


class Table:
    """A table on the terminal, drawn at once or piece by piece.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    right, whole : sequence of str
        Columns to align right, and columns never to break into several lines.
    widths : mapping of str to int
        What columns take at least, where there is room, so that the pieces are alike.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        right: Sequence[str] = (),
        whole: Sequence[str] = (),
        widths: Mapping[str, int] | None = None,
    ) -> None:
        self._columns, self._right, self._whole = columns, right, whole
        self._widths = widths or {}
        self._has_heading = False

    def draw(self, rows: Iterable[Sequence[str]]) -> None:
        """Draw the next rows, below the headings when they are the first."""
        from rich.table import Table as Drawing
        from rich.text import Text

        target = console()
        room = target.width - 2 * len(self._columns)
        wanted = sum(max(self._widths.get(name, 0), len(name)) for name in self._columns)
        drawing = Drawing(
            box=None, header_style="bold", pad_edge=False, show_header=not self._has_heading
        )
        for name in self._columns:
            justify: Literal["left", "right"] = "right" if name in self._right else "left"
            drawing.add_column(
                name,
                justify=justify,
                overflow="fold",
                no_wrap=name in self._whole,
                min_width=self._widths.get(name) if wanted <= room else None,
            )
        for row in rows:
            drawing.add_row(*(Text(printable(cell)) for cell in row))
        if drawing.row_count:
            target.print(drawing)
            self._has_heading = True


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
