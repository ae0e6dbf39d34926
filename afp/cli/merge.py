"""``afp merge``."""

from pathlib import Path

import click

from afp.cli import options
from afp.cli.command import Command
from afp.cli.receiving import receiving


@click.command(
    cls=Command,
    examples=("afp merge /nas/store", "afp merge -d all-music one-store another-store"),
    exit_statuses={
        0: "All is stored.",
        4: "A store cannot be used, or was built with other parameters.",
        130: "Interrupted; what was finished is stored.",
    },
)
@click.argument(
    "others",
    nargs=-1,
    required=True,
    type=options.PathType(path_type=Path),
    metavar="OTHER...",
)
@options.store
@options.wait
@options.json
def command(
    *, others: tuple[Path, ...], store_path: Path, wait_seconds: float, as_json: bool
) -> None:
    """Add all tracks of other stores to the store, which is made where there is none.

    The others are only read. Of a track that several stores have, the first one's paths and tags
    stay. Removed tracks and failed files are not taken over. The same command goes on where an
    interrupted one stopped.
    """
    from afp.library.transfer import merge

    with receiving("merging", store_path, as_json=as_json) as (report, observe, interruption):
        merge(
            store_path,
            others,
            report=report,
            wait_seconds=wait_seconds,
            observer=observe,
            interruption=interruption,
        )
