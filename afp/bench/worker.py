"""What a process of the benchmark does: cut excerpts, distort them, query."""

import io
import math
import time
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from afp.bench import unknown
from afp.bench.excerpts import PAST, Excerpt, Shelf, Source, cut, measure
from afp.bench.grid import RATE, Cell, Grid
from afp.bench.rows import PRESENT, Answer, Row, Truth
from afp.distort import Clip, Sounds
from afp.errors import AfpError
from afp.fingerprint import F32, Match
from afp.library import Searcher

MOST_ANSWERS = 10
_LOUDEST = 0.99


@dataclass(frozen=True, slots=True)
class Measure:
    """The job to tell what a file is."""

    path: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The job to cut excerpts out of one file."""

    excerpts: tuple[Excerpt, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """The job to distort excerpts, or to make unknown sounds, and to query with each.

    Attributes
    ----------
    cell : Cell
    kind : str
        Kind of the queries; see `afp.bench.rows.Row`.
    queries : tuple of (int, Excerpt or None)
        Numbers of the queries, and what they are made from.
    backends : tuple of str
        Whom to ask.
    """

    cell: Cell
    kind: str
    queries: tuple[tuple[int, Excerpt | None], ...]
    backends: tuple[str, ...]


Job = Measure | Cut | Ask
Result = Source | list[Excerpt] | list[Row] | AfpError | None


@dataclass(frozen=True, slots=True)
class Material:
    """What all processes work with.

    Attributes
    ----------
    grid : Grid
    sounds : Sounds
    shelf : Shelf
    stores : mapping of str to Path
        The store of each backend.
    """

    grid: Grid
    sounds: Sounds
    shelf: Shelf
    stores: Mapping[str, Path]


def start(material: Material) -> Callable[[Job], Result]:
    """Return what works a job off, in a process of its own."""
    return _Worker(material).work


class _Worker:
    def __init__(self, material: Material) -> None:
        self._material = material
        self._grid = material.grid
        self._named = cache(material.grid.named)
        self._searchers: dict[str, Searcher] = {}

    def work(self, job: Job) -> Result:
        """Work a job off; an error is returned rather than raised."""
        try:
            if isinstance(job, Measure):
                return measure(job.path)
            if isinstance(job, Cut):
                return cut(job.excerpts, self._material.shelf)
            return [
                row for number, excerpt in job.queries for row in self._rows(job, number, excerpt)
            ]
        except AfpError as error:
            return error
        except Exception as error:  # such as a fault in a backend, of which nobody would hear
            return AfpError(f"{type(error).__name__}: {error}")

    def _searcher(self, backend: str) -> Searcher:
        """Open a store once, and let the first query, which loads kernels, be nobody's."""
        if backend not in self._searchers:
            searcher = Searcher.open(self._material.stores[backend], backend)
            noise = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE, np.float32)
            searcher.query(wav(noise))
            self._searchers[backend] = searcher
        return self._searchers[backend]

    def _rows(self, job: Ask, number: int, excerpt: Excerpt | None) -> list[Row]:
        """Make one query and ask every backend."""
        distortion, seconds = job.cell.distortion, job.cell.seconds
        # Severities of one distortion share their chance: only the severity tells them apart.
        rng = self._grid.generator(distortion.name, job.kind, number)
        searchers = [self._searcher(backend) for backend in job.backends]
        started = time.perf_counter()
        clip = self._clip(job, number, excerpt)
        truth = None
        if excerpt is not None:
            clip = distortion.apply(clip, self._material.sounds, rng)
            if job.kind == PRESENT:
                begin = excerpt.start_seconds + clip.delay_seconds
                truth = Truth(excerpt.source.track, begin, clip.speed)
        distort_ms = 1e3 * (time.perf_counter() - started)
        query = wav(clip.body())
        rows = []
        for searcher in searchers:
            query.seek(0)
            wall, cpu = time.perf_counter(), time.process_time()
            result = searcher.query(query, limit=MOST_ANSWERS, max_p=1.0)
            row = Row(
                backend=searcher.backend.name,
                version=searcher.backend.version,
                parameters=searcher.backend.parameters(),
                condition=distortion.condition,
                distortion=distortion.name,
                severity=dict(distortion.severity),
                seconds=seconds,
                kind=job.kind,
                number=number,
                seed=self._grid.seed,
                source=self._named(excerpt.source.path) if excerpt is not None else "",
                start=excerpt.start_seconds if excerpt is not None else 0.0,
                truth=truth,
                answers=tuple(map(self._answer, result.matches)),
                drawn=dict(clip.drawn),
                error=result.error,
                distort_ms=distort_ms,
                query_ms=1e3 * (time.perf_counter() - wall),
                query_cpu_ms=1e3 * (time.process_time() - cpu),
            )
            rows.append(Row.from_json(row.to_json()))  # rounded, as it will be read back
        return rows

    def _answer(self, match: Match) -> Answer:
        return Answer(
            track=match.track.content_id,
            path=self._named(match.track.path),
            start=match.track_start - match.speed * match.query_start,
            score=float(match.score),
            p_false=float(match.p_false),
            speed=match.speed,
        )

    def _clip(self, job: Ask, number: int, excerpt: Excerpt | None) -> Clip:
        length = round(job.cell.seconds * RATE)
        if excerpt is None:
            rng = self._grid.generator("unknown", job.kind, number, length)
            samples = unknown.make(job.kind, length, RATE, rng, self._material.sounds)
            return Clip(samples, RATE, past=0, length=length)
        reach = PAST + math.ceil(job.cell.distortion.reach_seconds(job.cell.seconds) * RATE)
        samples = self._material.shelf.samples(job.kind, number)[: reach + 1]
        return Clip(np.array(samples), RATE, past=PAST, length=length)


def wav(samples: F32) -> io.BytesIO:
    """Write samples at `RATE` as a 16-bit WAV file, turned down where they would overload."""
    peak = float(np.abs(samples).max(initial=0.0))
    scale = 32767 * min(1.0, _LOUDEST / peak if peak else 1.0)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * np.float32(scale)).astype("<i2").tobytes())
    stream.seek(0)
    return stream
