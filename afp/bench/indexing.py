"""The stores that a benchmark queries, and what it takes to make them."""

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from afp.backends import Parameter
from afp.bench.excerpts import Source
from afp.errors import InputError
from afp.library import FileOutcome, Interruption, Planned, Searcher, index
from afp.store import Snapshot, Store


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a store holds.

    Attributes
    ----------
    sources : list of Source
        Its files.
    content : frozenset of str
        Content ids of its tracks.
    seconds : float
        Their audio.
    """

    sources: list[Source]
    content: frozenset[str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What indexing took, of all processes together and on the clock."""

    cpu_seconds: float
    wall_seconds: float


def build(
    store: Path,
    music: Iterable[Path],
    backend: str,
    parameters: Mapping[str, Parameter],
    *,
    n_workers: int,
    observer: Callable[[Planned | FileOutcome], None],
    interruption: Interruption | None,
) -> Cost:
    """Index music for one backend; tell what it took, also when an interruption ended it early.

    Raises
    ------
    InputError
        When nothing could be indexed.
    UsageError, StoreError
        See `afp.library.index`.
    """
    before = _cpu_seconds()
    started = time.perf_counter()
    report = index(
        store,
        music,
        backends=[backend],
        parameters=parameters,
        n_workers=n_workers,
        in_order=True,
        observer=observer,
        interruption=interruption,
    )
    if not (report.audio_seconds or report.interrupted):
        raise InputError(
            f"none of {len(report.failures)} audio files could be indexed",
            hint=f"the first: {report.failures[0].error}" if report.failures else "",
        )
    return Cost(_cpu_seconds() - before, time.perf_counter() - started)


def describe(
    store: Path, backend: str | None = None, costs: Mapping[str, Cost] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the entry of a backend in `afp.bench.rows.About.backends`.

    Parameters
    ----------
    store : Path
        Where it is.
    backend : str, optional
        See `Searcher`. What is fused has the sum of its parts.
    costs : mapping of str to Cost
        What indexing took, as far as it was this run that did it.
    """
    with Store.open(store) as opened, Searcher(opened, backend) as searcher:
        stats = opened.stats()
        # What belongs to no one backend counts for each.
        shared = stats.file_bytes - sum(part.n_bytes for part in stats.indexes.values())
        own = [stats.indexes[part.name] for part in searcher.parts]
        seconds = max(index.seconds for index in own)
        taken = [costs[part.name] for part in searcher.parts if part.name in costs]
        return {
            "version": searcher.backend.version,
            "parameters": searcher.backend.parameters(),
            "bytes_per_second": round((sum(index.n_bytes for index in own) + shared) / seconds, 2)
            if seconds
            else 0.0,
            "index_cpu_seconds": round(sum(cost.cpu_seconds for cost in taken), 3),
            "index_wall_seconds": round(sum(cost.wall_seconds for cost in taken), 3),
        }


def contents(store: Path) -> Indexed:
    """List what a store holds.

    Raises
    ------
    InputError
        When that is nothing.
    """
    with Store.open(store) as opened, opened.snapshot() as snapshot:
        sources = list(_sources(snapshot))
        tracks = list(snapshot.tracks())
    if not tracks:
        raise InputError(f"{store}: no track in it", hint="index music first: afp index PATH")
    return Indexed(
        sources,
        frozenset(track.content_id for track in tracks),
        sum(track.duration_seconds for track in tracks),
    )


def _sources(snapshot: Snapshot) -> Iterable[Source]:
    for path, entry in sorted(snapshot.paths().items()):
        track = snapshot.track(entry.track_id)
        yield Source(path, track.content_id, track.duration_seconds)


def _cpu_seconds() -> float:
    """Tell the CPU time of this process and of all its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
