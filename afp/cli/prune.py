"""``afp prune``."""

from pathlib import Path

import click

from afp.cli import options, terminal


@click.command()
@options.store
@options.dry_run
@click.option("--force", is_flag=True, help="Also when it looks as if a disk were not mounted.")
def command(store_path: Path, dry_run: bool, force: bool) -> None:
    """Remove tracks whose files are gone.

    To bring renamed files up to date, run `afp index` first: it recognises them.

    \b
    Examples:
      afp prune --dry-run
      afp prune
    """
    from afp.library.upkeep import prune
    from afp.store import Store

    with Store.open(store_path, write=not dry_run) as store:
        vanished = prune(store, dry_run=dry_run, force=force)
    for path in vanished.paths:
        terminal.tsv_line((path,))
    verb = "would be removed" if dry_run else "removed"
    terminal.note(
        f"{terminal.count(len(vanished.paths), 'path')} and "
        f"{terminal.count(len(vanished.tracks), 'track')} {verb}"
    )
