"""What a store costs as it grows: filling, merging, querying, removing, checking, compacting.

    python benchmarks/load.py                                    # to 10^8 postings, ten minutes
    python benchmarks/load.py --postings 1e5,1e6 --embeddings 1e4 --queries 20    # a minute

One store of synthetic tracks (`synthetic.py`) of 30 s on average grows from size to size, a hundred
tracks a transaction; at each size everything is measured on a copy of it. Stretches of real music
are planted among them; noisy clips of 5 s of these, and of other music, are the queries, from the
file to the answer. They are asked in a store of the planted stretches alone, too. Another store
grows in embeddings.

Times are CPU time of this process, which other processes disturb least, unless they are named wall.
A query is cold when no page of the store is in memory (posix_fadvise): opening it is included then.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import corpus
import numpy as np
from corpus import corpus_of
from load_plot import draw
from load_postings import look_up, measure_bulk, measure_singles
from loaded import Kind, Landmarks, Vectors
from output import RESULTS, note, print_section, script, write_json
from planted import RealMusic, percentiles
from process import run
from speed import AFP
from store import medians, timed
from synthetic import Music, Sounds, Statistics
from threads import bind_to_one

from afp.backends import neural, shazam
from afp.bench.run import machine
from afp.bench.table import Section
from afp.library import Searcher
from afp.store import Store

POSTINGS = "1e5,1e6,1e7,1e8"
EMBEDDINGS = "1e4,1e5,1e6"
FITTED_TRACKS = 600
FLUSHED_TRACKS = 100
SINGLE_TRACKS = 500
REMOVED_TRACKS = 1000
BULK_TRACKS = 4000
COLD_QUERIES = 15
FEW_QUERIES = 15
BEHIND = 10**9  # tracks from here on are in no store yet
TARGETS = {  # of shazam, "least" or "most", at the largest size
    "bulk_million_postings_per_s": ("least", 10.0),
    "singly_million_postings_per_s": ("least", 2.0),
    "commit_in_memory_wall_ms": ("most", 0.5),
    "fill_written_bytes_per_posting": ("most", 45.0),
    "bytes_per_posting": ("most", 6.3),
    "gather_kept_ms": ("most", 1.0),
    "gather_fresh_ms": ("most", 3.0),
    "vote_ns": ("most", 5.0),
    "query_p50_ms": ("most", 60.0),
    "cold_p50_ms": ("most", 1000.0),
}


class Growing:
    """A store that grows, and what filling it has cost so far."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.path = kind, folder / kind.backend.name
        self.n_tracks = 0
        self.n_postings = 0
        self.spent = dict.fromkeys(("wall_ms", "cpu_ms", "written_bytes"), 0.0)

    def grow(self, n_postings: int) -> dict[str, float]:
        """Add tracks up to so many postings; return what filling has cost, from the first on."""
        slowest = 0.0
        row: dict[str, float] = {}
        with Store.open(self.path, write=True) as store:
            self.kind.register(store)
            while self.n_postings < n_postings:
                new = self.kind.batch(self.n_tracks, FLUSHED_TRACKS, n_postings - self.n_postings)
                with timed(row):
                    store.add(new)
                self.n_tracks += len(new)
                self.n_postings += sum(self.kind.weight(each) for each in new)
                self.spent = {name: value + row[name] for name, value in self.spent.items()}
                slowest = max(slowest, row["cpu_ms"])
            segments = store.stats().indexes[self.kind.backend.name].segments
        return {
            "tracks": self.n_tracks,
            "postings": self.n_postings,
            "fill_million_postings_per_s": self.n_postings / self.spent["cpu_ms"] / 1e3,
            "fill_wall_million_postings_per_s": self.n_postings / self.spent["wall_ms"] / 1e3,
            "fill_written_bytes_per_posting": self.spent["written_bytes"] / self.n_postings,
            "fill_slowest_batch_ms": slowest,
            "segments": segments,
        }


def measure(kind: Kind, path: Path, n_tracks: int) -> dict[str, Any]:
    """Measure a store of so many tracks, which is spoilt by it."""
    figures: dict[str, Any] = {}
    name = kind.backend.name
    new = [kind.made(BEHIND + i) for i in range(min(max(n_tracks // 4, 16), SINGLE_TRACKS))]
    rows: list[dict[str, float]] = []
    with Store.open(path, write=True) as store:
        for each in new:
            rows.append({})
            with timed(rows[-1]):
                store.add([each])
        singles = [row["cpu_ms"] for row in rows]
        added = sum(kind.weight(each) for each in new)
        figures |= {
            "single_cpu_ms": statistics.median(singles),
            "single_wall_ms": statistics.median(row["wall_ms"] for row in rows),
            "single_slowest_ms": max(singles),
            "single_million_postings_per_s": added / sum(singles) / 1e3,
            "single_wall_million_postings_per_s": added / sum(row["wall_ms"] for row in rows) / 1e3,
            "single_written_bytes_per_posting": sum(row["written_bytes"] for row in rows) / added,
        }
        with Searcher(store, name) as searcher:
            figures |= _named("query_uncompacted", kind.ask(searcher, FEW_QUERIES)["query"])
        row: dict[str, float] = {}
        with timed(row):
            store.compact()
        figures |= _named("compact", row)
        index = store.stats().indexes[name]
        figures["postings_measured"] = index.postings
        figures["selectivity"] = index.selectivity
        figures["bytes_per_posting"] = index.bytes_per_posting
        figures["bytes_per_track"] = store.n_bytes() / index.tracks
        figures["store_bytes"] = store.n_bytes()
        figures["check_wall_ms"] = medians(lambda _: _sound(store), 1)["wall_ms"]
        if isinstance(kind, Landmarks):
            figures |= look_up(kind, store)
    with Searcher.open(path, name) as searcher:
        asked = kind.ask(searcher)
        for what in ("query", "query_wall", "query_absent"):
            figures |= _named(what, asked.pop(what, {}))
        figures |= asked
    figures |= _cold(kind, path)
    with Store.open(path, write=True) as store:
        with store.snapshot() as snapshot:
            ids = np.array([track.id for track in snapshot.tracks() if "/real/" not in track.path])
        chosen = np.random.default_rng(0).permutation(ids)[: min(REMOVED_TRACKS, len(ids) // 2)]
        with timed(row):
            store.remove(chosen.tolist())
        figures["removed"] = len(chosen)
        figures |= _named("remove", row)
        with Searcher(store, name) as searcher:
            figures |= _named("query_removed", kind.ask(searcher, FEW_QUERIES)["query"])
    figures |= _memory(kind, path)
    with Store.open(path) as store:
        _sound(store)
    return figures


def _sound(store: Store) -> None:
    faults = store.check()
    if faults:
        raise SystemExit(f"the store is damaged: {faults[0]}")


def _named(name: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{key}": value for key, value in values.items()}


def _cold(kind: Kind, path: Path) -> dict[str, float]:
    """Time queries, opening the store included, with none of its pages in memory."""
    times = []
    before = _read_bytes()
    for i in range(COLD_QUERIES):
        for file in path.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fdatasync(opened.fileno())
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        with Searcher.open(path, kind.backend.name) as searcher:
            kind.ask_one(searcher, i)
        times.append(1e3 * (time.perf_counter() - started))
    read = {"cold_read_bytes": (_read_bytes() - before) / COLD_QUERIES}
    return _named("cold", percentiles(times)) | read


def _read_bytes() -> int:
    """Return the bytes that this process has had read from a disk (Linux; elsewhere 0)."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def _memory(kind: Kind, path: Path) -> dict[str, float]:
    """Measure the memory of the commands that ask, add and, after a removal, compact."""
    figures: dict[str, float] = {}
    if kind.clip is not None:
        clip = str(kind.clip)
        for words in (["query"], ["index", "-j", "1"]):
            figures |= _command([*words, "-d", str(path), clip])
    return figures | _command(["compact", "-d", str(path)])


def _command(words: list[str]) -> dict[str, float]:
    usage = run([*AFP, *words], memory=True)
    if usage.status not in (0, 1):
        raise SystemExit(f"afp {words[0]}: exit status {usage.status}: {usage.stderr}")
    return {
        f"{words[0]}_rss_mib": usage.rss_mib,
        f"{words[0]}_anonymous_mib": usage.anonymous_mib,
    }


def climb(kind: Kind, sizes: list[int], folder: Path, results: list[dict[str, Any]]) -> None:
    """Let a store grow from size to size; measure a copy of it at each."""
    growing = Growing(kind, folder)
    for size in sizes:
        note(f"{kind.backend.name}: growing to {size:,}")
        figures: dict[str, Any] = {"backend": kind.backend.name, "size": size}
        figures |= growing.grow(size)
        copy = folder / f"{kind.backend.name}-{size}"
        copytree(growing.path, copy)
        note(
            f"{kind.backend.name}: measuring {figures['postings']:,} in {growing.n_tracks:,} tracks"
        )
        try:
            figures |= measure(kind, copy, growing.n_tracks)
        finally:
            rmtree(copy)
        results.append(figures)


def growth(rows: list[dict[str, Any]], name: str) -> float | None:
    """Return the exponent with which a figure has grown over the last step of the size."""
    if len(rows) < 2 or not all(row.get(name) for row in rows[-2:]):
        return None
    before, after = rows[-2:]
    ratio = np.log(after[name] / before[name]) / np.log(after["postings"] / before["postings"])
    return float(ratio)


def section(rows: list[dict[str, Any]]) -> Section:
    """Lay out figures, a column for each size; a star where the largest misses its target."""
    lines = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if name in ("backend", "size") or not any(isinstance(v, int | float) for v in values):
            continue
        kind, bound = TARGETS.get(name, ("", 0.0)) if rows[0]["backend"] == "shazam" else ("", 0.0)
        last = values[-1]
        missed = isinstance(last, int | float) and (
            (kind == "least" and last < bound) or (kind == "most" and last > bound)
        )
        target = f"at {kind} {bound:g}{' *' if missed else ''}" if kind else ""
        shown = ["" if v is None else f"{v:,.4g}" for v in values]
        lines.append((name, *shown, target))
    sizes = [f"{row['size']:.0e}" for row in rows]
    return Section(rows[0]["backend"], ("", *sizes, "target"), lines, tuple(sizes))


def main() -> None:
    bind_to_one()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus.add_options(parser)
    parser.add_argument("--postings", default=POSTINGS, help="sizes [%(default)s]")
    parser.add_argument("--embeddings", default=EMBEDDINGS, help="sizes [%(default)s]")
    parser.add_argument("--planted", type=int, default=300, help="real stretches [%(default)s]")
    parser.add_argument("--queries", type=int, default=150, help="of those [%(default)s]")
    parser.add_argument("--seconds", type=float, default=30.0, help="mean of a track [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    parser.add_argument("--folder", help="where to make stores [a temporary folder]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    arguments = parser.parse_args()
    started = time.perf_counter()
    sizes = sorted(int(float(size)) for size in arguments.postings.split(","))
    counts = sorted(int(float(size)) for size in arguments.embeddings.split(",") if size)
    statistics_ = Statistics.read()
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "command": (
            f"python benchmarks/load.py --postings {arguments.postings} "
            f"--embeddings {arguments.embeddings} --planted {arguments.planted} "
            f"--queries {arguments.queries} --seconds {arguments.seconds:g}"
        ),
        "machine": machine(),
        "targets": TARGETS,
        "shazam": [],
        "neural": [],
    }
    with tempfile.TemporaryDirectory(prefix="afp-load-", dir=arguments.folder) as name:
        folder = Path(name)
        music = Music.fitted(statistics_, n_tracks=FITTED_TRACKS)
        real = RealMusic.made(
            corpus_of(arguments),
            folder,
            tracks=arguments.planted,
            queries=arguments.queries,
            seed=arguments.seed,
        )
        kind = Landmarks(shazam.Backend(), arguments.seed, arguments.seconds, music, real)
        note("bulk, and the planted stretches alone")
        bulk = folder / "alone"
        bulk.mkdir()
        n_tracks = min(BULK_TRACKS, sizes[-1] // 2000)
        results["bulk"] = measure_bulk(kind, bulk, n_tracks)
        results["bulk"] |= measure_singles(kind, bulk, n_tracks)
        results["planted_alone"] = kind.ask_alone(bulk / "planted")
        rmtree(bulk)
        embedder = neural.Backend()
        sounds = Sounds.of(statistics_, embedder)
        steps: list[tuple[Kind, list[int]]] = [
            (kind, sizes),
            (Vectors(embedder, arguments.seed, arguments.seconds, sounds), counts),
        ]
        for each, these in steps:
            rows = results[each.backend.name]
            climb(each, these, folder, rows)
            rmtree(folder / each.backend.name, ignore_errors=True)
            if rows:
                rows[-1] |= results["bulk"] if each is kind else {}
                print_section(section(rows))
                sys.stdout.flush()
            results["growth"] = {
                row: growth(results["shazam"], row)
                for row in ("query_p50_ms", "query_absent_p50_ms", "cold_p50_ms", "gather_kept_ms")
            }
            results["load_average"] = os.getloadavg()
            results["took_s"] = time.perf_counter() - started
            write_json(arguments.out / "load.json", results)
    draw(results, arguments.out / "load.png")


if __name__ == "__main__":
    script(main)
