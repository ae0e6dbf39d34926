"""What the store costs: bytes a posting, adding tracks, looking hashes up.

Postings are synthetic: hashes follow a bounded Zipf law, as the hashes of music roughly do.

    python benchmarks/store.py                     # 1e7 postings, about a minute
    python benchmarks/store.py --postings 1e6 --json
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np

from afp.fingerprint import U32, Evidence, Fingerprint
from afp.store import NewTrack, Store
from afp.store.manifest import TAIL_TRACKS

SKEW = 0.75  # exponent of the Zipf law
DISTINCT = 1 << 22
HOP_SECONDS = 0.032
POSTINGS_PER_SECOND = 100
PEAKS_PER_SECOND = 18
QUERY_HASHES = 500
TARGETS = {  # what each figure must not exceed
    "bytes_per_posting": 6.3,
    "catalogue_bytes_per_track": 1000,
    "add_30_s_wall_ms": 1.0,
    "add_30_s_cpu_ms": 1.0,
    "add_30_s_written_bytes": 60_000,
    "add_240_s_wall_ms": 1.0,
    "add_240_s_written_bytes": 60_000,
    "gather_views_kept_cpu_ms": 1.0,
}


def hashes(rng: np.random.Generator, n: int) -> U32:
    """Draw hashes whose ranks follow the Zipf law."""
    power = 1.0 - SKEW
    ranks = (rng.random(n) * (DISTINCT**power - 1.0) + 1.0) ** (1.0 / power)
    return ranks.astype(np.uint32) * np.uint32(2_654_435_761)


def fingerprint(rng: np.random.Generator, seconds: float) -> Fingerprint:
    """Make up a landmark fingerprint."""
    n_frames = round(seconds / HOP_SECONDS)
    n, m = round(seconds * POSTINGS_PER_SECOND), round(seconds * PEAKS_PER_SECOND)
    evidence = Evidence(
        np.sort(rng.integers(0, n_frames, m)).astype(np.uint32),
        rng.integers(0, 512, m).astype(np.uint32),
    )
    frames = np.sort(rng.integers(0, n_frames, n)).astype(np.uint32)
    return Fingerprint(n_frames, frames, hashes(rng, n), evidence=evidence)


def tracks(rng: np.random.Generator, first: int, n: int, seconds: float) -> list[NewTrack]:
    """Make up tracks."""
    return [
        NewTrack(
            sha256(str(i).encode()).hexdigest(),
            f"/music/artist {i // 100}/album {i // 10}/{i}.mp3",
            seconds,
            title=f"Title {i}",
            artist=f"Artist {i // 100}",
            album=f"Album {i // 10}",
            size=i,
            mtime_ns=time.time_ns(),
            fingerprints={"bench": fingerprint(rng, seconds)},
        )
        for i in range(first, first + n)
    ]


def written_bytes() -> int:
    """Return the bytes that this process has written so far (Linux; elsewhere 0)."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in lines)["wchar"])


@contextmanager
def timed(result: dict[str, float]) -> Iterator[None]:
    """Put wall and CPU time, in milliseconds, and bytes written into `result`."""
    written, cpu, wall = written_bytes(), time.process_time(), time.perf_counter()
    yield
    result["wall_ms"] = (time.perf_counter() - wall) * 1e3
    result["cpu_ms"] = (time.process_time() - cpu) * 1e3
    result["written_bytes"] = written_bytes() - written


def medians(action: Callable[[int], object], n: int) -> dict[str, float]:
    """Repeat an action; return the median of each measure."""
    rows: list[dict[str, float]] = []
    for i in range(n):
        row: dict[str, float] = {}
        with timed(row):
            action(i)
        rows.append(row)
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def measure(folder: Path, n_postings: int) -> dict[str, float]:
    """Run everything on a new store."""
    rng = np.random.default_rng(0)
    n_tracks = n_postings // (30 * POSTINGS_PER_SECOND)
    query = hashes(rng, QUERY_HASHES)
    figures = measure_bulk(folder, rng, n_tracks, query)
    figures |= measure_adding(folder, rng, n_tracks, query)
    opened = medians(lambda _: look_up_once(folder, query), 9)
    figures["open_and_look_up_cpu_ms"] = opened["cpu_ms"]
    figures["open_and_look_up_wall_ms"] = opened["wall_ms"]
    return figures


def measure_bulk(
    folder: Path, rng: np.random.Generator, n_tracks: int, query: U32
) -> dict[str, float]:
    """Fill a new store, and compact it."""
    figures: dict[str, float] = {}
    row: dict[str, float] = {}
    with Store.open(folder, write=True) as store:
        store.register("bench", version=1, parameters={}, hop_seconds=HOP_SECONDS)
        store.add(tracks(rng, 0, 16, 30.0))  # loads the kernels
        total, slowest = dict.fromkeys(("wall_ms", "cpu_ms", "written_bytes"), 0.0), 0.0
        for first in range(16, n_tracks, 100):
            batch = tracks(rng, first, min(100, n_tracks - first), 30.0)
            with timed(row):
                store.add(batch)
            total = {name: total[name] + row[name] for name in total}
            slowest = max(slowest, row["wall_ms"])
        added = (n_tracks - 16) * 30 * POSTINGS_PER_SECOND
        figures["bulk_million_postings_per_s"] = added / total["wall_ms"] / 1e3
        figures["bulk_written_bytes_per_posting"] = total["written_bytes"] / added
        figures["bulk_slowest_batch_ms"] = slowest
        figures |= look_up(store, query, "segments")
        with timed(row):
            store.flush()
        figures["flush_wall_ms"] = row["wall_ms"]
        stats = store.stats()
        figures["segments"] = stats.indexes["bench"].segments
        figures["flushed_store_bytes_per_posting"] = (
            stats.file_bytes / stats.indexes["bench"].postings
        )
        figures["catalogue_bytes_per_track"] = stats.catalogue_bytes / stats.tracks
        figures["free_bytes"] = stats.free_bytes
        with timed(row):
            store.compact()
        figures["compact_wall_ms"] = row["wall_ms"]
        index = store.stats().indexes["bench"]
        figures["postings"] = index.postings
        figures["selectivity"] = index.selectivity
        figures["bytes_per_posting"] = index.bytes_per_posting
        figures["fingerprint_bytes_per_peak"] = index.bytes["fingerprints"] / (
            index.seconds * PEAKS_PER_SECOND
        )
        figures["store_bytes_per_posting"] = store.n_bytes() / index.postings
        figures["check_wall_ms"] = medians(lambda _: store.check(), 1)["wall_ms"]
        figures |= look_up(store, query, "views_kept")
    return figures


def measure_adding(
    folder: Path, rng: np.random.Generator, n_tracks: int, query: U32
) -> dict[str, float]:
    """Add track after track to a full store."""
    figures: dict[str, float] = {}
    with Store.open(folder, write=True) as store:
        flush = medians(lambda _: flush_disk(folder.parent), 20)
        figures["bare_flush_of_60_kB_wall_ms"] = flush["wall_ms"]
        for seconds in (30, 240):
            new = tracks(rng, n_tracks + 1000 * seconds, 20, float(seconds))
            store.flush()
            add = medians(lambda i, new=new: store.add(new[i : i + 1]), len(new))
            figures |= {f"add_{seconds}_s_{name}": value for name, value in add.items()}
        store.flush()
        for new_track in tracks(rng, 10 * n_tracks, TAIL_TRACKS - 1, 30.0):
            store.add([new_track])
        figures |= look_up(store, query, "with_63_tails")
        figures |= look_up(store, hashes(rng, 5000), "5000_hashes_with_63_tails")
        with store.snapshot() as snapshot:
            index_reader = snapshot.index("bench")
            for name in ("evidence", "evidence_again"):
                read = medians(lambda i: index_reader.evidence(1 + i), 200)
                figures[f"{name}_wall_ms"] = read["wall_ms"]
    return figures


def look_up(store: Store, query: U32, name: str) -> dict[str, float]:
    """Gather the postings of the query's hashes: views kept, and in a fresh snapshot each time."""
    keep = np.ones(len(query), np.bool_)
    with store.snapshot() as snapshot:
        index = snapshot.index("bench")
        kept = medians(lambda _: index.lookup(query).gather(keep), 200)
        n = sum(len(hits.rows) for hits in index.lookup(query).gather(keep))

    def afresh(_: int) -> None:
        with store.snapshot() as snapshot:
            snapshot.index("bench").lookup(query).gather(keep)

    return {
        f"gather_{name}_cpu_ms": kept["cpu_ms"],
        f"gather_{name}_fresh_snapshot_cpu_ms": medians(afresh, 50)["cpu_ms"],
        f"gather_{name}_postings": n,
    }


def look_up_once(folder: Path, query: U32) -> None:
    """Open a store, look up, close it."""
    with Store.open(folder) as store, store.snapshot() as snapshot:
        snapshot.index("bench").lookup(query).gather(np.ones(len(query), np.bool_))


def flush_disk(folder: Path) -> None:
    """Write 60 kB to the disk: what the machine itself takes for a commit."""
    with (folder / "flushed").open("wb") as file:
        file.write(bytes(60_000))
        file.flush()
        os.fdatasync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postings", type=float, default=1e7, help="size of the index")
    parser.add_argument("--folder", help="where to make the store (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = measure(Path(folder) / "store", int(arguments.postings))
    if arguments.json:
        json.dump({"figures": figures, "targets": TARGETS}, sys.stdout, indent=1)
        print()
        return
    for name, value in figures.items():
        target = f"  (at most {TARGETS[name]:,})" if name in TARGETS else ""
        print(f"{name:44s}{value:16,.4g}{target}")


if __name__ == "__main__":
    main()
