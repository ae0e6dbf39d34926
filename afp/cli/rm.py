"""``afp rm``."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import UsageError

if TYPE_CHECKING:
    from afp.fingerprint import Track
    from afp.store import Snapshot


@click.command(
    cls=Command,
    examples=(
        "afp rm 12",
        "afp rm --dry-run ~/Music/jingle.mp3",
    ),
)
@click.argument("which", nargs=-1, required=True, metavar="ID|PATH|CONTENT...")
@options.store
@options.dry_run
@options.wait
def command(
    *, which: tuple[str, ...], store_path: Path, dry_run: bool, wait_seconds: float
) -> None:
    """Remove tracks from the store; the audio files stay as they are.

    A track is named by its id, by the path of one of its files, or by its content id.
    Nothing is removed when one of the names is unknown.
    """
    from afp.library.upkeep import open_existing

    with open_existing(store_path, write=not dry_run, wait_seconds=wait_seconds) as store:
        with store.snapshot() as snapshot:
            tracks = {track.id: track for track in (named(snapshot, name) for name in which)}
        if not dry_run:
            store.remove(list(tracks))
    for track in tracks.values():
        terminal.tsv_line((track.id, track.path))
    verb = "would be removed" if dry_run else "removed"
    terminal.note(f"{terminal.count(len(tracks), 'track')} {verb}")


def named(snapshot: "Snapshot", name: str) -> "Track":
    """Return the track that a user calls by its id, by a path or by its content id.

    Raises
    ------
    UsageError
        When there is none, or two are meant.
    """
    number = int(name) if re.fullmatch("[0-9]{1,20}", name) else -1
    by_name = snapshot.find_track(number)
    if by_name is None and re.fullmatch("[0-9a-f]{32}", name):
        by_name = snapshot.track_by_content(name)
    by_path = snapshot.track_by_path(os.path.abspath(name))  # noqa: PTH100 - links stay links
    if by_name is not None and by_path is not None and by_name.id != by_path.id:
        raise UsageError(
            f"{name!r} is a file in the store and also names track {by_name.id}, {by_name.path}",
            hint=f"./{name} is the file; for the other one, give its path",
        )
    track = by_name or by_path
    if track is None:
        raise UsageError(
            f"no track has the id, path or content id {name!r}", hint="afp ls lists them"
        )
    return track
