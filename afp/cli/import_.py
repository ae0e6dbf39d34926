"""``afp import``."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from afp.cli import options
from afp.cli.command import Command
from afp.cli.receiving import receiving
from afp.errors import InputError


@click.command(
    cls=Command,
    examples=(
        "afp import music.afp",
        "ssh nas afp export | afp import -",
        "zcat music.afp.gz | afp import -d ~/new-store -",
    ),
    exit_statuses={
        0: "All is stored.",
        3: "A stream is cut short or damaged; what came before is stored.",
        4: "The store cannot be used, or was built with other parameters.",
        130: "Interrupted; what was finished is stored.",
    },
)
@click.argument(
    "files", nargs=-1, required=True, type=options.PathType(allow_dash=True), metavar="FILE..."
)
@options.store
@options.backends("Only fingerprints of this backend; may repeat.  [default: all in the stream]")
@options.wait
@options.json
def command(
    *,
    files: tuple[str, ...],
    store_path: Path,
    backends: tuple[str, ...],
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Add the tracks that `afp export` wrote to a store; - reads standard input.

    Tracks that the store has already stay as they are, and gain the fingerprints of backends that
    they lack. Paths are kept: `afp index` recognises a file by them, or by its audio. The same
    command goes on where an interrupted one stopped.
    """
    from afp.library.transfer import import_tracks

    with receiving("importing", store_path, as_json=as_json) as (report, observe, interruption):
        for file in files:
            # Opening a pipe waits for who writes to it.
            opened = interruption.unless_stopped(partial(_opened, file))
            if opened is None:
                report.interrupted = interruption.signal
                break
            with opened as stream:
                import_tracks(
                    store_path,
                    stream.fileno(),
                    "standard input" if file == "-" else file,
                    report=report,
                    backends=backends,
                    wait_seconds=wait_seconds,
                    observer=observe,
                    interruption=interruption,
                )


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(options.standard_input())
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
