"""Where a query's embeddings may lie in a large store: the most alike in cells near them.

The inverted file of J. Sivic and A. Zisserman, "Video Google" (ICCV 2003) and H. Jégou, M. Douze
and C. Schmid, "Product Quantization for Nearest Neighbor Search" (TPAMI 2011): each stored
embedding belongs to the cell of the nearest of some centres, and only a few cells are looked into.
The cell is the hash of a posting, so that the index of landmarks serves for embeddings as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from afp.compiled import CACHE_LINE, kernel, prefetch
from afp.fingerprint import F32, I64, U32
from afp.index import GAP_FRAMES, EmbeddingBlock, Hits
from afp.matching.inner_product import MOST_STEPS, UNIT, USUAL_DIMENSIONS, Alignments, align

_ALIKE = 0.3  # similarity from which a hit counts, by the square of what is beyond
_STEP_BITS = (MOST_STEPS - 1).bit_length()
_DIGIT_BITS = 11  # of a radix sort: the counts stay in the first-level cache
_AHEAD = 24  # embeddings that are on their way from memory
_PEAKS_A_TRACK = 4  # at most: one that repeats itself must not crowd out the others
_STRETCH_BITS = GAP_FRAMES.bit_length() - 1  # of an axis: no two tracks begin in a stretch


def nearest(vectors: F32, centres: F32) -> U32:
    """Return the cell of each vector (n, d) among those of the centres (c, d)."""
    parts = [
        (vectors[i : i + 1024] @ centres.T).argmax(axis=1) for i in range(0, len(vectors), 1024)
    ]
    return np.concatenate([np.empty(0, np.uint32), *parts]).astype(np.uint32)


def probes(vectors: F32, centres: F32, *, n_probe: int) -> tuple[I64, U32]:
    """Return the cells to look into: for each vector (m, d) those of the nearest centres.

    Returns
    -------
    rows : ndarray of int64, shape (m * n_probe,)
        Which of the vectors.
    cells : ndarray of uint32, shape (m * n_probe,)
    """
    n_probe = min(n_probe, len(centres))
    alike = vectors @ centres.T
    cells = np.argpartition(alike, len(centres) - n_probe, axis=1)[:, -n_probe:]
    return np.repeat(np.arange(len(vectors)), n_probe), cells.astype(np.uint32).ravel()


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """Stretches of tracks that a query is to be laid onto.

    Attributes
    ----------
    blocks : list of EmbeddingBlock
        The stretches, as if they were tracks; a track may have several.
    firsts : ndarray of int64, shape (n,)
        Frame of its track that each begins with.
    """

    blocks: list[EmbeddingBlock]
    firsts: I64


def promising(
    query: F32,
    steps: I64,
    hits: Sequence[Hits],
    blocks: Sequence[EmbeddingBlock],
    *,
    fineness: int,
    width: int,
    most: int,
) -> Stretches:
    """Find where the embeddings of a query are most alike to those of its cells, on one offset.

    Parameters
    ----------
    query : ndarray of float32, shape (m, d)
        An embedding of length 1 a step, `MOST_STEPS` at most.
    steps : ndarray of int64, shape (n_looked_up,)
        Step of the query that each cell was looked up for.
    hits : sequence of Hits
        What the cells hold, by segment.
    blocks : sequence of EmbeddingBlock
        The embeddings of the same segments.
    fineness : int
        Steps of the query in a frame of a track.
    width : int
        Steps over which hits count as on one offset.
    most : int
        Number of stretches to return, about.
    """
    codes = np.rint(query * np.float32(UNIT)).astype(np.int16)
    found = [
        _peaks(codes, steps, some, block, fineness=fineness, width=width, most=most)
        for some, block in zip(hits, blocks, strict=True)
    ]
    weights = np.concatenate([np.empty(0), *(peaks.weights for peaks in found)])
    least = weights[_largest(weights, most)].min(initial=np.inf)
    narrowed, firsts = [], [np.empty(0, np.int64)]
    for peaks, block in zip(found, blocks, strict=True):
        kept = peaks.weights >= least
        rows, first = peaks.rows[kept], peaks.offsets[kept] // fineness - 1
        # A frame more at either end, as the vote does not tell the offset to the step.
        stop = np.minimum(first + -(-len(query) // fineness) + 3, block.counts[rows])
        first = np.maximum(first, 0)
        narrowed.append(_cut(block, rows, first, np.maximum(stop - first, 0)))
        firsts.append(first)
    return Stretches(narrowed, np.concatenate(firsts))


def sample(blocks: Sequence[EmbeddingBlock], *, n_tracks: int, n_frames: int) -> Stretches:
    """Return the middle of some tracks, evenly chosen: what a query meets by chance."""
    total = sum(len(block.track_ids) for block in blocks)
    chosen = np.unique(np.linspace(0, total - 1, min(n_tracks, total)).astype(np.int64))
    narrowed, firsts, before = [], [np.empty(0, np.int64)], 0
    for block in blocks:
        after = before + len(block.track_ids)
        rows = chosen[(chosen >= before) & (chosen < after)] - before
        counts = np.minimum(block.counts[rows], n_frames)
        first = (block.counts[rows] - counts) // 2
        narrowed.append(_cut(block, rows, first, counts))
        firsts.append(first)
        before = after
    return Stretches(narrowed, np.concatenate(firsts))


def align_stretches(
    query: F32, likely: Stretches, chance: Stretches, *, fineness: int, side: float
) -> Alignments:
    """Lay a query onto stretches as `afp.matching.inner_product.align` does onto whole tracks.

    Parameters
    ----------
    query, fineness, side
        As for `align`.
    likely : Stretches
        What may hold the query.
    chance : Stretches
        What tells the scores of all alignments.
    """
    found = [align(query, each.blocks, fineness=fineness, side=side) for each in (likely, chance)]
    firsts = np.concatenate([likely.firsts, chance.firsts])
    scores = np.concatenate([each.scores for each in found])
    offsets = np.concatenate([each.offsets for each in found]) + fineness * firsts
    by_score = np.argsort(-scores, kind="stable")
    track_ids = np.concatenate([each.track_ids for each in found])[by_score]
    track_ids, first, which = np.unique(track_ids, return_index=True, return_inverse=True)
    powers = np.zeros((len(track_ids), 2))
    of_chance = np.concatenate([np.zeros_like(found[0].powers), found[1].powers])
    np.add.at(powers, which, of_chance[by_score])
    best = by_score[first]
    return Alignments(track_ids, scores[best], offsets[best], powers)


def _cut(block: EmbeddingBlock, rows: I64, first: I64, counts: I64) -> EmbeddingBlock:
    return replace(
        block,
        starts=block.starts[rows] + first * block.dimensions,
        counts=counts,
        scales=block.scales[rows],
        track_ids=block.track_ids[rows],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Peaks:
    rows: I64  # of the block's tracks
    offsets: I64  # track time minus query time, in steps
    weights: npt.NDArray[np.float64]


def _peaks(
    codes: npt.NDArray[np.int16],
    steps: I64,
    hits: Hits,
    block: EmbeddingBlock,
    *,
    fineness: int,
    width: int,
    most: int,
) -> _Peaks:
    """Find the peaks of one segment's offset histogram, its hits weighted by likeness."""
    n = len(hits.rows)
    if not n or not len(block.track_ids):
        return _Peaks(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    bases = hits.axis.bases[hits.axis.alive].astype(np.int64)
    begun = np.bincount(
        bases >> _STRETCH_BITS, minlength=(int(hits.positions.max()) >> _STRETCH_BITS) + 1
    )
    latest = np.cumsum(begun) - 1  # the last track that begins in a stretch or before it
    keys = _sorted_keys(hits, steps, fineness)
    rows, places = np.empty((2, n), np.int64)
    n = _locate(
        block.starts,
        block.counts,
        bases,
        latest,
        _STRETCH_BITS,
        codes.shape[1],
        fineness,
        _STEP_BITS,
        keys,
        rows,
        places,
    )
    diagonals, weights = np.empty(n, np.int64), np.empty(n, np.float32)
    n = _weigh(
        block.codes,
        block.scales / UNIT,
        codes,
        _STEP_BITS,
        _ALIKE,
        keys,
        places[:n],
        rows,
        diagonals,
        weights,
    )
    heights, where = np.empty(n), np.empty(n, np.int64)
    n = _weighted_peaks(diagonals[:n], rows[:n], weights[:n], width, _PEAKS_A_TRACK, heights, where)
    highest = _largest(heights[:n], most)
    best = where[highest]
    on_track = diagonals[best] - fineness * bases[rows[best]]
    return _Peaks(rows[best], on_track + width // 2, heights[highest])


def _sorted_keys(hits: Hits, steps: I64, fineness: int) -> I64:
    """Return ``diagonal << _STEP_BITS | step`` of each hit, in the order of the diagonals.

    What lies side by side in memory is then read one after the other. `afp.matching.voting` sorts
    diagonals faster, but takes nothing along.
    """
    n = len(hits.rows)
    n_bits = (int(hits.positions.max()) * fineness).bit_length()
    keys, others = np.empty((2, n), np.int64)
    n_passes = max(-(-n_bits // _DIGIT_BITS), 1)
    counts = np.empty(1 << _DIGIT_BITS, np.int64)
    _sort_keys(
        hits.rows,
        hits.positions,
        steps,
        fineness,
        _STEP_BITS,
        _DIGIT_BITS,
        n_passes,
        counts,
        keys,
        others,
    )
    return keys if n_passes % 2 == 0 else others


def _largest(values: npt.NDArray[np.floating[Any]], most: int) -> npt.NDArray[np.intp]:
    """Return where the largest values are, in no order."""
    if len(values) <= most:
        return np.arange(len(values))
    return np.argpartition(values, len(values) - most)[-most:]


@kernel(
    "void(uint32[::1], uint32[::1], int64[::1], int64, int64, int64, int64, int64[::1], int64[::1],"
    " int64[::1])"
)
def _sort_keys(  # type: ignore[no-untyped-def]
    hit_rows, positions, steps, fineness, step_bits, digit_bits, n_passes, counts, keys, others
):
    # A radix sort by the diagonals, the least digit first; the result is in `keys` after an even
    # number of passes. Diagonals are positive: no track begins as early on its axis as a query is
    # long.
    n = len(keys)
    n_digits = len(counts)
    for i in range(n):
        step = steps[hit_rows[i]]
        keys[i] = ((np.int64(positions[i]) * fineness - step) << step_bits) | step
    shift = step_bits
    for turn in range(n_passes):
        source = keys if turn % 2 == 0 else others
        target = others if turn % 2 == 0 else keys
        counts[:] = 0
        for i in range(n):
            counts[(source[i] >> shift) & (n_digits - 1)] += 1
        at = 0
        for digit in range(n_digits):
            count = counts[digit]
            counts[digit] = at
            at += count
        for i in range(n):
            digit = (source[i] >> shift) & (n_digits - 1)
            target[counts[digit]] = source[i]
            counts[digit] += 1
        shift += digit_bits


@kernel(
    "int64(int64[::1], int64[::1], int64[::1], int64[::1], int64, int64, int64, int64, int64[::1],"
    " int64[::1], int64[::1])"
)
def _locate(  # type: ignore[no-untyped-def]
    starts, counts, bases, latest, stretch_bits, d, fineness, step_bits, keys, rows, places
):
    # Writes the track of each key and where its embedding begins, without the keys of tracks that
    # are removed; returns how many are left.
    n = 0
    for i in range(len(keys)):
        position = ((keys[i] >> step_bits) + (keys[i] & ((1 << step_bits) - 1))) // fineness
        row = latest[position >> stretch_bits]
        if row >= 0 and bases[row] > position:
            row -= 1
        if row < 0 or position - bases[row] >= counts[row]:
            continue
        keys[n] = keys[i]
        rows[n] = row
        places[n] = starts[row] + (position - bases[row]) * d
        n += 1
    return n


@kernel(
    "int64(int8[::1], float64[::1], int16[:, ::1], int64, float64, int64[::1], int64[::1],"
    " int64[::1], int64[::1], float32[::1])"
)
def _weigh(  # type: ignore[no-untyped-def]
    codes, scales, queries, step_bits, alike, keys, places, rows, diagonals, weights
):
    # Writes what is alike enough, in the order of the keys; returns how many. Nearly every
    # embedding lies on another page of memory, so that they are asked for ahead.
    d = queries.shape[1]
    n_hits = len(places)
    n = 0
    for i in range(min(_AHEAD, n_hits)):
        _fetch(codes, places[i], d)
    for i in range(n_hits):
        _fetch(codes, places[min(i + _AHEAD, n_hits - 1)], d)
        stored = codes[places[i] : places[i] + d]
        query = queries[keys[i] & ((1 << step_bits) - 1)]
        product = np.int32(0)
        if d == USUAL_DIMENSIONS:
            for j in range(USUAL_DIMENSIONS):
                product = np.int32(product + np.int32(np.int32(stored[j]) * np.int32(query[j])))
        else:
            for j in range(d):
                product = np.int32(product + np.int32(np.int32(stored[j]) * np.int32(query[j])))
        row = rows[i]
        beyond = product * scales[row] - alike
        diagonals[n] = keys[i] >> step_bits
        rows[n] = row
        weights[n] = beyond * beyond
        n += beyond > 0.0
    return n


@kernel("void(int8[::1], int64, int64)")
def _fetch(codes, place, d):  # type: ignore[no-untyped-def]
    for line in range(place, place + d, CACHE_LINE):
        prefetch(codes, line)


@kernel("int64(int64[::1], int64[::1], float32[::1], int64, int64, float64[::1], int64[::1])")
def _weighted_peaks(diagonals, rows, weights, width, a_track, heights, where):  # type: ignore[no-untyped-def]
    # A window of `width` slides along the sorted diagonals; of overlapping ones the heaviest
    # counts. Writes the weights and the first hits of the heaviest of each track, whose diagonals
    # are neighbours; returns how many there are.
    n = len(diagonals)
    n_peaks = 0
    first = 0  # peak of the track
    row = np.int64(-1)
    end = 0
    total = 0.0
    best = 0.0
    best_at = 0
    for i in range(n + 1):
        if best > 0.0 and (i == n or diagonals[i] - diagonals[best_at] > width):
            if rows[best_at] != row:
                row = rows[best_at]
                first = n_peaks
            if n_peaks - first < a_track:
                heights[n_peaks] = best
                where[n_peaks] = best_at
                n_peaks += 1
            else:
                weakest = first
                for k in range(first + 1, n_peaks):
                    if heights[k] < heights[weakest]:
                        weakest = k
                if best > heights[weakest]:
                    heights[weakest] = best
                    where[weakest] = best_at
            best = 0.0
        if i == n:
            break
        while end < n and diagonals[end] - diagonals[i] <= width:
            total += weights[end]
            end += 1
        if total > best:
            best = total
            best_at = i
        total -= weights[i]
    return n_peaks
