"""Fit what the scores of ``-b neural`` are held against: the rivals, the deviation, and the tail.

Lays clips of music that the net was not trained on onto a store, without the track that each is
from, so that the best that is left is of no worth. The fifth best in units of the deviation, over
the number of embeddings, gives `RIVAL_DEVIATIONS` and `RIVAL_DECAY`; an exponential tail of the
excess gives `NULL`. Smaller stores, drawn from the large one, tell whether p_false holds there.

    python benchmarks/null_neural.py --absent ~/unseen --others ~/music --noise ~/noise --ir ~/rooms
"""

# ruff: noqa: E402 - threads of a BLAS only get in the way
import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import argparse
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from corpus import Corpus
from neural import CONDITIONS
from null_model import tail
from output import note, print_section, script
from queries import queries_of

from afp.audio import walk
from afp.backends import neural
from afp.bench.table import Section
from afp.distort import read
from afp.fingerprint import F64, Fingerprint
from afp.index import EmbeddingBlock
from afp.matching.inner_product import align
from afp.store.embeddings import block, pack
from afp.store.records import seal

SECONDS = (1.0, 2.0, 3.0, 5.0, 10.0)
STORES = (1, 3, 5, 20, 100)  # tracks
LEVELS = (0.1, 0.03, 0.01, 3e-3, 1e-3)


@dataclass(frozen=True, slots=True)
class Laid:
    """A clip on all tracks but its own, the most alike first.

    Attributes
    ----------
    scores : ndarray of float64, shape (t,)
    powers : ndarray of float64, shape (t, 2)
        As of `afp.matching.inner_product.Alignments`.
    plainness : float
    n_heard : int
        Embeddings of the clip.
    """

    scores: F64
    powers: F64
    plainness: float
    n_heard: int

    def excess(self, chosen: Sequence[int] | None = None) -> float:
        """Return by how much the best exceeds what it is held against, among some of the tracks."""
        rows = np.arange(len(self.scores)) if chosen is None else np.sort(chosen)
        found = neural.Alignments(rows, self.scores[rows], rows, self.powers[rows])
        null = neural._Null.of(found, self.plainness, self.n_heard)
        return null.excess(float(self.scores[rows[0]]))


def stored(fingerprints: Iterable[Fingerprint]) -> EmbeddingBlock:
    """Lay fingerprints side by side as a segment of a store has them."""
    sealed = [seal(b"", pack(each)) for each in fingerprints]
    edges = np.cumsum([0, *map(len, sealed)])
    memory = np.frombuffer(b"".join(sealed), np.uint8)
    return block(memory, edges, np.arange(len(sealed)), np.ones(len(sealed), np.bool_))


def laid(arguments: argparse.Namespace, backend: neural.Backend) -> list[Laid]:
    """Lay clips of every condition and length onto all tracks but their own."""
    absent, others = (
        [Path(file.path) for file in walk([folder])]
        for folder in (arguments.absent, arguments.others)
    )
    note(f"embedding {len(absent) + len(others)} tracks")
    rate = backend.sample_rate
    store = stored(backend.extract(read(path, sample_rate=rate)) for path in (*absent, *others))
    found = Corpus(arguments.absent, noise=arguments.noise, rooms=arguments.ir)
    results = []
    for seconds in SECONDS:
        note(f"laying clips of {seconds:g} s")
        with tempfile.TemporaryDirectory() as folder:
            queries = queries_of(
                absent,
                found,
                backend,
                Path(folder),
                conditions=CONDITIONS,
                seconds=seconds,
                queries=arguments.queries,
                seed=arguments.seed,
            )
        for query in queries:
            heard = query.fingerprint.vectors
            assert heard is not None
            alike = align(query.vectors, [store], fineness=neural.FINENESS, side=neural.SIDE)
            order = np.argsort(-alike.scores, kind="stable")
            order = order[order != query.track]
            results.append(
                Laid(
                    alike.scores[order],
                    alike.powers[order],
                    backend._plainness(heard),
                    len(heard),
                )
            )
    return results


def print_rivals(clips: Sequence[Laid]) -> None:
    """Print the deviation of the scores, and the fifth best in units of it, as they are fitted."""
    deviations, rivals = [], []
    for clip in clips:
        count, squares = clip.powers[neural.MOST_PRESENT :].T
        each = squares[count > 0] / count[count > 0]
        deviations.append(math.sqrt(float(np.quantile(each, neural.DEVIATION_QUANTILE))))
        rivals.append(float(clip.scores[neural.RIVAL - 1]))
    n_heard = np.log([clip.n_heard for clip in clips])
    decay, level = np.polyfit(n_heard, np.log(np.array(rivals) / np.array(deviations)), 1)
    print(f"USUAL_DEVIATION: {np.median(deviations):.4f} at the median, in use ", end="")
    print(f"{neural.USUAL_DEVIATION}: clips of a second have more")
    print(f"RIVAL_DEVIATIONS, RIVAL_DECAY = {math.exp(level):.1f}, {-decay:.3f}", end="")
    print(f"  # in use: {neural.RIVAL_DEVIATIONS}, {neural.RIVAL_DECAY}")


def print_tail(clips: Sequence[Laid]) -> None:
    """Print the tail of the excess as it is fitted."""
    score, decay, _ = tail([clip.excess() for clip in clips])
    print(f"NULL = NullModel(score={score:.2f}, decay={decay:.2f}, hours=math.inf)", end="")
    print(f"  # in use: {neural.NULL.score}, {neural.NULL.decay}")


def by_store(clips: Sequence[Laid], seed: int) -> Section:
    """Tell how many clips fall below each p_false, and how many should, by size of the store."""
    rng = np.random.default_rng(seed)
    rows = []
    n_all = len(clips[0].scores)
    for n_tracks in (*(n for n in STORES if n < n_all), n_all):
        p = np.array(
            [
                neural.NULL.p_false(
                    clip.excess(rng.choice(n_all, n_tracks, replace=False)), store_hours=0.0
                )
                for clip in clips
            ]
        )
        observed = [f"{np.count_nonzero(p <= level)} / {level * len(p):.1f}" for level in LEVELS]
        rows.append((str(n_tracks), *observed))
    right = ("tracks", *(f"{level:g}" for level in LEVELS))
    title = f"{len(clips)} clips of absent music with p_false at most so much, observed / nominal"
    return Section(title, right, rows, right)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--absent", type=Path, required=True, help="what training never saw")
    parser.add_argument("--others", type=Path, required=True, help="what else is in the store")
    parser.add_argument("--noise", type=Path, help="noises that training never heard")
    parser.add_argument("--ir", type=Path, help="rooms that training never heard")
    parser.add_argument("--model", default="", help="as `afp train` writes it [the shipped one]")
    parser.add_argument("--queries", type=int, default=200, help="a cell [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    arguments = parser.parse_args()
    clips = laid(arguments, neural.Backend(model=arguments.model))
    print_rivals(clips)
    print_tail(clips)
    print_section(by_store(clips, arguments.seed))


if __name__ == "__main__":
    script(main)
