"""What afp costs: CPU time of indexing, waiting time of queries, memory, bytes.

    python benchmarks/speed.py                            # half an hour
    python benchmarks/speed.py --hours 0.2 --store-hours 0.5 --repeats 1 --long-hours 0.2

Indexing is held against ``fpcalc -length 0``, one process a file, on the same files; each file
was read once before, and repeats take turns. CPU time is that of all processes together. Memory
is polled over the process tree. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any

import corpus
import numpy as np
import soundfile
from clips import clips, excerpts_of, sounds_of, split
from corpus import Corpus, corpus_of
from output import RESULTS, note, script, write_json
from process import Usage, run

from afp.bench.grid import RATE, Grid
from afp.bench.run import machine
from afp.distort import parse, read

AFP = [sys.executable, "-m", "afp"]
CLIP_SECONDS = 5.0
KEPT_OUT = 0.1  # share of the tracks, for clips that nothing answers
MINUTES_SHORT = 5.0
TARGETS = {  # what each figure must not exceed
    "index_cpu_over_fpcalc": 1.5,
    "index_wall_over_cpu": 0.6,
    "query_cold_wall_ms": 500.0,
    "query_further_clean_ms": 20.0,
    "query_further_noisy_ms": 20.0,
    "query_further_absent_ms": 20.0,
    "bytes_per_second": 600.0,
    "memory_index_long_mib": 500.0,
    "memory_query_long_mib": 500.0,
    "memory_query_all_long_mib": 500.0,
}


def afp(*arguments: str | Path, memory: bool = False) -> Usage:
    """Run the command line; no match (1) is no failure."""
    usage = run([*AFP, *map(str, arguments)], memory=memory)
    if usage.status not in (0, 1):
        raise SystemExit(f"afp {arguments[0]}: exit status {usage.status}: {usage.stderr}")
    return usage


def some_hours(tracks: Sequence[Path], hours: float, seed: int) -> list[Path]:
    """Choose tracks by chance until they last so long together."""
    chosen: list[Path] = []
    seconds = 0.0
    for i in np.random.default_rng(seed).permutation(len(tracks)):
        if seconds >= 3600 * hours:
            break
        chosen.append(tracks[i])
        seconds += soundfile.info(tracks[i]).duration
    return chosen


def index_against_fpcalc(tracks: Sequence[Path], folder: Path, repeats: int) -> dict[str, float]:
    """Compare CPU and wall times of extraction, repeats in turn."""
    listing = _listing(tracks, folder)
    for path in tracks:
        path.read_bytes()
    ours: list[Usage] = []
    theirs: list[Usage] = []
    for i in range(repeats + 1):
        usage = afp("index", "-d", folder / f"store{i}", "--files-from", listing)
        if i == 0:
            continue  # compiles what is not compiled yet
        ours.append(usage)
        if which("fpcalc"):
            theirs.append(Usage.sum(run(["fpcalc", "-length", "0", str(t)]) for t in tracks))
        note(f"repeat {i} of {repeats}")
    seconds = sum(soundfile.info(track).duration for track in tracks)
    cpu = statistics.median(usage.cpu_seconds for usage in ours)
    figures = {
        "index_hours": seconds / 3600,
        "index_cpu_s": cpu,
        "index_wall_s": statistics.median(usage.wall_seconds for usage in ours),
        "index_realtime_per_cpu_second": seconds / cpu,
        "index_wall_over_cpu": statistics.median(u.wall_seconds / u.cpu_seconds for u in ours),
    }
    if not theirs:
        note("fpcalc is not installed (Debian: libchromaprint-tools)")
        return figures
    pairs = zip(ours, theirs, strict=True)
    return figures | {
        "fpcalc_cpu_s": statistics.median(usage.cpu_seconds for usage in theirs),
        "fpcalc_wall_s": statistics.median(usage.wall_seconds for usage in theirs),
        "index_cpu_over_fpcalc": statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in pairs),
    }


def _listing(tracks: Sequence[Path], folder: Path) -> Path:
    listing = folder / "tracks.txt"
    listing.write_text("".join(f"{path}\n" for path in tracks), encoding="utf-8")
    return listing


def store_size(store: Path) -> dict[str, float]:
    """Ask ``afp stats``, before and after ``afp compact``."""
    command = [*AFP, "stats", "--json", "-d", str(store)]
    stats = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    afp("compact", "-d", store)
    compacted = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {
        "store_hours": stats["seconds"] / 3600,
        "bytes_per_second": stats["bytes_per_second"],
        "bytes_per_second_free": stats["free_bytes"] / stats["seconds"],
        "bytes_per_second_compacted": compacted["bytes_per_second"],
    }


def written_clips(
    tracks: Sequence[Path], absent: Sequence[Path], found: Corpus, folder: Path, n: int
) -> dict[str, list[Path]]:
    """Write clips: clean, in noise at 0 dB, and of music that is not in the store."""
    sounds = sounds_of(Corpus(found.music, noise=found.noise), folder)
    made: dict[str, list[Path]] = {}
    kinds = {
        "clean": (tracks, "clean"),
        "noisy": (tracks, "noise:snr=0"),
        "absent": (absent, "clean"),
    }
    for kind, (music, words) in kinds.items():
        grid = Grid(tuple(music), tuple(parse(words)), (CLIP_SECONDS,), queries=n, seed=len(made))
        shelf, _ = excerpts_of(grid, folder)
        (cell,) = grid.cells
        made[kind] = []
        for i, clip in enumerate(clips(grid, cell, sounds, shelf)):
            path = folder / f"{kind}{i}.wav"
            soundfile.write(path, 0.9 * clip / max(1.0, np.abs(clip).max()), RATE)
            made[kind].append(path)
    return made


def query_times(store: Path, made: dict[str, list[Path]], repeats: int) -> dict[str, float]:
    """Time a process for one clip, and what each further clip adds."""
    figures: dict[str, float] = {}
    afp("query", "-d", store, *made["clean"])
    for kind, paths in made.items():
        single = [afp("query", "-d", store, path) for path in paths]
        many = [afp("query", "-d", store, *paths) for _ in range(repeats)]
        one_ms = 1e3 * statistics.mean(usage.wall_seconds for usage in single)
        all_ms = 1e3 * statistics.median(usage.wall_seconds for usage in many)
        further = len(paths) - 1
        one_cpu = statistics.mean(usage.cpu_seconds for usage in single)
        all_cpu = statistics.median(usage.cpu_seconds for usage in many)
        walls = [1e3 * usage.wall_seconds for usage in single]
        if kind == "clean":
            figures["query_cold_wall_ms"] = statistics.median(walls)
            figures["query_cold_wall_slowest_ms"] = max(walls)
            figures["query_cold_cpu_ms"] = 1e3 * statistics.median(u.cpu_seconds for u in single)
            memory = run([*AFP, "query", "-d", str(store), str(paths[0])], memory=True)
            figures |= _memory("query_clip", memory)
        else:
            figures[f"query_cold_{kind}_wall_ms"] = statistics.median(walls)
        figures[f"query_further_{kind}_ms"] = (all_ms - one_ms) / further
        figures[f"query_further_{kind}_cpu_ms"] = 1e3 * (all_cpu - one_cpu) / further
    return figures


def long_file(tracks: Sequence[Path], path: Path, seconds: float) -> Path:
    """Write one track after the other until the file is long enough."""
    written = 0
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        while written < seconds * RATE:
            for track in tracks:
                samples = read(track, sample_rate=RATE)[: max(0, round(seconds * RATE) - written)]
                file.write(samples)
                written += len(samples)
    return path


def memory_of_lengths(
    tracks: Sequence[Path], store: Path, folder: Path, long_hours: float
) -> dict[str, float]:
    """Compare the memory that a short and a long file take to index and to query."""
    figures: dict[str, float] = {"memory_long_hours": long_hours}
    for name, seconds in (("short", 60 * MINUTES_SHORT), ("long", 3600 * long_hours)):
        path = long_file(tracks, folder / f"{name}.wav", seconds)
        note(f"memory: a file of {seconds / 60:.0f} minutes")
        new = folder / f"store-{name}"
        runs = {
            f"index_{name}": ("index", "-d", new, path),
            f"query_{name}": ("query", "-d", store, path),
            f"query_all_{name}": ("query", "--all", "-d", store, path),
        }
        for run_name, arguments in runs.items():
            usage = afp(*arguments, memory=True)
            figures |= _memory(run_name, usage)
            figures[f"wall_{run_name}_s"] = usage.wall_seconds
        path.unlink()
    return figures


def _memory(name: str, usage: Usage) -> dict[str, float]:
    return {
        f"memory_{name}_mib": usage.rss_mib,
        f"memory_{name}_shared_once_mib": usage.pss_mib,
        f"memory_{name}_anonymous_mib": usage.anonymous_mib,
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run everything."""
    found = corpus_of(arguments)
    kept, absent = split(found.tracks(), KEPT_OUT, arguments.seed)
    compared = some_hours(kept + absent, arguments.hours, arguments.seed)
    note(f"indexing {len(compared)} tracks, {arguments.repeats} times")
    figures = index_against_fpcalc(compared, folder, arguments.repeats)
    if arguments.store_hours is not None:
        kept = some_hours(kept, arguments.store_hours, arguments.seed)
    store = folder / "store"
    usage = afp("index", "-d", store, "--files-from", _listing(kept, folder), memory=True)
    figures |= _memory("index_corpus", usage) | store_size(store)
    note("queries")
    made = written_clips(kept, absent, found, folder, arguments.clips)
    figures |= query_times(store, made, arguments.repeats)
    return figures | memory_of_lengths(kept, store, folder, arguments.long_hours)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus.add_options(parser)
    parser.add_argument("--hours", type=float, default=4.0, help="to compare with fpcalc on")
    parser.add_argument("--store-hours", type=float, help="to query [nine tenths of the corpus]")
    parser.add_argument("--long-hours", type=float, default=3.0, help="length of the long file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=20, help="of each kind [%(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where to write [a temporary folder]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="afp-bench-", dir=arguments.folder) as folder:
        figures = measure(arguments, Path(folder))
    for name, value in figures.items():
        limit = TARGETS.get(name)
        verdict = "" if limit is None else "  ok" if value <= limit else "  MISSED"
        print(f"{name:42}{value:12,.4g}{verdict}{f' (at most {limit:g})' if limit else ''}")
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load_average": os.getloadavg(),
        "took_s": time.perf_counter() - started,
        "repeats": arguments.repeats,
        "targets": TARGETS,
        "figures": figures,
    }
    write_json(arguments.out / "speed.json", results)


if __name__ == "__main__":
    script(main)
