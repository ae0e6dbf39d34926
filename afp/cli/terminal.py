"""All output: data to stdout, everything else to stderr.

Nothing else in the command line prints. Rich is imported only to draw on a real terminal.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, TextIO

from afp.errors import AfpError, OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Control characters, line separators, marks that turn the direction of writing, undecodable bytes.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MIN_TEXT_WIDTH = 12  # columns of a terminal, for each column of a table that may be folded
_UNDECODABLE = range(0xDC80, 0xDD00)  # bytes of a file name, as surrogate escapes
_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def is_interactive(stream: TextIO | None = None) -> bool:
    """Whether a person looks at the stream (stdout by default)."""
    return (stream or sys.stdout).isatty()


def printable(text: str) -> str:
    r"""Escape what could change the terminal's state: ``\x1b`` and its like."""
    return _UNSAFE.sub(lambda match: _escaped(match.group()), text)


def _escaped(character: str) -> str:
    code = ord(character)
    if code in _UNDECODABLE:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"  # \x is a byte, \u a character


@contextmanager
def writing() -> Iterator[None]:
    """Tell what is wrong with stdout, but for a reader that has gone.

    Raises
    ------
    OutputError
        When the disk behind it is full or broken.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()  # else the interpreter complains once more as it ends
        raise OutputError(
            f"standard output: {(error.strerror or str(error)).lower()}",
            hint="make room there, or send it elsewhere",
        ) from error


def flush() -> None:
    """Write to stdout what is still in memory."""
    with writing():
        sys.stdout.flush()


def _write(text: str) -> None:
    """Write a line to stdout, undecodable bytes of paths as the bytes that they were."""
    with writing():
        try:
            sys.stdout.write(f"{text}\n")
        except UnicodeEncodeError:
            sys.stdout.flush()
            sys.stdout.buffer.write(text.encode(errors="surrogateescape") + b"\n")


def write_bytes(data: bytes) -> None:
    """Write data for programs as it is."""
    with writing():
        sys.stdout.buffer.write(data)


def line(text: str) -> None:
    """Print a line of data for people."""
    _write(printable(text))


def json_line(value: object) -> None:
    r"""Print one JSON object on a line of its own; what `printable` escapes as ``\uXXXX``."""
    text = json.dumps(value, ensure_ascii=False)
    _write(_UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text))


def tsv_line(fields: Iterable[object]) -> None:
    r"""Print tab-separated fields; tab, newline and backslash in them as ``\t \n \\``.

    Other control characters are escaped too: ``printf %b`` undoes it all. Undecodable bytes are,
    on a terminal; a pipe gets them as they are, to go on with.
    """
    escaped = [str(field).translate(_TSV_ESCAPES) for field in fields]
    _write("\t".join(map(printable if is_interactive() else _controls_escaped, escaped)))


def _controls_escaped(text: str) -> str:
    """Escape what `printable` does, but for undecodable bytes."""

    def replaced(match: re.Match[str]) -> str:
        character = match.group()
        return character if ord(character) in _UNDECODABLE else _escaped(character)

    return _UNSAFE.sub(replaced, text)


class Table:
    """A table on the terminal, drawn at once or piece by piece.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    right, whole : sequence of str
        Columns to align right, and columns never to break into several lines.
    widths : mapping of str to int
        What columns take, where there is room, so that the pieces are alike; columns that are
        never to be broken take more where they must.
    dropped : sequence of str
        Columns to leave out, in this order, until the text beside them has room.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        right: Sequence[str] = (),
        whole: Sequence[str] = (),
        widths: Mapping[str, int] | None = None,
        dropped: Sequence[str] = (),
    ) -> None:
        self._columns, self._right, self._whole = columns, right, whole
        self._widths, self._dropped = widths or {}, dropped
        self._has_heading = False

    def draw(self, rows: Iterable[Sequence[str]]) -> None:
        """Draw the next rows, below the headings when they are the first."""
        from rich.table import Table as Drawing
        from rich.text import Text

        cells = [[Text(printable(cell)) for cell in row] for row in rows]
        if not cells:
            return
        target = console()
        widths = self._fitted(
            {
                name: self._wanted(name, column)
                for name, column in zip(self._columns, zip(*cells, strict=True), strict=True)
            },
            target.width,
        )
        drawing = Drawing(
            box=None, header_style="bold", pad_edge=False, show_header=not self._has_heading
        )
        for name, width in widths.items():
            justify: Literal["left", "right"] = "right" if name in self._right else "left"
            drawing.add_column(name, justify=justify, overflow="fold", width=width)
        for row in cells:
            shown = zip(self._columns, row, strict=True)
            drawing.add_row(*(cell for name, cell in shown if name in widths))
        target.print(drawing)
        self._has_heading = True

    def _wanted(self, name: str, column: "Iterable[Text]") -> int:
        width = self._widths.get(name)
        if width is not None and name not in self._whole:
            return max(width, len(name))
        return max(width or 0, len(name), *(cell.cell_len for cell in column))

    def _fitted(self, wanted: dict[str, int], room: int) -> dict[str, int]:
        """Choose columns and their widths: the whole ones as wanted, for the others the rest."""
        widths, dropped = dict(wanted), list(self._dropped)
        while True:
            texts = sorted((n for n in widths if n not in self._whole), key=wanted.__getitem__)
            text_width = sum(widths[name] for name in texts)
            left = room - 2 * (len(widths) - 1) - (sum(widths.values()) - text_width)
            if not dropped or left >= min(text_width, MIN_TEXT_WIDTH * len(texts)):
                break
            del widths[dropped.pop(0)]
        # The narrowest first: what it does not need is for the wider ones.
        for n_before, name in enumerate(texts):
            widths[name] = max(1, min(widths[name], left // (len(texts) - n_before)))
            left -= widths[name]
        return widths


def console(stream: TextIO | None = None) -> "Console":
    """Return a rich console on the stream (stdout by default)."""
    from rich.console import Console

    # Rich would only leave out the colours, and still write bold.
    styles: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=stream or sys.stdout, highlight=False, color_system=styles)


def note(*lines: str) -> None:
    """Say something on stderr."""
    flush()  # data that was printed before must not appear after it
    with suppress(OSError):  # nobody can be told
        for text in lines:
            print(printable(text), file=sys.stderr)


def warn(text: str) -> None:
    """Warn on stderr."""
    note(f"afp: warning: {text}")


def show_warning(message: Warning | str, *_place: Any, **_more: Any) -> None:
    """Show what `warnings.warn` tells as `warn` does; goes in place of its ``showwarning``."""
    warn(str(message))


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
