"""Hashes of sub-fingerprints: a few bands over a few frames, looked up despite wrong bits.

A whole sub-fingerprint survives only where no band is disturbed. A hash over four neighbouring
bands, at five moments within half a second, needs but one region of the spectrum to be clean.
"""

import numpy as np

from afp.compiled import kernel
from afp.features.sub_fingerprints import SubFingerprints, log_probability_right
from afp.fingerprint import I64, U32

BANDS = 4  # of a hash
MOMENTS = 5
REGIONS = 32 // BANDS  # each with its own hashes
HASH_BITS = BANDS * MOMENTS

WEAKEST = 8  # bits of a hash that may be taken for wrong
STEPS_PER_NAT = 8
HISTOGRAM_NATS = 64


def anchor_hashes(prints: SubFingerprints, *, spacing: int, radius: int) -> tuple[U32, U32]:
    """Hash each region of the spectrum where its bits can be trusted most.

    An anchor is a frame at which the odds of a hash's bits are, in sum, the highest within
    ``radius`` frames: the choice follows the content alone, and falls on moments at which the bits
    outlive noise and a shift by part of a frame.

    Parameters
    ----------
    prints : SubFingerprints
    spacing : int
        Frames between the moments of a hash.
    radius : int
        Frames to either side among which an anchor stands out.

    Returns
    -------
    frames, hashes : ndarray of uint32, shape (n,)
        Ordered by frame.
    """
    n_starts = max(len(prints) - (MOMENTS - 1) * spacing, 0)
    trust = np.empty((n_starts, REGIONS), np.float32)
    scratch = np.empty((len(prints), REGIONS), np.float32)
    _trust(prints.odds, prints.audible, spacing, scratch, trust)
    frames = np.empty(trust.size, np.uint32)
    hashes = np.empty(trust.size, np.uint32)
    n = _anchors(prints.bits, trust, spacing, radius, frames, hashes)
    return frames[:n].copy(), hashes[:n].copy()


@kernel("void(float32[:, ::1], boolean[::1], int64, float32[:, ::1], float32[:, ::1])")
def _trust(odds, audible, spacing, scratch, trust):  # type: ignore[no-untyped-def]
    n_regions = trust.shape[1]
    for t in range(len(odds)):
        for region in range(n_regions):
            total = np.float32(0.0)
            for m in range(BANDS * region, BANDS * (region + 1)):
                total += odds[t, m]
            scratch[t, region] = total if audible[t] else np.float32(-1e9)
    for t in range(len(trust)):
        for region in range(n_regions):
            total = np.float32(0.0)
            for moment in range(MOMENTS):
                total += scratch[t + moment * spacing, region]
            trust[t, region] = total


@kernel("int64(uint32[::1], float32[:, ::1], int64, int64, uint32[::1], uint32[::1])")
def _anchors(bits, trust, spacing, radius, frames, hashes):  # type: ignore[no-untyped-def]
    n, n_regions = trust.shape
    count = 0
    for t in range(radius, n - radius):
        for region in range(n_regions):
            here = trust[t, region]
            if here <= 0.0:
                continue
            highest = True
            for d in range(1, radius + 1):
                if trust[t - d, region] >= here or trust[t + d, region] > here:
                    highest = False
                    break
            if highest:
                value = np.uint32(region)
                for moment in range(MOMENTS):
                    word = bits[t + moment * spacing] >> np.uint32(BANDS * region)
                    value = (value << np.uint32(BANDS)) | (word & np.uint32((1 << BANDS) - 1))
                frames[count] = t
                hashes[count] = value
                count += 1
    return count


def probe_hashes(prints: SubFingerprints, *, spacing: int, step: int, most: int) -> tuple[I64, U32]:
    """List the hashes that a reference most probably holds of the music in a query.

    Each hash of the query stands beside its variants with some of the weakest bits flipped. Of all
    of them, over all frames and regions, those are listed that are most probably free of error.

    Parameters
    ----------
    prints : SubFingerprints
        Of the query.
    spacing : int
        As for `anchor_hashes`.
    step : int
        Every so many frames are hashed: what their neighbours have flipped are weak bits.
    most : int
        Number of hashes to list, about, at most.

    Returns
    -------
    times : ndarray of int64, shape (n,)
        In frames, not in order.
    hashes : ndarray of uint32, shape (n,)
    """
    right = log_probability_right(prints.odds)
    histogram = np.zeros(STEPS_PER_NAT * HISTOGRAM_NATS, np.int64)
    sums = np.empty(1 << WEAKEST, np.float32)
    masks = np.empty(1 << WEAKEST, np.uint32)
    no_times, no_hashes = np.empty(0, np.int64), np.empty(0, np.uint32)
    data = (prints.bits, prints.odds, right, prints.audible, spacing, step)
    _probe(*data, -1, histogram, sums, masks, no_times, no_hashes)
    totals = np.cumsum(histogram)
    limit = int(np.searchsorted(totals, most, side="right"))
    n = int(totals[limit - 1]) if limit else 0
    times, hashes = np.empty(n, np.int64), np.empty(n, np.uint32)
    _probe(*data, limit, histogram, sums, masks, times, hashes)
    return times, hashes


@kernel(
    "void(uint32[::1], float32[:, ::1], float32[:, ::1], boolean[::1], int64, int64, int64, "
    "int64[::1], float32[::1], uint32[::1], int64[::1], uint32[::1])"
)
def _probe(  # type: ignore[no-untyped-def]  # noqa: PLR0912
    bits, odds, right, audible, spacing, step, limit, histogram, sums, masks, times, hashes
):
    # With a negative limit the improbabilities are counted, in steps of a fraction of a nat; else
    # what lies below the limit is listed.
    n_starts = len(bits) - (MOMENTS - 1) * spacing
    count = 0
    for t in range(0, n_starts, step):
        heard = True
        for moment in range(MOMENTS):
            heard = heard and audible[t + moment * spacing]
        if not heard:
            continue
        for region in range(REGIONS):
            value = np.uint32(region)
            improbability = np.float32(0.0)
            for moment in range(MOMENTS):
                at = t + moment * spacing
                word = bits[at] >> np.uint32(BANDS * region)
                value = (value << np.uint32(BANDS)) | (word & np.uint32((1 << BANDS) - 1))
                for band in range(BANDS):
                    improbability -= right[at, BANDS * region + band]
            if improbability * STEPS_PER_NAT >= len(histogram):
                continue
            # The subsets of the weakest bits double with each bit, the weakest first; the new half
            # is the old one, with that bit flipped at its price.
            n_sets = 1
            sums[0] = improbability
            masks[0] = 0
            used = np.uint32(0)
            for _ in range(WEAKEST):
                price = np.float32(1e9)
                weakest = np.uint32(0)
                for moment in range(MOMENTS):
                    at = t + moment * spacing
                    for band in range(BANDS):
                        flip = np.uint32(1) << np.uint32(BANDS * (MOMENTS - 1 - moment) + band)
                        here = odds[at, BANDS * region + band]
                        if here < price and not used & flip:
                            price = here
                            weakest = flip
                used |= weakest
                for i in range(n_sets):
                    sums[n_sets + i] = sums[i] + price
                    masks[n_sets + i] = masks[i] | weakest
                n_sets *= 2
            for i in range(n_sets):
                rank = np.int64(sums[i] * STEPS_PER_NAT)
                if limit < 0:
                    if rank < len(histogram):
                        histogram[rank] += 1
                elif rank < limit:
                    times[count] = t
                    hashes[count] = value ^ masks[i]
                    count += 1
