"""Offset-histogram voting: a track and an offset on which many hits of a query agree."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.fingerprint import I64, U32
from afp.index import Hits

RADIX_BITS = 11  # the counts of one digit fit into the first-level cache


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
    buffers = np.empty((2, n), np.int64)
    which = _sort_diagonals(
        hits.rows,
        hits.positions,
        query_times,
        fineness,
        buffers,
        np.empty(1 << RADIX_BITS, np.int64),
        RADIX_BITS,
    )
    sorted_diagonals: I64 = buffers[which]
    return sorted_diagonals


@kernel("int64(uint32[::1], uint32[::1], int64[::1], int64, int64[:, ::1], int64[::1], int64)")
def _sort_diagonals(rows, positions, query_times, fineness, buffers, starts, radix_bits):  # type: ignore[no-untyped-def]
    # Least-significant-digit radix sort; returns which of the two buffers holds the result.
    n = len(rows)
    lowest = np.int64(1) << 62
    highest = -lowest
    for i in range(n):
        d = np.int64(positions[i]) * fineness - query_times[rows[i]]
        buffers[0, i] = d
        lowest = min(lowest, d)
        highest = max(highest, d)
    source = 0
    shift = 0
    mask = len(starts) - 1
    while (highest - lowest) >> shift:
        starts[:] = 0
        for i in range(n):
            starts[((buffers[source, i] - lowest) >> shift) & mask] += 1
        total = np.int64(0)
        for k in range(len(starts)):
            n_here = starts[k]
            starts[k] = total
            total += n_here
        for i in range(n):
            d = buffers[source, i]
            digit = ((d - lowest) >> shift) & mask
            buffers[1 - source, starts[digit]] = d
            starts[digit] += 1
        source = 1 - source
        shift += radix_bits
    return source


@kernel("void(int64[::1], int64, int64[::1], int64[::1])")
def _histogram_peaks(diagonals, width, where, n_aligned):  # type: ignore[no-untyped-def]
    # A window of `width` slides along the sorted diagonals; of overlapping ones the fullest counts.
    n = len(diagonals)
    n_peaks = len(n_aligned)
    weakest = 0
    end = 0
    best = 0
    best_start = diagonals[0]
    for i in range(n + 1):
        if i == n or diagonals[i] - best_start > width:
            lowest = n_aligned[weakest]
            if best > lowest:
                n_aligned[weakest] = best
                where[weakest] = best_start
                for k in range(n_peaks):
                    if n_aligned[k] < n_aligned[weakest]:
                        weakest = k
                        if n_aligned[k] == lowest:
                            break
            best = 0
            if i == n:
                break
        while end < n and diagonals[end] - diagonals[i] <= width:
            end += 1
        if end - i > best:
            best = end - i
            best_start = diagonals[i]
