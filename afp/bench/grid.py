"""What a benchmark is to measure."""

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from afp import __version__
from afp.audio import walk
from afp.backends import Parameter
from afp.distort import Distortion
from afp.library.fusion import FUSED

RATE = 16_000
"""Sample rate of the queries in Hz."""

PAST_SECONDS = 2.0
"""Music before a query: what a room still answers to when it begins."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Queries under one distortion, of one length."""

    distortion: Distortion
    seconds: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Everything that decides what the rows of a run will be.

    Attributes
    ----------
    music : tuple of Path
        Files to index, and to keep out.
    distractors : tuple of Path
        Files to index beside them, that no query is of.
    distortions : tuple of Distortion
    seconds : tuple of float
        Lengths of queries.
    queries : int
        Queries of indexed tracks in each cell.
    backends : mapping of str to parameters
        With those parameters that are not the default.
    parts : mapping of str to parameters
        The same of those that ``fused`` joins, where it is among the backends.
    absent : float
        Share of the tracks that is kept out; of them as many queries come in proportion.
    noise, rooms, speech : Path or None
        Folders of recordings.
    store : Path or None
        A store to query as it is, instead of a temporary one.
    seed : int
    """

    music: tuple[Path, ...]
    distortions: tuple[Distortion, ...]
    seconds: tuple[float, ...] = (5.0,)
    queries: int = 100
    backends: Mapping[str, Mapping[str, Parameter]] = field(default_factory=lambda: {"shazam": {}})
    parts: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)
    absent: float = 0.2
    noise: Path | None = None
    rooms: Path | None = None
    speech: Path | None = None
    store: Path | None = None
    seed: int = 0
    distractors: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if any(seconds != round(seconds, 4) for seconds in self.seconds):
            raise ValueError(f"lengths in steps of 0.0001 s, please, not {self.seconds}")

    @property
    def indexed(self) -> dict[str, Mapping[str, Parameter]]:
        """Whom tracks are indexed for: the backends, but for what is fused its parts."""
        own = {name: values for name, values in self.backends.items() if name != FUSED}
        return {**self.parts, **own} if FUSED in self.backends else own

    @property
    def cells(self) -> Iterator[Cell]:
        """Yield the cells, lengths within distortions."""
        return (Cell(d, seconds) for d in self.distortions for seconds in self.seconds)

    @property
    def n_absent(self) -> int:
        """Queries of tracks that are kept out, in each cell."""
        return max(1, round(self.queries * self.absent / (1 - self.absent))) if self.absent else 0

    def absent_numbers(self, distortion: Distortion) -> range:
        """Give numbers to the queries of absent music under a distortion, each its own.

        Distortions are compared on the same excerpts of indexed tracks, but there is nothing to
        compare in what must give no answer; different excerpts tell more.
        """
        step = len(self.distortions)
        first = self.distortions.index(distortion)
        return range(first, first + step * self.n_absent, step)

    @property
    def reach_seconds(self) -> float:
        """How much of a track the longest query may need, from where it starts."""
        return max(d.reach_seconds(max(self.seconds)) for d in self.distortions)

    def named(self, path: str) -> str:
        """Name a file by its path below the folder that holds all music, for rows to be shared."""
        parents = {str(music.parent) for music in self.music}
        root = os.path.commonpath(parents) if parents else ""
        return os.path.relpath(path, root) if root and path.startswith(f"{root}/") else path

    def generator(self, *names: str | int) -> np.random.Generator:
        """Return the generator of one purpose, which no other purpose shares."""
        words = [zlib.crc32(n.encode()) if isinstance(n, str) else n for n in names]
        return np.random.default_rng([self.seed, *words])

    def as_json(self) -> dict[str, Any]:
        """Say in JSON what decides the rows; runs that agree in it go on from one another.

        Files are told by their paths and sizes.

        Raises
        ------
        InputError
            When a folder of recordings is not there.
        """
        folders = {"noise": self.noise, "rooms": self.rooms, "speech": self.speech}
        return {
            "afp": __version__,
            "music": _identity(self.music),
            "distortions": [distortion.condition for distortion in self.distortions],
            "seconds": list(self.seconds),
            "queries": self.queries,
            "backends": {name: dict(values) for name, values in self.backends.items()},
            "parts": {name: dict(values) for name, values in self.parts.items()},
            "absent": self.absent,
            **{
                name: folder and [str(folder.absolute()), *_identity(_files_in(folder))]
                for name, folder in folders.items()
            },
            "store": self.store and str(self.store.absolute()),
            "seed": self.seed,
            "distractors": _identity(self.distractors),
        }


def _files_in(folder: Path) -> Iterator[Path]:
    return (Path(file.path) for file in walk([folder]))


def _identity(paths: Iterable[Path]) -> list[int]:
    """Count files, and sum up their paths and sizes."""
    checksum = n = 0
    for n, path in enumerate(paths, 1):  # noqa: B007
        size = path.stat().st_size if path.exists() else -1
        words = f"{path.absolute()}\0{size}\0".encode("utf-8", "surrogateescape")
        checksum = zlib.crc32(words, checksum)
    return [n, checksum]
