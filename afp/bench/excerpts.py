"""Excerpts of tracks, drawn by chance, from which queries are made."""

import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from afp.audio import ContentHash, Resampler, decode
from afp.bench.grid import PAST_SECONDS, RATE, Grid
from afp.distort import is_silent
from afp.errors import InputError, UsageError
from afp.fingerprint import F32

PAST = round(PAST_SECONDS * RATE)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that excerpts can be drawn from.

    Attributes
    ----------
    path : str
    track : str
        Content id of its audio.
    seconds : float
        Its length.
    """

    path: str
    track: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A stretch of a file.

    Attributes
    ----------
    kind : str
        `afp.bench.rows.PRESENT` or ``music``.
    number : int
        Of the excerpt in its kind.
    source : Source
    start : int
        Where it starts in the file, in samples at `RATE`.
    """

    kind: str
    number: int
    source: Source
    start: int

    @property
    def start_seconds(self) -> float:
        """Where it starts in the file, in seconds."""
        return self.start / RATE


@dataclass(frozen=True)
class Shelf:
    """The samples of all excerpts in one file that processes share.

    Attributes
    ----------
    path : Path
        Float32 samples at `RATE`, one excerpt after the other, each with `PAST_SECONDS` of
        context before it: zeros before the start of the file.
    slots : mapping of (str, int) to int
        Where the excerpt of a kind and number lies.
    length : int
        Samples of one excerpt with its past.
    shortest : int
        Samples that must not be silent.
    """

    path: Path
    slots: Mapping[tuple[str, int], int]
    length: int
    shortest: int

    @classmethod
    def of(cls, path: Path, grid: Grid, keys: Iterable[tuple[str, int]]) -> "Shelf":
        """Plan the room for excerpts of these kinds and numbers."""
        slots = {key: slot for slot, key in enumerate(sorted(keys))}
        return cls(path, slots, _length(grid), round(min(grid.seconds) * RATE))

    def make(self) -> None:
        """Make the file, with room for all that will be put there."""
        with self.path.open("wb") as file:
            n_bytes = 4 * self.length * max(len(self.slots), 1)
            if hasattr(os, "posix_fallocate"):
                # A disk that is full later would kill the worker that writes to the mapping.
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            file.truncate(n_bytes)

    @cached_property
    def _samples(self) -> F32:
        return np.memmap(
            self.path, np.float32, mode="r+", shape=(max(len(self.slots), 1), self.length)
        )

    def samples(self, kind: str, number: int) -> F32:
        """Return an excerpt with its past, to be read or written."""
        row: F32 = self._samples[self.slots[kind, number]]
        return row


def require_room(folder: Path, grid: Grid, n_excerpts: int) -> None:
    """Make sure that a folder has room for a shelf.

    Raises
    ------
    UsageError
        When it has not.
    """
    n_bytes, free_bytes = 4 * _length(grid) * n_excerpts, shutil.disk_usage(folder).free
    if n_bytes > free_bytes:
        raise UsageError(
            f"{folder}: the excerpts take {n_bytes / 1e6:,.0f} MB, and there are "
            f"{free_bytes / 1e6:,.0f} MB left",
            hint="make room, ask for fewer --queries, or name another folder with --out",
        )


def draw(sources: Sequence[Source], kind: str, number: int, attempt: int, grid: Grid) -> Excerpt:
    """Draw a file by chance, then a start in it by chance."""
    rng = grid.generator("excerpt", kind, number, attempt)
    source = sources[int(rng.integers(len(sources)))]
    last = (source.seconds - grid.reach_seconds) * RATE
    return Excerpt(kind, number, source, int(rng.random() * max(last, 0.0)))


def long_enough(sources: Sequence[Source], grid: Grid) -> list[Source]:
    """Keep the files that hold the longest excerpt."""
    return [source for source in sources if source.seconds > grid.reach_seconds + 0.1]


def measure(path: str) -> Source | None:
    """Decode a file to tell its content and length; None when it cannot be decoded."""
    content = ContentHash()
    try:
        with decode(Path(path)) as decoder:
            for block in decoder:
                content.update(block)
    except InputError:
        return None
    return Source(path, content.hexdigest(), decoder.duration_seconds)


def cut(excerpts: Sequence[Excerpt], shelf: Shelf) -> list[Excerpt]:
    """Put excerpts of one file on the shelf; return those that are silent.

    The file is streamed, however long it is, and no further than needed.

    Raises
    ------
    InputError
        When the file cannot be decoded any more.
    """
    rows = [(e.start - PAST, shelf.samples(e.kind, e.number)) for e in excerpts]
    for _, row in rows:
        row[:] = 0.0
    end = max(start for start, _ in rows) + shelf.length
    position = 0
    with decode(Path(excerpts[0].source.path)) as decoder:
        resampler = Resampler(decoder.sample_rate, RATE)
        for block in decoder:
            position = _copy(resampler.process(block), position, rows)
            if position >= end:
                break
        else:
            _copy(resampler.process(np.empty(0, np.float32), last=True), position, rows)
    return [
        excerpt
        for excerpt, (_, row) in zip(excerpts, rows, strict=True)
        if is_silent(row[PAST : PAST + shelf.shortest])
    ]


def _length(grid: Grid) -> int:
    """Count the samples of an excerpt with its past."""
    return PAST + math.ceil(grid.reach_seconds * RATE) + 1


def _copy(block: F32, position: int, rows: Sequence[tuple[int, F32]]) -> int:
    """Copy what a block that starts at a position holds of the rows; return where it ends."""
    end = position + len(block)
    for start, row in rows:
        low, high = max(start, position), min(start + len(row), end)
        if low < high:
            row[low - start : high - start] = block[low - position : high - position]
    return end
