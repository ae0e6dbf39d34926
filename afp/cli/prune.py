"""``afp prune``."""

from pathlib import Path

import click

from afp.cli import options, terminal
from afp.cli.command import Command


@click.command(
    cls=Command,
    examples=(
        "afp prune --dry-run",
        "afp prune",
    ),
    exit_statuses={
        0: "Removed, or to be removed.",
        4: "The store cannot be used, or a disk seems not to be mounted; nothing is removed.",
    },
)
@options.store
@options.dry_run
@options.wait
@click.option("--force", is_flag=True, help="Also when it looks as if a disk were not mounted.")
def command(*, store_path: Path, dry_run: bool, wait_seconds: float, force: bool) -> None:
    """Remove tracks whose files are gone, and forget files that failed and are gone.

    To bring renamed files up to date, run `afp index` first: it recognises them.
    """
    from afp.library.upkeep import open_existing, prune

    with open_existing(store_path, write=not dry_run, wait_seconds=wait_seconds) as store:
        vanished = prune(store, dry_run=dry_run, force=force)
    for path in vanished.paths:
        terminal.tsv_line((path,))
    verb = "removed"
    if dry_run:
        verb = "missing" if vanished.refusal else "would be removed"
    n_failures = len(vanished.failures)
    terminal.note(
        f"{terminal.count(len(vanished.paths), 'path')} and "
        f"{terminal.count(len(vanished.tracks), 'track')} {verb}"
        + f", {terminal.count(n_failures, 'failed file')} forgotten"
        * (bool(n_failures) and vanished.refusal is None)
    )
    if vanished.refusal is not None:
        raise vanished.refusal
