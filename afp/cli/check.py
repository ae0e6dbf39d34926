"""``afp check``."""

from pathlib import Path

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import ExitCode


@click.command(
    cls=Command,
    examples=("afp check",),
    exit_statuses={0: "It is whole.", 4: "It is not, or cannot be used."},
)
@options.store
def command(*, store_path: Path) -> None:
    """Verify that the store is whole: every checksum, every cross-reference.

    Prints one line a fault.
    """
    from afp.store import Store

    with Store.open(store_path) as store:
        faults = store.check()
    for fault in faults:
        terminal.line(fault)
    if faults:
        terminal.note(f"{terminal.count(len(faults), 'fault')} in {store_path}")
        raise SystemExit(ExitCode.STORE)
    terminal.note(f"{store_path} is whole")
