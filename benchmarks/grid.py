"""Index a corpus and query it under every condition: one row a query, no judgement yet."""

import io
import json
import os
import platform
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from conditions import CONDITIONS, Sounds, absent_sounds
from corpus import DEFAULT_AUDIO, F32, KEPT_OUT, RATE, Excerpt, draw, files, split

from afp import __version__
from afp.audio import ContentHash, decode
from afp.backends import Parameter
from afp.fingerprint import Match
from afp.library import DEFAULT_MAX_P, QueryResult, Searcher, index
from afp.store import Store

Row = dict[str, Any]

FULL_QUERIES = 200  # a cell
PRESENT, ABSENT, SOUNDS = "present", "absent", "sounds"


@dataclass(frozen=True, slots=True)
class Grid:
    """What is to be measured.

    Attributes
    ----------
    queries : int
        Queries a cell; the number of absent queries goes with it.
    seconds, conditions : tuple
        The cells.
    absent : bool
        Whether to look absent music and other sounds up too.
    """

    audio: Path = DEFAULT_AUDIO
    queries: int = FULL_QUERIES
    seconds: tuple[int, ...] = (3, 5, 10)
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    absent: bool = True
    backend: str = "shazam"
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    seed: int = 0
    jobs: int = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows and what they were made with."""

    about: dict[str, Any]
    rows: list[Row]


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    """What forked workers share."""

    grid: Grid
    store: Path
    sounds: Sounds
    excerpts: Mapping[tuple[str, int], list[Excerpt]]
    absent_sounds: Mapping[str, list[F32]]


_Task = tuple[str, str, int]  # PRESENT and ABSENT: condition, seconds; SOUNDS: kind, 0


def run(grid: Grid) -> Outcome:
    """Index, draw excerpts, distort them and query."""
    kept, out = split(grid.audio, grid.seed)
    with tempfile.TemporaryDirectory(prefix="afp-bench-") as folder:
        path = Path(folder) / "store"
        started = time.perf_counter()
        report = index(
            path,
            kept,
            backends=[grid.backend],
            parameters=grid.parameters,
            n_workers=grid.jobs,
        )
        for failure in report.failures:
            note(f"not indexed: {failure.file.path}: {failure.error}")
        note(f"{len(kept)} tracks indexed in {time.perf_counter() - started:.1f} s")
        with Store.open(path) as store, store.snapshot() as snapshot:
            stats = store.stats()
            out = [track for track in out if snapshot.track_by_content(_content(track)) is None]
            parameters = dict(snapshot.backends[grid.backend].parameters)
        material, n_silent = _material(grid, path, kept, out)
        rows = list(_query_all(material))
        with Store.open(path, write=True) as store:
            compacted = store.compact().bytes_after / stats.seconds
    about = {
        "afp": __version__,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "backend": grid.backend,
        "parameters": parameters,
        "queries_per_cell": grid.queries,
        "seed": grid.seed,
        "default_max_p": DEFAULT_MAX_P,
        "tracks": stats.tracks,
        "hours": round(stats.seconds / 3600, 3),
        "tracks_kept_out": len(out),
        "silent_excerpts_drawn_again": n_silent,
        "bytes_per_second": round(stats.bytes_per_second, 1),  # as indexing left it
        "bytes_per_second_compacted": round(compacted, 1),
    }
    return Outcome(about, rows)


def machine() -> dict[str, Any]:
    """Describe the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }


def note(text: str) -> None:
    """Tell on stderr how it goes."""
    print(text, file=sys.stderr, flush=True)


def _content(path: Path) -> str:
    content = ContentHash()
    with decode(path) as decoder:
        for block in decoder:
            content.update(block)
    return content.hexdigest()


def _material(grid: Grid, store: Path, kept: list[Path], out: list[Path]) -> tuple[_Material, int]:
    excerpts: dict[tuple[str, int], list[Excerpt]] = {}
    n_silent = 0
    n_absent = max(1, round(KEPT_OUT * 1.5 * grid.queries)) if grid.absent else 0
    for seconds in grid.seconds:
        for role, tracks, n in ((PRESENT, kept, grid.queries), (ABSENT, out, n_absent)):
            rng = np.random.default_rng([grid.seed, zlib.crc32(role.encode()), seconds])
            excerpts[role, seconds], silent = draw(tracks, n, seconds, rng)
            n_silent += silent
    sounds = Sounds.of(grid.audio)
    other: dict[str, list[F32]] = {}
    if grid.absent:
        rng = np.random.default_rng([grid.seed, zlib.crc32(SOUNDS.encode())])
        share = grid.queries / FULL_QUERIES
        other = absent_sounds(files(grid.audio, "speech"), sounds, rng, share)
    return _Material(grid, store, sounds, excerpts, other), n_silent


def _query_all(material: _Material) -> Iterator[Row]:
    grid = material.grid
    cells = [(name, seconds) for name in grid.conditions for seconds in grid.seconds]
    tasks: list[_Task] = [(PRESENT, *cell) for cell in cells]
    if grid.absent:
        tasks += [(ABSENT, *cell) for cell in cells]
        tasks += [(SOUNDS, kind, 0) for kind in material.absent_sounds]
    # Forked, so that the excerpts are shared; nothing of the store is open yet.
    with get_context("fork").Pool(grid.jobs, _start, (material,)) as pool:
        for done, rows in enumerate(pool.imap(_work, tasks), 1):
            yield from rows
            if done % 10 == 0 or done == len(tasks):
                note(f"{done} of {len(tasks)} cells")


class _Worker:
    """A process that queries."""

    def __init__(self, material: _Material) -> None:
        self.material = material
        store = Store.open(material.store)
        with store.snapshot() as snapshot:
            self.contents = {
                path: snapshot.track(entry.track_id).content_id
                for path, entry in snapshot.paths().items()
            }
        self.searcher = Searcher(store, material.grid.backend)
        rng = np.random.default_rng(0)
        self.searcher.query(_wav(0.1 * rng.standard_normal(5 * RATE, np.float32)))  # loads kernels

    def rows(self, task: _Task) -> Iterator[Row]:
        """Query one cell."""
        role, name, seconds = task
        if role == SOUNDS:
            for clip in self.material.absent_sounds[name]:
                yield {"kind": name, "seconds": round(len(clip) / RATE, 2), **self._ask(clip)}
            return
        for i, excerpt in enumerate(self.material.excerpts[role, seconds]):
            key = [self.material.grid.seed, zlib.crc32(f"{role} {name}".encode()), seconds, i]
            rng = np.random.default_rng(key)
            clip, speed = CONDITIONS[name].apply(
                excerpt.samples, seconds, rng, self.material.sounds
            )
            row: Row = {
                "condition": name,
                "seconds": seconds,
                "source": excerpt.path.name,
                "start": round(excerpt.start, 3),
                "level_db": excerpt.level_db,
            }
            if speed != 1.0:
                row["speed"] = round(speed, 5)
            if role == PRESENT:
                yield row | self._ask(clip, excerpt)
            else:
                yield {"kind": "music"} | row | self._ask(clip)

    def _ask(self, clip: F32, truth: Excerpt | None = None) -> Row:
        """Query as ``afp query`` does; where that names nothing right, also without threshold."""
        wav = _wav(clip)
        wall, cpu = time.perf_counter(), time.process_time()
        result = self.searcher.query(wav)
        row: Row = {
            "wall_ms": round(1e3 * (time.perf_counter() - wall), 1),
            "cpu_ms": round(1e3 * (time.process_time() - cpu), 1),
        }
        answer = _first(result)
        right = answer is not None and self._is_right(answer, truth)
        if answer is not None:
            row["answer"] = self._described(answer, truth)
        if not right:
            wav.seek(0)
            best = _first(self.searcher.query(wav, max_p=1.0))
            if best is not None:
                row["best"] = self._described(best, truth)
        return row

    def _is_right(self, match: Match, truth: Excerpt | None) -> bool:
        """Compare contents: the same recording may lie in several files."""
        return truth is not None and match.track.content_id == self.contents[str(truth.path)]

    def _described(self, match: Match, truth: Excerpt | None) -> Row:
        row: Row = {
            "track": Path(match.track.path).name,
            "at": round(match.track_start, 3),
            "score": round(float(match.score), 3),
            "p_false": float(f"{match.p_false:.3g}"),
            "speed": round(match.speed, 5),
        }
        if truth is not None:
            row["right"] = self._is_right(match, truth)
            if row["right"]:
                start = match.track_start - match.speed * match.query_start
                row["offset_error_ms"] = round(1e3 * (start - truth.start), 2)
        return row


def _first(result: QueryResult) -> Match | None:
    if result.error:
        raise SystemExit(f"a query could not be read: {result.error}")
    return result.matches[0] if result.matches else None


def _wav(clip: F32) -> io.BytesIO:
    """Write a clip as a 16-bit WAV file, turned down if it would clip."""
    peak = float(np.abs(clip).max(initial=0.0))
    stream = io.BytesIO()
    samples = clip / peak * np.float32(0.99) if peak > 0.99 else clip
    soundfile.write(stream, samples, RATE, format="WAV", subtype="PCM_16")
    stream.seek(0)
    return stream


_worker: _Worker


def _start(material: _Material) -> None:
    global _worker  # noqa: PLW0603 - one a process
    _worker = _Worker(material)


def _work(task: _Task) -> list[Row]:
    return list(_worker.rows(task))


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Write results where they are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    note(f"wrote {path}")
