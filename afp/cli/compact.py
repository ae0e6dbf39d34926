"""``afp compact``."""

from pathlib import Path

import click

from afp.cli import options, terminal
from afp.cli.command import Command


@click.command(
    cls=Command,
    examples=("afp compact",),
)
@options.store
@options.wait
def command(*, store_path: Path, wait_seconds: float) -> None:
    """Rewrite the store in as little space as possible.

    The store looks after itself; this is for after many removals. Queries may go on meanwhile.
    """
    from afp.library.upkeep import open_existing

    with open_existing(store_path, write=True, wait_seconds=wait_seconds) as store:
        done = store.compact()
    terminal.note(
        f"{terminal.size(done.bytes_before)} before, {terminal.size(done.bytes_after)} after"
    )
