"""Options and arguments that several commands share."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from afp.errors import InputError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])


def default_store() -> Path:
    """Return where the store is kept when nobody says otherwise: among the user's data."""
    if sys.platform == "darwin":
        data = Path.home() / "Library/Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return data / "afp" / "store"


store = click.option(
    "-d",
    "--db",
    "store_path",
    metavar="DIR",
    type=click.Path(path_type=Path),
    envvar="AFP_DB",
    default=default_store,
    show_default="$AFP_DB, else the user's data directory",
    help="Where the store is.",
)

backend = click.option(
    "-b", "--backend", metavar="NAME", help="Backend.  [default: the one the store has]"
)

json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")

wait = click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="How long to wait while another process writes to the store.",
)

dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be removed.")


def files_from(command: Command) -> Command:
    """Add ``--files-from`` and ``-0``; see `listed_paths`."""
    listing = click.option(
        "--files-from",
        metavar="FILE",
        type=click.Path(allow_dash=True, path_type=str),
        help="Read more paths from FILE, one a line; - for standard input.",
    )
    null = click.option(
        "-0", "--null", is_flag=True, help="Paths in FILE end with NUL, as `find -print0` has it."
    )
    return listing(null(command))


def standard_input() -> BinaryIO:
    """Return standard input.

    Raises
    ------
    UsageError
        When the program was started without one, as some schedulers do.
    """
    if sys.stdin is None:
        raise UsageError("standard input is closed", hint="connect it, or name a file instead")
    return sys.stdin.buffer


def listed_paths(listing: str | None, *, null: bool) -> Iterator[str]:
    """Yield the paths that ``--files-from`` names.

    Raises
    ------
    UsageError
        For ``-0`` without ``--files-from``; see also `standard_input`.
    InputError
        When the list cannot be read.
    """
    if listing is None:
        if null:
            raise UsageError(
                "-0 needs --files-from", hint="find … -print0 | afp … -0 --files-from -"
            )
        return
    try:
        content = standard_input().read() if listing == "-" else Path(listing).read_bytes()
    except OSError as error:
        raise InputError(f"{listing}: {error.strerror}") from None
    for path in content.split(b"\0") if null else content.splitlines():
        if path:
            yield os.fsdecode(path)
