"""``afp stats``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from afp.cli import options, terminal
from afp.cli.command import Command

if TYPE_CHECKING:
    from afp.store.stats import IndexStats, StoreStats


@click.command(cls=Command, examples=("afp stats", "afp stats --json | jq .bytes_per_second"))
@options.store
@options.json
def command(*, store_path: Path, as_json: bool) -> None:
    """Tell what the store holds and what it costs.

    The selectivity of an index is the share of all postings that a random hash of a query
    touches: together with the number of postings it says how far the index scales.
    """
    from afp.store import Store

    with Store.open(store_path) as store:
        stats = store.stats()
    if as_json:
        terminal.json_line(_as_json(stats, store_path))
        return
    terminal.line(f"store       {store_path}")
    terminal.line(f"tracks      {stats.tracks:,} ({terminal.duration(stats.seconds)} of audio)")
    terminal.line(f"files       {stats.paths:,} ({stats.failures:,} more failed: afp ls --failed)")
    terminal.line(
        f"size        {terminal.size(stats.file_bytes)}, "
        f"{stats.bytes_per_second:,.0f} bytes a second of audio, everything included"
    )
    terminal.line(f"  catalogue   {terminal.size(stats.catalogue_bytes)}")
    terminal.line(f"  unused      {terminal.size(stats.free_bytes)} (afp compact gives it back)")
    for name, index in sorted(stats.indexes.items()):
        _print_index(name, index)


def _print_index(name: str, index: "IndexStats") -> None:
    backend = index.backend
    parameters = ", ".join(f"{key}={value}" for key, value in backend.parameters.items())
    terminal.line(
        f"backend     {name}, version {backend.version}" + f" ({parameters})" * bool(parameters)
    )
    terminal.line(
        f"  tracks      {index.tracks:,}"
        + f" ({index.tombstones:,} removed ones not purged yet)" * bool(index.tombstones)
    )
    terminal.line(
        f"  size        {terminal.size(index.n_bytes)}: "
        + ", ".join(f"{part} {terminal.size(size)}" for part, size in index.bytes.items())
    )
    parts = f"{terminal.count(index.segments, 'segment')} and {terminal.count(index.tails, 'tail')}"
    if index.postings:
        terminal.line(
            f"  postings    {index.postings:,} in {parts}, {index.bytes_per_posting:.2f} bytes each"
        )
    else:
        terminal.line(f"  parts       {parts}")
    terminal.line(f"  rate        {index.bytes_per_second:,.0f} bytes a second of audio")
    terminal.line(f"  100,000 such tracks would take {terminal.size(index.projected_bytes)}")
    if index.postings:
        terminal.line(
            f"  selectivity {index.selectivity:.2g}: a query hash touches "
            f"{index.selectivity * index.postings:,.3g} postings"
        )


def _as_json(stats: "StoreStats", store_path: Path) -> terminal.JsonObject:
    return {
        "store": str(store_path),
        "tracks": stats.tracks,
        "files": stats.paths,
        "failures": stats.failures,
        "seconds": stats.seconds,
        "bytes": stats.file_bytes,
        "bytes_per_second": stats.bytes_per_second,
        "catalogue_bytes": stats.catalogue_bytes,
        "free_bytes": stats.free_bytes,
        "backends": {
            name: {
                "version": index.backend.version,
                "parameters": index.backend.parameters,
                "tracks": index.tracks,
                "seconds": index.seconds,
                "postings": index.postings,
                "segments": index.segments,
                "tails": index.tails,
                "tombstones": index.tombstones,
                "bytes": index.bytes,
                "bytes_per_second": index.bytes_per_second,
                "bytes_per_posting": index.bytes_per_posting,
                "projected_bytes": index.projected_bytes,
                "selectivity": index.selectivity,
            }
            for name, index in stats.indexes.items()
        },
    }
