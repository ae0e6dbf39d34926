"""Inner products of a query's embeddings with all stored ones, summed along every alignment.

Exact: nothing is left out, and what decides is the whole query, not a list of candidates for each
of its embeddings. S. Chang et al., "Neural Audio Fingerprint for High-specific Audio Retrieval
based on Contrastive Learning" (ICASSP 2021) score candidates by the mean of aligned similarities;
here each counts by its fourth power. A true place is very like the query where noise lets it be,
while a false one is a little like it all along.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from afp.compiled import kernel
from afp.fingerprint import F32, F64, I64
from afp.index import EmbeddingBlock, Embeddings

UNIT = 4096
"""What a query's component of 1 becomes: the rounding of queries is lost beside the stored one."""

MOST_STEPS = 256
"""Embeddings of a query at most."""

USUAL_DIMENSIONS = 128
"""Of embeddings: a loop of known length takes half the time."""


@dataclass(frozen=True, slots=True, eq=False)
class Alignments:
    """The best alignment of a query with each track.

    Attributes
    ----------
    track_ids : ndarray of int64, shape (t,)
        The tracks.
    scores : ndarray of float64, shape (t,)
        Mean fourth power of the aligned similarities; negative ones count as 0.
    offsets : ndarray of int64, shape (t,)
        Track time minus query time, in steps of the query.
    powers : ndarray of float64, shape (t, 2)
        Of the alignments that lay the whole query onto the track: their number, and the sum of
        the squares of their scores.
    """

    track_ids: I64
    scores: F64
    offsets: I64
    powers: F64


def align(
    query: F32, blocks: Iterable[EmbeddingBlock], *, fineness: int, side: float
) -> Alignments:
    """Lay a query onto every track, at every offset.

    Parameters
    ----------
    query : ndarray of float32, shape (m, d)
        An embedding of length 1 a step, `MOST_STEPS` at most; zeros where there is none.
    blocks : iterable of EmbeddingBlock
        The tracks.
    fineness : int
        Steps of the query in a frame of a track. At an offset, every `fineness`-th step of the
        query meets a frame.
    side : float
        What the steps count that miss a frame by one, relative to those that meet it.
    """
    whole = normaliser(query, fineness=fineness, side=side)
    codes = np.rint(query * np.float32(UNIT)).astype(np.int16)
    ids, scores, offsets, powers = [], [], [], []
    for block in blocks:
        n = len(block.track_ids)
        best, where, squares = np.empty(n), np.empty(n, np.int64), np.zeros((n, 2))
        if n:
            _align(
                block.codes,
                block.starts,
                block.counts,
                (block.scales / UNIT).astype(np.float32),
                codes,
                fineness,
                side,
                whole,
                np.empty(fineness * int(block.counts.max()) + len(query) + 2, np.float32),
                best,
                where,
                squares,
            )
        ids.append(block.track_ids)
        scores.append(best)
        offsets.append(where)
        powers.append(squares)
    return Alignments(
        np.concatenate([np.empty(0, np.int64), *ids]),
        np.concatenate([np.empty(0), *scores]),
        np.concatenate([np.empty(0, np.int64), *offsets]),
        np.concatenate([np.empty((0, 2)), *powers]),
    )


def normaliser(query: F32, *, fineness: int, side: float) -> float:
    """Return the sum of similarities that an alignment of a query with itself would have."""
    heard = np.zeros(-(-max(len(query), 1) // fineness) * fineness)
    heard[: len(query)] = query.any(axis=1)
    counts = heard.reshape(-1, fineness).sum(axis=0)
    beside = (np.roll(counts, 1) + np.roll(counts, -1)) if fineness > 2 else 0.0
    return float(max(np.max(counts + side * beside), 1.0))


def similarities(query: F32, track: Embeddings, offset: int, *, fineness: int) -> F64:
    """Return how alike each step of a query is to the track's frame at or next to it.

    Parameters
    ----------
    query : ndarray of float32, shape (m, d)
        As for `align`.
    track : Embeddings
        Of the track.
    offset : int
        Track time minus query time, in steps of the query.
    fineness : int
        As for `align`.

    Returns
    -------
    ndarray of float64, shape (m,)
        Inner products; 0 where the track has no frame.
    """
    steps = np.arange(len(query)) + offset
    found = np.zeros(len(query))
    # A step midway between two frames counts half for either, lest places lean to one side.
    for half in (fineness // 2, (fineness - 1) // 2):
        frames = (steps + half) // fineness
        inside = (frames >= 0) & (frames < len(track.codes))
        met = track.codes[frames[inside]].astype(np.float32)
        found[inside] += 0.5 * np.einsum("ij,ij->i", query[inside], met) * track.scale
    return found


def score_at(
    query: F32, track: Embeddings, offset: float, *, speed: float, fineness: int, side: float
) -> float:
    """Return the score of a query at one place of a track, as `align` has it.

    Parameters
    ----------
    query : ndarray of float32, shape (m, d)
        As for `align`.
    track : Embeddings
        Of the track.
    offset : float
        Track time minus `speed` times query time, in steps of the query.
    speed : float
        Time factor.
    fineness, side
        As for `align`.
    """
    met = np.rint((fineness * np.arange(len(track.codes)) - offset) / speed).astype(np.int64)
    total = 0.0
    for beside, weight in ((-1, side), (0, 1.0), (1, side)):
        steps = met + beside
        inside = (steps >= 0) & (steps < len(query))
        rows = track.codes[inside].astype(np.float32) * np.float32(track.scale)
        alike = np.maximum(np.einsum("ij,ij->i", query[steps[inside]], rows), 0.0)
        total += weight * float((alike**4).sum())
    return total / normaliser(query, fineness=fineness, side=side)


@kernel(
    "void(int8[::1], int64[::1], int64[::1], float32[::1], int16[:, ::1], int64, float64, float64,"
    " float32[::1], float64[::1], int64[::1], float64[:, ::1])"
)
def _align(  # type: ignore[no-untyped-def]
    codes, starts, counts, scales, queries, fineness, side, whole, sums, scores, offsets, powers
):
    # Products of the k-th frame and step s go to the sum of offset `fineness * k - s`, which is
    # at index `offset + m` of the sums: one is free at either end, for the steps beside.
    m, d = queries.shape
    for track in range(len(starts)):
        n = counts[track]
        n_sums = fineness * n + m + 2
        for i in range(n_sums):
            sums[i] = np.float32(0.0)
        for k in range(n):
            at = starts[track] + k * d
            row = codes[at : at + d]
            for s in range(m):
                query = queries[s]
                product = np.int32(0)
                if d == USUAL_DIMENSIONS:
                    for j in range(USUAL_DIMENSIONS):
                        x = np.int32(np.int32(row[j]) * np.int32(query[j]))
                        product = np.int32(product + x)
                else:
                    for j in range(d):
                        x = np.int32(np.int32(row[j]) * np.int32(query[j]))
                        product = np.int32(product + x)
                similarity = max(np.float32(product) * scales[track], np.float32(0.0))
                square = similarity * similarity
                sums[fineness * k - s + m] += square * square
        best, best_at = -1e300, 1
        for i in range(1, n_sums - 1):
            score = sums[i] + side * (sums[i - 1] + sums[i + 1])
            if score > best:
                best, best_at = score, i
            if i >= m and i <= m + fineness * (n - 1) - (m - 1):
                score /= whole
                powers[track, 0] += 1.0
                powers[track, 1] += score * score
        scores[track] = best / whole
        offsets[track] = best_at - m
