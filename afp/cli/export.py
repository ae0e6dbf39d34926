"""``afp export``."""

import sys
from pathlib import Path

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.cli.rm import named
from afp.errors import ExitCode, UsageError


@click.command(
    cls=Command,
    examples=(
        "afp export > music.afp",
        "afp export -b shazam ~/Music/a.flac | gzip > a.afp.gz",
        "ssh nas afp export | afp import -",
    ),
    exit_statuses={
        0: "All is written.",
        3: "Some tracks are too long for a stream; the rest is written.",
        4: "The store cannot be used, or is damaged; the stream is cut short.",
    },
)
@click.argument("which", nargs=-1, metavar="[ID|PATH|CONTENT]...")
@options.store
@options.backends("Only fingerprints of this backend; may repeat.  [default: all]")
def command(*, which: tuple[str, ...], store_path: Path, backends: tuple[str, ...]) -> None:
    """Write tracks with their fingerprints to standard output, for `afp import`.

    All tracks, or those that are named as for `afp rm`. No audio is needed, nor written. The
    output is JSON Lines: one object a track, with a checksum.
    """
    if terminal.is_interactive():
        raise UsageError("this is for no terminal", hint="afp export > music.afp")
    from afp.cli.progress import TransferProgress
    from afp.library.transfer import export
    from afp.store import Store

    with Store.open(store_path) as store, store.snapshot() as snapshot:
        ids = [named(snapshot, name).id for name in which] or None
        with TransferProgress("exporting", shown=terminal.is_interactive(sys.stderr)) as progress:
            left_out = export(
                snapshot,
                terminal.write_bytes,
                track_ids=ids,
                backends=backends,
                observer=progress.update,
            )
    for reason in left_out:
        terminal.warn(f"left out: {reason}")
    if left_out:
        raise SystemExit(ExitCode.INPUT)
