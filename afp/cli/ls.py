"""``afp ls``."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from afp.cli import options, terminal
from afp.cli.command import Command

if TYPE_CHECKING:
    from afp.fingerprint import Track
    from afp.store import Store


@click.command(
    cls=Command,
    examples=(
        "afp ls",
        "afp ls miles --json | jq -r .path",
        "afp ls --failed",
    ),
)
@click.argument("text", default="")
@options.store
@click.option("--failed", is_flag=True, help="List the files that could not be indexed, and why.")
@options.json
def command(*, text: str, store_path: Path, failed: bool, as_json: bool) -> None:
    """List the tracks in the store, or those with TEXT in path, title, artist or album.

    Prints a table to a terminal; elsewhere lines of tab-separated fields: id, path, seconds,
    title, artist, backends, partial (why only a part could be decoded).
    """
    from afp.store import Store

    with Store.open(store_path) as store:
        if failed:
            _list_failures(store, text.casefold(), as_json=as_json)
            return
        with store.snapshot() as snapshot:
            found = (track for track in snapshot.tracks() if _has(track, text.casefold()))
            _list_tracks(found, as_json=as_json)


def _has(track: "Track", text: str) -> bool:
    fields = (track.path, track.title, track.artist, track.album)
    return not text or any(text in field.casefold() for field in fields if field)


def _list_tracks(tracks: "Iterable[Track]", *, as_json: bool) -> None:
    if as_json:
        for track in tracks:
            terminal.json_line(
                {
                    "id": track.id,
                    "path": track.path,
                    "seconds": round(track.duration_seconds, 4),
                    "title": track.title,
                    "artist": track.artist,
                    "backends": list(track.backends),
                    "partial": track.partial,
                }
            )
    elif terminal.is_interactive():
        rows = [
            (
                str(track.id),
                terminal.clock(track.duration_seconds).partition(".")[0],
                track.artist or "",
                track.title or "",
                track.path + (" (in part)" if track.partial else ""),
            )
            for track in tracks
        ]
        table = terminal.Table(("id", "length", "artist", "title", "path"), right=("id", "length"))
        table.draw(rows)
        terminal.note(terminal.count(len(rows), "track"))
    else:
        for track in tracks:
            terminal.tsv_line(
                (
                    track.id,
                    track.path,
                    f"{track.duration_seconds:.3f}",
                    track.title or "",
                    track.artist or "",
                    ",".join(track.backends),
                    track.partial or "",
                )
            )


def _list_failures(store: "Store", text: str, *, as_json: bool) -> None:
    found = [failure for failure in store.failures() if text in failure.path.casefold()]
    if as_json:
        for failure in found:
            terminal.json_line({"path": failure.path, "reason": failure.reason})
    elif terminal.is_interactive():
        terminal.Table(("path", "reason")).draw((f.path, f.reason) for f in found)
        terminal.note(terminal.count(len(found), "failed file"))
    else:
        for failure in found:
            terminal.tsv_line((failure.path, failure.reason))
