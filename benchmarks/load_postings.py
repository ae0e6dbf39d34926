"""The inner steps of a store: sorting and writing postings, gathering them, letting them vote."""

import statistics
import tempfile
from pathlib import Path

import numpy as np
from loaded import Landmarks
from store import flush_disk, medians, timed

from afp.backends import shazam
from afp.fingerprint import U32
from afp.matching.voting import rarest, vote
from afp.store import Store
from afp.store.axis import Axis
from afp.store.index_writer import length
from afp.store.postings import mix, pair, sort
from afp.store.segment_writer import SortedKeys, write_segment

GATHERED_HASHES = 500


def measure_bulk(kind: Landmarks, folder: Path, n_tracks: int) -> dict[str, float]:
    """Sort and write a batch as one segment, without and with what belongs to it in the store."""
    new = [kind.made(i) for i in range(n_tracks)]
    prints = [each.fingerprints[kind.backend.name] for each in new]
    hashes: list[U32] = [each.hashes for each in prints if each.hashes is not None]
    counts = [len(each) for each in hashes]
    n = sum(counts)
    axis = Axis.lay(
        list(range(n_tracks)), [length(each) for each in prints], counts, [0] * n_tracks
    )

    def sort_and_write(i: int) -> None:
        positions = np.concatenate([each.frames for each in prints])
        positions += np.repeat(axis.bases, axis.counts)
        keys = sort(pair(mix(np.concatenate(hashes)), positions))
        write_segment(folder, i + 1, [SortedKeys(axis, keys, [])], np.zeros(0, np.int64))

    kind.filled(folder / "first", 0, 20)  # loads the kernels
    bare = medians(sort_and_write, 3)
    row: dict[str, float] = {}
    with Store.open(folder / "bulk", write=True) as store:
        kind.register(store)
        with timed(row):
            store.add(new)
    return {
        "bulk_postings": n,
        "bulk_million_postings_per_s": n / bare["cpu_ms"] / 1e3,
        "bulk_wall_million_postings_per_s": n / bare["wall_ms"] / 1e3,
        "bulk_added_million_postings_per_s": n / row["cpu_ms"] / 1e3,
        "bulk_added_wall_million_postings_per_s": n / row["wall_ms"] / 1e3,
    }


def measure_singles(kind: Landmarks, folder: Path, n_tracks: int) -> dict[str, float]:
    """Fill a store in memory track by track, with all flushes and merges; flush a disk as well.

    Only without a disk to wait for, a commit is measured rather than the disk, and what else runs
    meanwhile.
    """
    memory = Path("/dev/shm")
    row: dict[str, float] = {}
    rows: list[dict[str, float]] = []
    n_postings = 0
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name,
        Store.open(Path(name) / "store", write=True) as store,
    ):
        kind.register(store)
        for i in range(n_tracks):
            new = kind.made(i)
            with timed(row):
                store.add([new])
            rows.append(row.copy())
            n_postings += kind.weight(new)
    total = {name: sum(row[name] for row in rows) for name in row}
    flush = medians(lambda _: flush_disk(folder), 50)
    return {
        "singly_postings": n_postings,
        "singly_million_postings_per_s": n_postings / total["cpu_ms"] / 1e3,
        "singly_wall_million_postings_per_s": n_postings / total["wall_ms"] / 1e3,
        "singly_written_bytes_per_posting": total["written_bytes"] / n_postings,
        "commit_in_memory_wall_ms": statistics.median(row["wall_ms"] for row in rows),
        "commit_in_memory_cpu_ms": statistics.median(row["cpu_ms"] for row in rows),
        "flush_of_60_kb_wall_ms": flush["wall_ms"],
    }


def look_up(kind: Landmarks, store: Store) -> dict[str, float]:
    """Gather the postings of hashes drawn as they are common, and let them vote."""
    rng = np.random.default_rng(5)
    made = [kind.music.fingerprint(rng, 30.0).hashes for _ in range(100)]
    drawn = np.concatenate([hashes for hashes in made if hashes is not None])
    hashes = rng.choice(drawn, GATHERED_HASHES).astype(np.uint32)
    every = np.ones(len(hashes), np.bool_)
    times = np.sort(rng.integers(0, 625, len(drawn)))
    name = kind.backend.name
    with store.snapshot() as snapshot:
        index = snapshot.index(name)
        kept = medians(lambda _: index.lookup(hashes).gather(every), 100)["cpu_ms"]
        gathered = sum(len(hits.rows) for hits in index.lookup(hashes).gather(every))
        lists = index.lookup(drawn)
        hits = lists.gather(rarest(lists.counts, shazam.MAX_HITS))
        n = sum(len(each.rows) for each in hits)

        def count(_: int) -> None:
            for each in hits:
                vote(each, times, fineness=shazam.FINENESS, width=shazam.HISTOGRAM_WIDTH, most=24)

        voted = medians(count, 9)["cpu_ms"]

    def afresh(_: int) -> None:
        with store.snapshot() as snapshot:
            snapshot.index(name).lookup(hashes).gather(every)

    return {
        "gather_kept_ms": kept,
        "gather_fresh_ms": medians(afresh, 50)["cpu_ms"],
        "gather_postings": gathered,
        "vote_ns": 1e6 * voted / max(n, 1),
        "vote_postings": n,
    }
