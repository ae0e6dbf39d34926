"""Offset-histogram voting: a track and an offset on which many hits of a query agree."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.fingerprint import I64, U32
from afp.index import Hits

DIGIT_BITS = 11  # the counts of one digit fit into the first-level cache
CACHED_BITS = 13  # so many hits do, too
LEADING_BITS = 9  # with more buckets, each hit that is put into one misses the cache


@dataclass(frozen=True, slots=True)
class Candidate:
    """A track and an offset on which hits of a query agree.

    Attributes
    ----------
    track_id : int
        The track.
    offset : float
        Track time minus query time, in fine steps of a frame.
    n_aligned : int
        Hits that agree on it.
    expected : float
        Hits that would agree by chance, given how many the track has in all.
    speed : float
        Time factor under which the query was looked up.
    """

    track_id: int
    offset: float
    n_aligned: int
    expected: float
    speed: float


def rarest(counts: U32, most: int) -> npt.NDArray[np.bool_]:
    """Choose the hashes with the shortest posting lists: rare hashes say more than common ones.

    Parameters
    ----------
    counts : ndarray of uint32, shape (m,)
        Postings of each hash.
    most : int
        Postings of all chosen hashes together, at most.

    Returns
    -------
    ndarray of bool, shape (m,)
    """
    chosen: npt.NDArray[np.bool_] = counts > 0
    if int(counts.sum()) > most:
        by_rarity = np.argsort(counts, kind="stable")
        affordable = np.searchsorted(np.cumsum(counts[by_rarity], dtype=np.int64), most, "right")
        chosen[by_rarity[affordable:]] = False
    return chosen


def vote(
    hits: Hits, query_times: I64, *, fineness: int, width: int, most: int, speed: float = 1.0
) -> list[Candidate]:
    """Find the peaks of the offset histogram of one segment's hits.

    A hit's position minus its query time names track and offset in one integer, because the
    time axis has gaps longer than a query. Sorting these integers makes a histogram of any bin
    width, anywhere.

    Parameters
    ----------
    hits : Hits
        Hits of the looked-up hashes.
    query_times : ndarray of int64, shape (m,)
        Time of each looked-up hash on the track's clock, in fine steps.
    fineness : int
        Fine steps in a frame.
    width : int
        Extent of a histogram peak, in fine steps.
    most : int
        Number of candidates to return.
    speed : float
        Passed on to the candidates.

    Returns
    -------
    list of Candidate
        Most hits first, none on removed tracks.
    """
    if not len(hits.rows):
        return []
    duration = int(query_times.max())
    axis = hits.axis
    diagonals = _sorted_diagonals(hits, query_times, fineness)
    removed = np.flatnonzero(~axis.alive)
    if len(removed):
        bases = axis.bases[removed].astype(np.int64) * fineness
        lengths = axis.n_frames[removed].astype(np.int64) * fineness
        diagonals = _cut(diagonals, bases - duration, bases + lengths + 1)
        if not len(diagonals):
            return []
    where = np.zeros(most, np.int64)
    n_aligned = np.zeros(most, np.int64)
    _histogram_peaks(diagonals, width, where, n_aligned)

    # In the axis' own type: a conversion of the axis would cost more than the vote.
    latest = ((where + duration) // fineness).astype(axis.bases.dtype)
    slots = np.searchsorted(axis.bases, latest, side="right") - 1
    order = np.argsort(-n_aligned, kind="stable")
    order = order[n_aligned[order] >= 2]
    slots = slots[order]
    bases = axis.bases[slots].astype(np.int64) * fineness
    lengths = axis.n_frames[slots].astype(np.int64) * fineness
    first = np.searchsorted(diagonals, bases - duration)
    last = np.searchsorted(diagonals, bases + lengths + 1)
    expected = (last - first) * (width + 1) / (lengths + duration)
    offsets = where[order] + width / 2 - bases
    rows = zip(
        axis.track_ids[slots].tolist(),
        offsets.tolist(),
        n_aligned[order].tolist(),
        expected.tolist(),
        strict=True,
    )
    return [Candidate(*row, speed) for row in rows]


def _cut(diagonals: I64, starts: I64, stops: I64) -> I64:
    """Remove what lies in stretches that do not overlap, given in order."""
    edges = np.searchsorted(diagonals, np.stack([starts, stops], axis=1).ravel())
    lengths = np.diff(edges, prepend=0, append=len(diagonals))
    kept: I64 = diagonals[np.repeat(np.arange(len(lengths)) % 2 == 0, lengths)]
    return kept


def _sorted_diagonals(hits: Hits, query_times: I64, fineness: int) -> I64:
    n = len(hits.rows)
    lowest = int(hits.positions.min()) * fineness - int(query_times.max())
    highest = int(hits.positions.max()) * fineness - int(query_times.min())
    width = (highest - lowest).bit_length()
    leading = max(width - 2 * DIGIT_BITS, min(n.bit_length() - CACHED_BITS, LEADING_BITS), 0)
    diagonals = np.empty(n, np.int64)
    _sort_diagonals(
        hits.rows,
        hits.positions,
        query_times,
        fineness,
        lowest,
        max(width - leading, 0),
        np.empty((1 << leading) + 1, np.int64),
        np.empty(1 << leading, np.int64),
        np.empty((2, 1 << DIGIT_BITS), np.int64),
        np.empty((2, n), np.uint32),
        diagonals,
    )
    return diagonals


@kernel(
    "void(uint32[::1], uint32[::1], int64[::1], int64, int64, int64, int64[::1], int64[::1], "
    "int64[:, ::1], uint32[:, ::1], int64[::1])"
)
def _sort_diagonals(  # type: ignore[no-untyped-def]
    rows,
    positions,
    query_times,
    fineness,
    lowest,
    shift,
    bounds,
    starts,
    counts,
    buffers,
    diagonals,
):
    # Into buckets by what is above `shift` first; each of them then fits into the cache, where two
    # passes of a radix sort put it in order. Indices are unsigned: others might count from the end.
    n = len(rows)
    above = np.uint64(shift)
    mask = (np.uint64(1) << above) - np.uint64(1)
    bounds[:] = 0
    for i in range(n):
        d = np.uint64(np.int64(positions[i]) * fineness - query_times[rows[i]] - lowest)
        bounds[(d >> above) + np.uint64(1)] += 1
    for bucket in range(len(starts)):
        bounds[bucket + 1] += bounds[bucket]
        starts[bucket] = bounds[bucket]
    for i in range(n):
        d = np.uint64(np.int64(positions[i]) * fineness - query_times[rows[i]] - lowest)
        buffers[0, np.uint64(starts[d >> above])] = d & mask
        starts[d >> above] += 1

    n_low = np.int64(1) << (shift >> 1)
    n_high = np.int64(1) << (shift - (shift >> 1))
    low_bits, low_mask = np.uint32(shift >> 1), np.uint32(n_low - 1)
    for bucket in range(len(starts)):
        first = bounds[bucket]
        last = bounds[bucket + 1]
        if first == last:
            continue
        counts[0, :n_low] = 0
        counts[1, :n_high] = 0
        for i in range(first, last):
            rest = buffers[0, np.uint64(i)]
            counts[0, np.uint32(rest & low_mask)] += 1
            counts[1, np.uint32(rest >> low_bits)] += 1
        at = first
        for value in range(n_low):
            count = counts[0, value]
            counts[0, value] = at
            at += count
        at = first
        for value in range(n_high):
            count = counts[1, value]
            counts[1, value] = at
            at += count
        for i in range(first, last):
            rest = buffers[0, np.uint64(i)]
            low = np.uint32(rest & low_mask)
            buffers[1, np.uint64(counts[0, low])] = rest
            counts[0, low] += 1
        base = lowest + (np.int64(bucket) << shift)
        for i in range(first, last):
            rest = buffers[1, np.uint64(i)]
            high = np.uint32(rest >> low_bits)
            diagonals[np.uint64(counts[1, high])] = base + np.int64(rest)
            counts[1, high] += 1


@kernel("void(int64[::1], int64, int64[::1], int64[::1])")
def _histogram_peaks(diagonals, width, where, n_aligned):  # type: ignore[no-untyped-def]
    # A window of `width` slides along the sorted diagonals; of overlapping ones the fullest counts.
    # Those of one hit, or of no more than the weakest peak has, are passed over.
    n = len(diagonals)
    n_peaks = len(n_aligned)
    weakest = 0
    fewest = 2  # hits of a window that may still count
    best = 0
    best_start = diagonals[0]
    i = 0
    while i <= n:  # once more behind the last, for the peak there
        if best and (i == n or diagonals[i] - best_start > width):
            lowest = n_aligned[weakest]
            if best > lowest:
                n_aligned[weakest] = best
                where[weakest] = best_start
                for k in range(n_peaks):
                    if n_aligned[k] < n_aligned[weakest]:
                        weakest = k
                        if n_aligned[k] == lowest:
                            break
                if n_aligned[weakest] >= fewest:
                    fewest = n_aligned[weakest] + 1
            best = 0
        if not best:
            while i + fewest <= n and diagonals[i + fewest - 1] - diagonals[i] > width:
                i += 1
        more = best + 1 if best else fewest
        while i + more <= n and diagonals[i + more - 1] - diagonals[i] <= width:
            best = more
            best_start = diagonals[i]
            more += 1
        i += 1
