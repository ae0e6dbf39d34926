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
HISTOGRAM_NATS, ROUND_NATS = 64, 2


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
    n = max(-(-(len(prints) - (MOMENTS - 1) * spacing) // step), 0) * REGIONS
    starts, values = np.empty(n, np.int64), np.empty(n, np.uint32)
    prices = np.empty((n, 1 + WEAKEST), np.float32)
    flips = np.empty((n, WEAKEST), np.uint32)
    data = (prints.bits, prints.odds, log_probability_right(prints.odds), prints.audible)
    n = _weakest(*data, spacing, step, starts, values, prices, flips)
    starts, values, prices, flips = starts[:n], values[:n], prices[:n], flips[:n]
    sums, masks = np.empty(1 << WEAKEST, np.float32), np.empty(1 << WEAKEST, np.uint32)
    # The dearer a variant, the more of them there are: ever dearer ones are counted, until enough.
    highest, totals = 0, np.zeros(1, np.int64)
    while totals[-1] <= most and highest < HISTOGRAM_NATS * STEPS_PER_NAT:
        highest += ROUND_NATS * STEPS_PER_NAT
        counts = np.zeros(highest, np.int64)
        _count(prices, highest, sums, counts)
        totals = np.cumsum(counts)
    limit = int(np.searchsorted(totals, most, side="right"))
    n = int(totals[limit - 1]) if limit else 0
    times, hashes = np.empty(n, np.int64), np.empty(n, np.uint32)
    _list(starts, values, prices, flips, limit, sums, masks, times, hashes)
    return times, hashes


@kernel(
    "int64(uint32[::1], float32[:, ::1], float32[:, ::1], boolean[::1], int64, int64, "
    "int64[::1], uint32[::1], float32[:, ::1], uint32[:, ::1])"
)
def _weakest(  # type: ignore[no-untyped-def]
    bits, odds, right, audible, spacing, step, starts, values, prices, flips
):
    # Of each hash its value, what it costs (how improbable it is, in nats, and how much more so
    # with each of its weakest bits flipped, the weakest first), and where these bits are.
    n_starts = len(bits) - (MOMENTS - 1) * spacing
    n_flips = flips.shape[1]
    n = 0
    for t in range(0, n_starts, step):
        heard = True
        for moment in range(MOMENTS):
            heard = heard and audible[t + moment * spacing]
        if not heard:
            continue
        for region in range(REGIONS):
            value = np.uint32(region)
            improbability = np.float32(0.0)
            n_weak = 0
            for moment in range(MOMENTS):
                at = t + moment * spacing
                word = bits[at] >> np.uint32(BANDS * region)
                value = (value << np.uint32(BANDS)) | (word & np.uint32((1 << BANDS) - 1))
                for band in range(BANDS):
                    improbability -= right[at, BANDS * region + band]
                    price = odds[at, BANDS * region + band]
                    if n_weak == n_flips and price >= prices[n, n_flips]:
                        continue
                    place = min(n_weak, n_flips - 1)
                    while place > 0 and prices[n, place] > price:
                        prices[n, place + 1] = prices[n, place]
                        flips[n, place] = flips[n, place - 1]
                        place -= 1
                    prices[n, place + 1] = price
                    flips[n, place] = np.uint32(1) << np.uint32(
                        BANDS * (MOMENTS - 1 - moment) + band
                    )
                    n_weak = min(n_weak + 1, n_flips)
            starts[n] = t
            values[n] = value
            prices[n, 0] = improbability
            n += 1
    return n


@kernel("void(float32[:, ::1], int64, float32[::1], int64[::1])")
def _count(prices, limit, sums, counts):  # type: ignore[no-untyped-def]
    # Count the variants of all hashes by what they cost, in steps of a fraction of a nat.
    most = np.float32(limit) / np.float32(STEPS_PER_NAT)
    for n in range(len(prices)):
        # The subsets of the weakest bits double with each bit; the new half is the old one with
        # that bit flipped, as far as it can be afforded: what adds to a dear one is dearer.
        if prices[n, 0] >= most:
            continue
        n_sets = 1
        sums[0] = prices[n, 0]
        counts[np.int64(sums[0] * STEPS_PER_NAT)] += 1
        for k in range(1, prices.shape[1]):
            n_before = n_sets
            for i in range(n_before):
                dearer = sums[i] + prices[n, k]
                if dearer < most:
                    sums[n_sets] = dearer
                    n_sets += 1
                    counts[np.int64(dearer * STEPS_PER_NAT)] += 1


@kernel(
    "void(int64[::1], uint32[::1], float32[:, ::1], uint32[:, ::1], int64, float32[::1], "
    "uint32[::1], int64[::1], uint32[::1])"
)
def _list(starts, values, prices, flips, limit, sums, masks, times, hashes):  # type: ignore[no-untyped-def]
    # List the variants that `_count` has counted below the limit.
    most = np.float32(limit) / np.float32(STEPS_PER_NAT)
    count = 0
    for n in range(len(prices)):
        if prices[n, 0] >= most:
            continue
        n_sets = 1
        sums[0] = prices[n, 0]
        masks[0] = 0
        for k in range(1, prices.shape[1]):
            n_before = n_sets
            for i in range(n_before):
                dearer = sums[i] + prices[n, k]
                if dearer < most:
                    sums[n_sets] = dearer
                    masks[n_sets] = masks[i] | flips[n, k - 1]
                    n_sets += 1
        for i in range(n_sets):
            times[count] = starts[n]
            hashes[count] = values[n] ^ masks[i]
            count += 1
