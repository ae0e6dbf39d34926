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
    verb = "would be removed" if dry_run else "removed"
    n_failures = len(vanished.failures)
    terminal.note(
        f"{terminal.count(len(vanished.paths), 'path')} and "
        f"{terminal.count(len(vanished.tracks), 'track')} {verb}"
        + f", {terminal.count(n_failures, 'failed file')} forgotten"
        * bool(n_failures)
    )
