"""``afp check``."""

from pathlib import Path

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import ExitCode


@click.command(
    cls=Command,
    examples=("afp check", "afp check --repair && afp index ~/Music"),
    exit_statuses={0: "It is whole, or is now.", 4: "It is not, or cannot be used."},
)
@options.store
@click.option(
    "--repair",
    "repairing",
    is_flag=True,
    help="Drop what is damaged; `afp index` then takes the music that it was made from again.",
)
@options.wait
def command(*, store_path: Path, repairing: bool, wait_seconds: float) -> None:
    """Verify that the store is whole: every checksum, every cross-reference.

    Prints one line a fault; with --repair one for all that was done, and for each fault left.
    """
    from afp.library.upkeep import open_existing

    with open_existing(store_path, write=repairing, wait_seconds=wait_seconds) as store:
        done = store.repair() if repairing else []
        for line in done:
            terminal.line(line)
        if done:
            terminal.note("now `afp index` the music again: it takes what is missing")
        faults = store.check()
    for fault in faults:
        terminal.line(fault)
    if faults:
        terminal.note(f"{terminal.count(len(faults), 'fault')} in {store_path}")
        raise SystemExit(ExitCode.STORE)
    terminal.note(f"{store_path} is whole")
