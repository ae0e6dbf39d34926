"""Search of embeddings: latency, recall, bytes and build time of exact search, cells and Faiss.

    python benchmarks/search.py                             # 10^5 and 10^6 vectors, ten minutes
    python benchmarks/search.py --vectors 1e5 --queries 20  # a minute
    python benchmarks/search.py --model run/model.onnx

Some hours of music are embedded as `afp index` does. The bulk is made of them: stretches of 30 s,
each the sum of two stretches of music, one of them backwards, of length 1 again. So it is smooth in
time, lies where embeddings lie, and is harder than other music would be: each stretch is similar to
two places in the music. A query is a distorted clip of the music, embedded as `afp query` does: 22
vectors, every 0.125 s. The truth is what exact search in float32 (NumPy and BLAS) puts first, in
the same run. Everything computes in one thread, and times are CPU times, which other processes
disturb least.

`afp` is timed as a query has it: from the store, with everything that leads to a match and its
p_false. Of Faiss (``pip install faiss-cpu``; left out where it is missing) each vector's nearest
neighbours are taken; they vote for offsets by their similarity, and the best 100 offsets are scored
on the float32 vectors, which then have to be kept beside the index.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import corpus
import numpy as np
from corpus import corpus_of
from output import RESULTS, note, print_section, script, write_json
from queries import Query, embedded, queries_of, shortened
from search_methods import Answer, Method, by_faiss, timed
from sequences import Laid, Place, exact
from speed import some_hours
from threads import bind_to_one

from afp.backends import neural
from afp.bench.run import machine
from afp.bench.table import Section
from afp.distort import read
from afp.fingerprint import F32, Fingerprint
from afp.matching import cells
from afp.store import NewTrack, Store

SIZES = (100_000, 1_000_000)
CLIP_SECONDS = 3.35  # 20 whole segments, every 0.125 s, and one more at either end
CONDITIONS = ("noise:snr=-5", "chang")
STRETCH = 60  # vectors of a made-up track
SHORT = 64  # dimensions that embeddings are cut to as well
ADDED_AT_ONCE = 500  # tracks


def mixtures(tracks: Sequence[F32], n_vectors: int, rng: np.random.Generator) -> list[F32]:
    """Make up tracks of stretches of two places."""
    every = np.concatenate(tracks)
    every = every[every.any(axis=1)]
    made: list[F32] = []
    for _ in range(-(-n_vectors // STRETCH)):
        first, second = rng.integers(0, len(every) - STRETCH, 2)
        both = every[first : first + STRETCH] + every[second : second + STRETCH][::-1]
        both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-9)
        made.append(both)
    return made


def float32(laid: Laid) -> Method:
    """Search exactly in float32."""

    def search(query: Query) -> Answer:
        place = exact(query.vectors, laid, fineness=neural.FINENESS, side=neural.SIDE)
        return Answer(place, 0.0)

    n_bytes = laid.vectors[laid.rows()].nbytes
    return Method("float32 exact", "NumPy, BLAS", laid.vectors.shape[1], 0.0, n_bytes, 0, search)


def stored(tracks: Sequence[F32], backend: neural.Backend, folder: Path) -> Iterator[Method]:
    """Search in a store, exactly and by cells."""
    centres = backend._centres
    dimensions = backend.dimensions
    if not len(centres):
        note("the model has no cells (`afp train` makes them at the end): left out")
    with timed() as taken, Store.open(folder, write=True) as store:
        store.register(
            backend.name,
            version=backend.version,
            parameters=backend.parameters(),
            hop_seconds=backend.hop_seconds,
        )
        for first in range(0, len(tracks), ADDED_AT_ONCE):
            added = range(first, min(first + ADDED_AT_ONCE, len(tracks)))
            store.add([_new_track(i, tracks[i], backend) for i in added])
        store.flush()
        n_bytes, build_seconds = store.n_bytes(), taken()
    with Store.open(folder) as store, store.snapshot() as snapshot:
        index = snapshot.index(backend.name)
        step_seconds = backend.hop_seconds / neural.FINENESS
        dense = None if dimensions == 128 else dimensions

        def search_with(most_exact: float) -> Callable[[Query], Answer]:
            def search(query: Query) -> Answer:
                fingerprint = query.fingerprint
                if dense:
                    fingerprint = _cut(fingerprint, dense)
                before, neural.MOST_EXACT = neural.MOST_EXACT, most_exact  # type: ignore[assignment]
                try:
                    matches = backend.match(fingerprint, index, limit=1)
                finally:
                    neural.MOST_EXACT = before
                if not matches:
                    return Answer(None, 0.0)
                offset = (matches[0].track_start - matches[0].query_start) / step_seconds
                first = round(offset) - neural.OVERHANG_STEPS  # of the first segment
                return Answer(Place(int(matches[0].track.path), first), 0.0)

            return search

        search = search_with(np.inf)
        yield Method("afp exact", "int8", dimensions, build_seconds, n_bytes, 0, search)
        if len(centres):
            setting = f"int8, {len(centres)} cells"
            search = search_with(0)
            yield Method("afp cells", setting, dimensions, build_seconds, n_bytes, 0, search)


def _cut(fingerprint: Fingerprint, dimensions: int) -> Fingerprint:
    """Keep the leading dimensions of a query."""
    assert fingerprint.vectors is not None
    vectors = shortened(fingerprint.vectors, dimensions)
    frames, dense = fingerprint.frames, fingerprint.dense
    return Fingerprint(fingerprint.n_frames, frames, vectors=vectors, dense=dense)


def _new_track(i: int, vectors: F32, backend: neural.Backend) -> NewTrack:
    frames = np.flatnonzero(vectors.any(axis=1)).astype(np.uint32)
    heard = vectors[frames]
    hashes = cells.nearest(heard, backend._centres) if len(backend._centres) else None
    fingerprint = Fingerprint(len(vectors), frames, hashes=hashes, vectors=heard)
    seconds = len(vectors) * backend.hop_seconds
    return NewTrack(f"{i:064x}", str(i), seconds, fingerprints={backend.name: fingerprint})


def figures_of(
    method: Method, queries: Sequence[Query], truth: Sequence[Place] | None, n_vectors: int
) -> tuple[dict[str, Any], list[Place | None]]:
    """Time a method and compare its answers with the truth, itself without one."""
    method.search(queries[0])
    times, inside, places = [], [], []
    for query in queries:
        started = time.process_time()
        answer = method.search(query)
        times.append(1e3 * (time.process_time() - started))
        inside.append(1e3 * answer.index_seconds)
        places.append(answer.place)
    pairs = list(zip(places, places if truth is None else truth, strict=True))
    same_track = [p is not None and q is not None and p.track == q.track for p, q in pairs]
    same_place = [
        same and p is not None and q is not None and abs(p.offset - q.offset) <= 1
        for same, (p, q) in zip(same_track, pairs, strict=True)
    ]
    right = [
        p is not None and p.track == query.track for p, query in zip(places, queries, strict=True)
    ]
    figures = {
        "vectors": n_vectors,
        "method": method.name,
        "setting": method.setting,
        "dimensions": method.dimensions,
        "build_seconds": method.build_seconds,
        "bytes_per_vector": method.n_bytes / n_vectors,
        "kept_beside_bytes_per_vector": method.kept_beside,
        "median_ms": statistics.median(times),
        "p95_ms": float(np.percentile(times, 95)),
        "index_median_ms": statistics.median(inside),
        "track_recall": sum(same_track) / len(queries),
        "place_recall": sum(same_place) / len(queries),
        "right": sum(right) / len(queries),
    }
    return figures, places


def measure(
    tracks: Sequence[F32],
    queries: Sequence[Query],
    backends: Sequence[neural.Backend],
    folder: Path,
    *,
    hnsw: bool,
) -> list[dict[str, Any]]:
    """Run every method on some tracks."""
    laid = Laid.of(tracks)
    n_vectors = len(laid.rows())
    note(f"{n_vectors:,} vectors: float32 exact")
    base, places = figures_of(float32(laid), queries, None, n_vectors)
    truth = [place for place in places if place is not None]
    found = [base]

    def run(methods: Iterator[Method]) -> None:
        for method in methods:
            note(f"{n_vectors:,} vectors: {method.name} {method.setting}, {method.dimensions} dims")
            found.append(figures_of(method, queries, truth, n_vectors)[0])

    for backend in backends:
        short = backend.dimensions < laid.vectors.shape[1]
        kept = [shortened(each, backend.dimensions) for each in tracks] if short else tracks
        run(stored(kept, backend, folder / f"store-{n_vectors}-{backend.dimensions}"))
    if find_spec("faiss"):
        run(by_faiss(laid, hnsw=hnsw))
    else:
        note("Faiss is not installed (pip install faiss-cpu): left out")
    for figures in found:
        figures["of_float32_exact"] = figures["median_ms"] / base["median_ms"]
    return found


def section(figures: Sequence[dict[str, Any]]) -> Section:
    """Lay out the figures of one size."""
    right = ("median", "p95", "of exact", "index", "track", "place", "right", "bytes", "build")
    rows = [
        (
            each["method"],
            ", ".join(filter(None, [each["setting"], f"{each['dimensions']} dims"])),
            f"{each['median_ms']:.1f} ms",
            f"{each['p95_ms']:.1f} ms",
            f"{each['of_float32_exact']:.3f}",
            f"{each['index_median_ms']:.1f} ms" if each["index_median_ms"] else "",
            f"{100 * each['track_recall']:.0f} %",
            f"{100 * each['place_recall']:.0f} %",
            f"{100 * each['right']:.0f} %",
            f"{each['bytes_per_vector']:.0f}"
            + (f" + {kept}" if (kept := each["kept_beside_bytes_per_vector"]) else ""),
            f"{each['build_seconds']:.1f} s",
        )
        for each in figures
    ]
    return Section(
        f"{figures[0]['vectors']:,} vectors; CPU time of a query of 22, one thread",
        ("method", "setting", *right),
        rows,
        right,
    )


def main() -> None:
    bind_to_one()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus.add_options(parser)
    sizes = ",".join(f"{size:.0e}" for size in SIZES)
    parser.add_argument("--vectors", default=sizes, help="how many are stored [%(default)s]")
    parser.add_argument("--queries", type=int, default=60, help="[%(default)s]")
    parser.add_argument("--hours", type=float, default=4.0, help="of music [%(default)s]")
    parser.add_argument("--model", default="", help="as `afp train` writes it [the shipped one]")
    parser.add_argument("--most-hnsw", type=float, default=1e6, help="vectors for HNSW [1e6]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    parser.add_argument("--folder", help="where to write stores [a temporary folder]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    arguments = parser.parse_args()
    started = time.perf_counter()
    sizes = sorted(int(float(size)) for size in arguments.vectors.split(","))
    found = corpus_of(arguments)
    paths = some_hours(found.tracks(), arguments.hours, arguments.seed)
    backend = neural.Backend(model=arguments.model)
    backends = [backend]
    if backend.dimensions > SHORT:
        backends.append(neural.Backend(model=arguments.model, dimensions=SHORT))
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "command": (
            f"python benchmarks/search.py --vectors {arguments.vectors} "
            f"--queries {arguments.queries} --hours {arguments.hours:g} "
            f"--most-hnsw {arguments.most_hnsw:g}"
        ),
        "machine": machine(),
        "weights": backend.weights,
        "music_hours": arguments.hours,
        "conditions": CONDITIONS,
        "faiss": _faiss_version(),
        "figures": [],
    }
    with tempfile.TemporaryDirectory(prefix="afp-search-", dir=arguments.folder) as name:
        folder = Path(name)
        note(f"embedding {len(paths)} tracks")
        rate = backend.sample_rate
        music = embedded((read(path, sample_rate=rate) for path in paths), backend)
        queries = queries_of(
            paths,
            found,
            backend,
            folder,
            conditions=CONDITIONS,
            seconds=CLIP_SECONDS,
            queries=arguments.queries // len(CONDITIONS),
            seed=arguments.seed,
        )
        n_real = sum(int(track.any(axis=1).sum()) for track in music)
        results["music_vectors"], results["queries"] = n_real, len(queries)
        results["query_vectors"] = statistics.median(len(query.vectors) for query in queries)
        rng = np.random.default_rng(arguments.seed)
        made = mixtures(music, max(sizes[-1] - n_real, 0), rng)
        for size in sizes:
            n_made = -(-max(size - n_real, 0) // STRETCH)
            tracks = music + made[:n_made]
            hnsw = size <= arguments.most_hnsw
            rows = measure(tracks, queries, backends, folder, hnsw=hnsw)
            results["figures"] += rows
            print_section(section(rows))
            sys.stdout.flush()
            results["load_average"] = os.getloadavg()
            results["took_s"] = time.perf_counter() - started
            write_json(arguments.out / "search.json", results)


def _faiss_version() -> str | None:
    if not find_spec("faiss"):
        return None
    import faiss

    return str(faiss.__version__)


if __name__ == "__main__":
    script(main)
