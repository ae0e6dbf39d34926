"""A way to search embeddings, and those of Faiss.

The settings are those of the code of Chang et al. (64 bytes a vector in product quantisation) and
of the manuals of Faiss.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from output import note
from queries import Query
from sequences import Laid, Place, aligned

from afp.backends import neural

NEIGHBOURS, OFFSETS = 100, 100
PQ_BYTES, LSH_BITS, HNSW_LINKS, HNSW_BUILD = 64, 256, 16, 40
PROBES, WIDTHS = (4, 16, 64), (32, 128)
TRAINED_ON = 40  # vectors a centre
PQ_PASSES = 10  # of k-means; the usual 25 take minutes


class Answer(NamedTuple):
    """A place, and how much of the time for it went into the index alone."""

    place: Place | None
    index_seconds: float


@dataclass(frozen=True, slots=True)
class Method:
    """A way to search.

    Attributes
    ----------
    name, setting : str
    dimensions : int
    build_seconds : float
    n_bytes : int
        Of the index.
    kept_beside : int
        Bytes a vector that it needs besides.
    search : callable
    """

    name: str
    setting: str
    dimensions: int
    build_seconds: float
    n_bytes: int
    kept_beside: int
    search: Callable[[Query], Answer]


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Give the CPU seconds since the beginning."""
    started = time.process_time()
    yield lambda: time.process_time() - started


def by_faiss(laid: Laid, *, hnsw: bool) -> Iterator[Method]:
    """Search by the indexes of Faiss, one after the other."""
    import faiss

    faiss.omp_set_num_threads(1)
    rows = laid.rows()
    vectors = laid.vectors[rows]
    n, d = vectors.shape
    product = faiss.METRIC_INNER_PRODUCT

    def method(name: str, setting: str, seconds: float, index: Any, beside: int = 4 * d) -> Method:
        n_bytes = faiss.serialize_index(index).nbytes
        return Method(name, setting, d, seconds, n_bytes, beside, _faiss_search(index, rows, laid))

    def built(index: Any) -> tuple[Any, float]:
        with timed() as taken:
            if not index.is_trained:
                index.train(vectors)
            index.add(vectors)
            return index, taken()

    index, seconds = built(faiss.IndexFlatIP(d))
    yield method("Faiss Flat", "", seconds, index, 0)
    index, seconds = built(faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, product))
    yield method("Faiss SQ", "8 bits", seconds, index)
    index, seconds = built(faiss.IndexLSH(d, LSH_BITS))
    yield method("Faiss LSH", f"{LSH_BITS} bits", seconds, index)
    n_lists = 1 << round(np.log2(4 * np.sqrt(n)))
    note(f"Faiss: {n_lists} lists")
    with timed() as taken:
        centres = faiss.Kmeans(d, n_lists, spherical=True, max_points_per_centroid=TRAINED_ON)
        centres.train(vectors)
        quantiser = faiss.IndexFlatIP(d)
        quantiser.add(centres.centroids)
        lists_seconds = taken()
    compressed = faiss.IndexIVFPQ(quantiser, d, n_lists, PQ_BYTES, 8, product)
    compressed.pq.cp.niter = PQ_PASSES
    for name, empty, beside in (
        ("Faiss IVF-Flat", faiss.IndexIVFFlat(quantiser, d, n_lists, product), 0),
        ("Faiss IVF-PQ", compressed, 4 * d),
    ):
        index, seconds = built(empty)
        for n_probe in PROBES:
            index.nprobe = n_probe
            setting = f"{n_lists} lists, nprobe {n_probe}"
            yield method(name, setting, lists_seconds + seconds, index, beside)
    if hnsw:
        index = faiss.IndexHNSWFlat(d, HNSW_LINKS, product)
        index.hnsw.efConstruction = HNSW_BUILD
        index, seconds = built(index)
        for width in WIDTHS:
            index.hnsw.efSearch = width
            yield method("Faiss HNSW", f"M {HNSW_LINKS}, efSearch {width}", seconds, index, 0)


def _faiss_search(index: Any, rows: np.ndarray, laid: Laid) -> Callable[[Query], Answer]:
    is_hamming = type(index).__name__ == "IndexLSH"

    def search(query: Query) -> Answer:
        started = time.process_time()
        similarities, found = index.search(query.vectors, NEIGHBOURS)
        seconds = time.process_time() - started
        if is_hamming:  # the share of bits that differ is the angle
            similarities = np.cos(np.pi / LSH_BITS * similarities)
        place = aligned(
            query.vectors,
            np.where(found >= 0, rows[found], -1),
            similarities,
            laid,
            fineness=neural.FINENESS,
            side=neural.SIDE,
            most=OFFSETS,
        )
        return Answer(place, seconds)

    return search
