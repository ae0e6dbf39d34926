"""Sequence search in plain NumPy: what searches of embeddings are held against.

The score of an alignment is that of `afp.matching.inner_product.align`; here it is computed in
float32 on all stored embeddings (`exact`), or only where hits of another index vote (`aligned`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from afp.fingerprint import F32, I64

GAP = 16
"""Rows of zeros between two tracks: no query of so many rows reaches from one into the next."""

CHUNK = 8192  # rows whose products stay in the cache


def weighed(similarities: F32) -> F32:
    """Return what similarities count for in `afp.matching.inner_product.align`."""
    positive = np.maximum(similarities, 0)
    square = positive * positive
    weights: F32 = square * square
    return weights


class Place(NamedTuple):
    """Where a query lies: its track, and track time minus query time in steps of the query."""

    track: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """Embeddings of tracks end to end.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, d)
        One a frame, of length 1; zeros where there is none, and between tracks.
    starts : ndarray of int64, shape (t,)
        Row of each track's first frame.
    counts : ndarray of int64, shape (t,)
        Frames of each.
    """

    vectors: F32
    starts: I64
    counts: I64

    @classmethod
    def of(cls, tracks: Sequence[F32]) -> "Laid":
        """Lay tracks (frames, d) out."""
        counts = np.array([len(track) for track in tracks])
        starts = GAP + np.cumsum(counts + GAP) - counts - GAP
        vectors = np.zeros((int(starts[-1] + counts[-1]) + GAP, tracks[0].shape[1]), np.float32)
        for start, track in zip(starts.tolist(), tracks, strict=True):
            vectors[start : start + len(track)] = track
        return cls(vectors, starts, counts)

    def rows(self) -> I64:
        """Return the rows that hold an embedding."""
        return np.flatnonzero(self.vectors.any(axis=1))

    def place(self, offset: int, n_steps: int, fineness: int) -> Place:
        """Tell the track of a query of so many steps that begins at a step of the whole."""
        last = np.searchsorted(fineness * self.starts, offset + n_steps, side="right") - 1
        track = max(int(last), 0)
        return Place(track, offset - fineness * int(self.starts[track]))


def quantised(track: F32) -> F32:
    """Return a track's embeddings as 8 bits a number, and one scale, would keep them."""
    scale = max(float(np.abs(track).max()), 1e-9) / 127
    kept: F32 = (np.rint(track / scale) * scale).astype(np.float32)
    return kept


def exact(query: F32, laid: Laid, *, fineness: int, side: float) -> Place:
    """Find the best of all alignments, in float32 by BLAS.

    Parameters
    ----------
    query : ndarray of float32, shape (m, d)
        An embedding a step.
    laid : Laid
        What is stored.
    fineness, side
        As for `afp.matching.inner_product.align`.
    """
    m, n = len(query), len(laid.vectors)
    before = -(-m // fineness)
    # A lane holds every `fineness`-th offset: column i of lane b, `fineness * (i - before) - b`.
    lanes = np.zeros((fineness, n + before), np.float32)
    for start in range(0, n, CHUNK):
        products = weighed(query @ laid.vectors[start : start + CHUNK].T)
        for step in range(m):
            back, lane = divmod(step, fineness)
            first = start - back + before
            lanes[lane, first : first + products.shape[1]] += products[step]
    sums = lanes[::-1].T.ravel()
    scores = sums.copy()
    if side:
        scores[1:-1] += np.float32(side) * (sums[:-2] + sums[2:])
    offset = int(np.argmax(scores)) - (fineness - 1) - fineness * before
    return laid.place(offset, m, fineness)


def aligned(
    query: F32,
    hits: I64,
    similarities: F32,
    laid: Laid,
    *,
    fineness: int,
    side: float,
    most: int,
) -> Place | None:
    """Find the best alignment among those that hits vote for.

    Parameters
    ----------
    query : ndarray of float32, shape (m, d)
        An embedding a step.
    hits : ndarray of int64, shape (m, k)
        Rows found for each step; negative where there is none.
    similarities : ndarray of float32, shape (m, k)
        How alike each hit is, as far as the index tells.
    laid : Laid
        The embeddings that candidates are scored with.
    fineness, side
        As for `exact`.
    most : int
        Offsets that are scored, those with the heaviest votes.
    """
    m, _ = hits.shape
    found = hits >= 0
    diagonals = (fineness * hits - np.arange(m)[:, None])[found]
    if not len(diagonals):
        return None
    offsets, which = np.unique(diagonals, return_inverse=True)
    votes = np.bincount(which, weighed(similarities[found]))
    beside = votes.copy()  # a place between two offsets votes for both
    follows = np.flatnonzero(np.diff(offsets) == 1)
    beside[follows] += side * votes[follows + 1]
    beside[follows + 1] += side * votes[follows]
    chosen = np.argpartition(-beside, min(most, len(beside)) - 1)[:most]
    scores = _scores(query, offsets[chosen], laid, fineness=fineness, side=side)
    return laid.place(int(offsets[chosen[np.argmax(scores)]]), m, fineness)


def _scores(query: F32, offsets: I64, laid: Laid, *, fineness: int, side: float) -> F32:
    """Score alignments (n,) on the stored embeddings."""
    m = len(query)
    first = (offsets - 1) // fineness
    n_rows = (m + 2) // fineness + 2
    rows = first[:, None] + np.arange(n_rows)
    inside = (rows >= 0) & (rows < len(laid.vectors))
    stretches = laid.vectors[np.where(inside, rows, 0)]
    products = weighed(np.where(inside[:, :, None], stretches @ query.T, 0))
    # Row k and step s meet at offset `fineness * k - s` of the stretch, at that index plus m.
    sums = np.zeros((len(offsets), fineness * n_rows + m + 1), np.float32)
    for step in range(m):
        sums[:, m - step : m - step + fineness * n_rows : fineness] += products[:, :, step]
    at = offsets - fineness * first + m
    each = np.arange(len(offsets))
    return sums[each, at] + np.float32(side) * (sums[each, at - 1] + sums[each, at + 1])
