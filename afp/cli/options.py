"""Options and arguments that several commands share."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from afp.errors import InputError, UsageError

if TYPE_CHECKING:
    from afp.backends import Parameter

Command = TypeVar("Command", bound=Callable[..., Any])


class PathType(click.Path):
    """A path, for the command to open and to complain about; an empty one is a usage error.

    An empty path is mostly a variable that is not set, and would mean the current folder.
    """

    def __init__(self, *, path_type: type = str, allow_dash: bool = False) -> None:
        super().__init__(path_type=path_type, allow_dash=allow_dash, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, unless it is empty."""
        if value == "":
            self.fail("a path is empty; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


class Probability(click.FloatRange):
    """A number from 0 to 1, or to less."""

    def __init__(self, *, largest: float = 1) -> None:
        super().__init__(0, largest)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, unless it is none: no bound holds for NaN."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is no number from 0 to {self.max:g}", param, ctx)
        return number


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
    type=PathType(path_type=Path),
    envvar="AFP_DB",
    default=default_store,
    show_default="$AFP_DB, else the user's data directory",
    help="Where the store is.",
)


def _one(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> str | None:
    """Return the only name: a second one would otherwise take the place of the first."""
    if len(names) > 1:
        raise UsageError(
            f"-b is given {len(names)} times: {', '.join(names)}",
            hint="name one, or -b fused for all that can check one another",
        )
    return names[0] if names else None


backend = click.option(
    "-b",
    "--backend",
    metavar="NAME",
    multiple=True,
    callback=_one,
    help="Backend, or fused for all that can check one another.  [default: the one the store has]",
)


def backends(help_text: str) -> Callable[[Command], Command]:
    """Make an option that takes backends."""
    return click.option(
        "-b", "--backend", "backends", multiple=True, metavar="NAME", help=help_text
    )


parameters = click.option(
    "-p",
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the backend, for a new store; may repeat. See `afp backends`.",
)

jobs = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes.  [default: one a core]",
)


def folder(name: str, help_text: str, *, multiple: bool = False) -> Callable[[Command], Command]:
    """Make an option that takes a folder, or several."""
    return click.option(
        f"--{name}",
        metavar="DIR",
        multiple=multiple,
        type=PathType(path_type=str if multiple else Path),
        help=help_text,
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


def parsed(parameter: str) -> tuple[str, "Parameter"]:
    """Read ``NAME=VALUE`` of ``-p``: a number, true or false, else a text.

    Raises
    ------
    UsageError
        Without an equals sign.
    """
    name, equals, text = parameter.partition("=")
    if not equals:
        raise UsageError(f"-p {parameter}: not NAME=VALUE", hint="afp backends lists the names")
    if text in ("true", "false"):
        return name, text == "true"
    for kind in (int, float):
        try:
            return name, kind(text)
        except ValueError:
            pass
    return name, text


def files_from(command: Command) -> Command:
    """Add ``--files-from`` and ``-0``; see `listed_paths`."""
    listing = click.option(
        "--files-from",
        metavar="FILE",
        type=PathType(allow_dash=True),
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
        For ``-0`` without ``--files-from``, or an empty path between NULs (blank lines are
        skipped); see also `standard_input`.
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
    if not null:
        yield from (os.fsdecode(line) for line in content.splitlines() if line.strip())
        return
    for number, path in enumerate(content.removesuffix(b"\0").split(b"\0") if content else (), 1):
        if not path:
            raise UsageError(
                f"path {number} of --files-from {listing} is empty",
                hint="-0 is for paths that each end with one NUL",
            )
        yield os.fsdecode(path)
