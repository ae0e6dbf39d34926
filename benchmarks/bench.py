"""What ``afp bench`` itself costs.

    python benchmarks/bench.py
    python benchmarks/bench.py --clips 20 --queries 4 --out /tmp/b

Clips are distorted by as many processes as there are cores and as ``afp bench`` makes them, but
without a query: through ``chang`` (a recorded room, then recorded noise), and under the conditions
of ``--preset quick``. Then ``afp bench --preset quick`` runs as a process of its own. Its overhead
is the CPU of all its processes without what indexing, distorting and querying take. Linux only.
"""

# ruff: noqa: E402 - threads of a BLAS beside the processes only get in the way
import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus
import process
from clips import excerpts_of, sounds_of
from corpus import Corpus, corpus_of
from output import RESULTS, note, script, write_json

from afp.bench.grid import Grid
from afp.bench.presets import PRESETS
from afp.bench.rows import PRESENT, About, Row, read_rows
from afp.bench.run import machine
from afp.bench.worker import Ask, Job, Material, Result, start
from afp.distort import Sounds, parse
from afp.library.workers import Crash, Pool

Run = tuple[About, list[Row]]

CLIP_SECONDS = 5.0
CLIPS_A_JOB = 8
PRESET = "quick"
TARGETS = {"chang_1000_clips_wall_s": 60.0, "overhead_percent": 10.0}  # at most


@dataclass(frozen=True, slots=True)
class Times:
    """Wall time, and CPU of all processes, in seconds."""

    wall: float
    cpu: float


def distort(grid: Grid, sounds: Sounds, folder: Path, n_workers: int) -> Times:
    """Make the clips of every cell of a grid, the excerpts drawn before."""
    shelf, excerpts = excerpts_of(grid, folder)
    numbered = list(enumerate(excerpts))
    jobs = [
        Ask(cell, PRESENT, tuple(numbered[first : first + CLIPS_A_JOB]), backends=())
        for cell in grid.cells
        for first in range(0, grid.queries, CLIPS_A_JOB)
    ]
    material = Material(grid, sounds, shelf, stores={})
    before, started = _children_cpu_seconds(), time.perf_counter()
    with Pool[Job, Result | Crash](start, (material,), n_workers=n_workers) as pool:
        for job in jobs:
            while not pool.has_room:
                _require_success(pool)
            pool.submit(job)
        while pool.n_pending:
            _require_success(pool)
    return Times(time.perf_counter() - started, _children_cpu_seconds() - before)


def _require_success(pool: "Pool[Job, Result | Crash]") -> None:
    for _, result in pool.collect():
        if not isinstance(result, list):
            raise SystemExit(f"a clip could not be distorted: {result}")


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def bench(found: Corpus, folder: Path, queries: int, n_workers: int) -> tuple[Times, Run]:
    """Run ``afp bench``; return what it took, and what it has written."""
    folders = {"--noise": found.noise, "--ir": found.rooms, "--speech": found.speech}
    out = folder / "run"
    command = [sys.executable, "-m", "afp", "bench", str(found.music), "--preset", PRESET]
    command += ["--queries", str(queries), "--jobs", str(n_workers), "--out", str(out)]
    for option, path in folders.items():
        command += [option, str(path)] if path is not None else []
    usage = process.run(command)
    if usage.status:
        raise SystemExit(f"afp bench: exit status {usage.status}: {usage.stderr}")
    return Times(usage.wall_seconds, usage.cpu_seconds), read_rows(out / "rows.jsonl")


def measured(found: Corpus, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Run everything."""
    before = time.process_time()
    sounds = sounds_of(found, folder)
    recordings = time.process_time() - before
    tracks = tuple(found.tracks())
    note("clips through chang")
    grid = Grid(tracks, tuple(parse("chang")), (CLIP_SECONDS,), queries=arguments.clips)
    chang = distort(grid, sounds, folder, arguments.jobs)
    note(f"afp bench --preset {PRESET}")
    whole, (about, rows) = bench(found, folder, arguments.queries, arguments.jobs)
    note("the same clips without queries")
    distortions = tuple(d for text in PRESETS[PRESET].distortions for d in parse(text))
    n_clips = sum(bool(row.source) for row in rows) // len(distortions)
    grid = Grid(tracks, distortions, (CLIP_SECONDS,), queries=n_clips)
    distorting = distort(grid, sounds, folder, arguments.jobs)
    indexing = sum(facts["index_cpu_seconds"] for facts in about.backends.values())
    querying = sum(row.query_cpu_ms for row in rows) / 1000
    rest = whole.cpu - indexing - distorting.cpu - querying
    return {
        "chang_clips": arguments.clips,
        "chang_wall_s": chang.wall,
        "chang_cpu_s": chang.cpu,
        "chang_1000_clips_wall_s": 1000 * chang.wall / arguments.clips,
        "bench_conditions": len(distortions),
        "bench_rows": len(rows),
        "bench_wall_s": whole.wall,
        "bench_cpu_s": whole.cpu,
        "bench_indexing_cpu_s": indexing,
        "bench_distorting_cpu_s": distorting.cpu,
        "bench_querying_cpu_s": querying,
        "bench_recordings_cpu_s": recordings,
        "bench_rest_cpu_s": rest - recordings,
        "overhead_percent": 100 * rest / whole.cpu,
        "overhead_without_recordings_percent": 100 * (rest - recordings) / whole.cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus.add_options(parser)
    parser.add_argument("--clips", type=int, default=1000, help="through chang [%(default)s]")
    parser.add_argument(
        "--queries",
        type=int,
        default=100,
        help=f"in each condition of the preset {PRESET} [%(default)s]",
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("-j", "--jobs", type=int, default=cores, help="processes [one a core]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    arguments = parser.parse_args()
    found, load = corpus_of(arguments), os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="afp-bench-") as folder:
        figures = measured(found, Path(folder), arguments)
    for name, value in figures.items():
        limit = TARGETS.get(name)
        verdict = "" if limit is None else "  ok" if value <= limit else "  MISSED"
        print(f"{name:37}{value:12,.4g}{verdict}{f' (at most {limit:g})' if limit else ''}")
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load_average_before": load,
        "processes": arguments.jobs,
        "targets": TARGETS,
        "figures": figures,
    }
    write_json(arguments.out / "bench.json", results)


if __name__ == "__main__":
    script(main)
