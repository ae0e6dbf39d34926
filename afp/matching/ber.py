"""Verification of sub-fingerprints: bit errors of a query laid onto a stored sequence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.fingerprint import F32, F64, I64, U32, Evidence

BANDS = 4  # of a block
N_REGIONS = 32 // BANDS

LOWER_TO_UPPER = (0.1587, 0.5, 0.8413)  # a standard deviation to either side of the mean
LEAST_BREADTH = 0.1

FULL = 0.9  # share of a query's weight on a track's sound from which it lies there in full
OFFSET_SEARCH = 3  # frames around a candidate's offset
LEAST_SOUND = 2  # to learn from what chance gives, in lengths of the query


@dataclass(frozen=True, slots=True, eq=False)
class SoftBits:
    """A query's sub-fingerprints as numbers: positive for a set bit, large for a sure one.

    Attributes
    ----------
    signed : ndarray of float32, shape (n_frames, 32)
        Zero where nothing is known.
    n_blocks : int
        Parts of equal length into which time is divided.
    step : int
        Every so many frames count, and the others are zero: neighbours tell much the same.
    table : ndarray of float32, shape (ceil(n_frames / step), 8, 16)
        Agreement of each region of such a frame with each value that its bits may have.
    """

    signed: F32
    n_blocks: int
    step: int
    table: F32
    _weights: F64

    @classmethod
    def of(cls, signed: F32, *, n_blocks: int, step: int = 1) -> "SoftBits":
        """Tabulate signed bits (n_frames, 32)."""
        kept = np.zeros_like(signed)
        kept[::step] = signed[::step]
        table = np.empty((-(-len(signed) // step), N_REGIONS, 1 << BANDS), np.float32)
        _tabulate(kept, step, table)
        return cls(kept, n_blocks, step, table, np.abs(kept).sum(axis=1, dtype=np.float64))

    def weights(self) -> F64:
        """Return the weight of each frame, shape (n_frames,)."""
        return self._weights

    def chance(self) -> F64:
        """Return the deviation of each block's agreement, were all bits independent."""
        squares = (self.signed**2).reshape(len(self.signed), N_REGIONS, BANDS).sum(axis=2)
        starts = -(-np.arange(self.n_blocks) * len(self.signed) // self.n_blocks)
        deviation: F64 = np.sqrt(np.add.reduceat(squares, starts, axis=0, dtype=np.float64))
        return deviation.ravel()


@kernel("void(float32[:, ::1], int64, float32[:, :, ::1])")
def _tabulate(signed, step, table):  # type: ignore[no-untyped-def]
    # The values that have one bit more are those before with that bit set.
    for row in range(len(table)):
        for region in range(table.shape[1]):
            total = np.float32(0.0)
            for band in range(BANDS):
                total -= signed[row * step, BANDS * region + band]
            table[row, region, 0] = total
            for band in range(BANDS):
                more = np.float32(2.0) * signed[row * step, BANDS * region + band]
                for value in range(1 << band):
                    table[row, region, value + (1 << band)] = table[row, region, value] + more


def soft_bits(bits: U32, odds: F32, *, n_blocks: int, step: int = 1) -> SoftBits:
    """Give each bit (n,) the sign of its value and the weight (n, 32) of its odds."""
    shifts = np.arange(32, dtype=np.uint32)
    is_set = (bits[:, None] >> shifts) & np.uint32(1)
    signed = np.where(is_set, odds, -odds).astype(np.float32)
    return SoftBits.of(signed, n_blocks=n_blocks, step=step)


def n_runs(query: SoftBits) -> float:
    """Count the runs of equal bits along time, as many as equally heavy ones would be.

    Within a run bits are no evidence of their own. The inverse of Simpson's index of their weights.
    """
    along = np.ascontiguousarray(query.signed[:: query.step].T)
    begins = np.ones(along.shape, np.bool_)
    begins[:, 1:] = (along[:, 1:] > 0) != (along[:, :-1] > 0)
    first = np.flatnonzero(begins)
    if not len(first):
        return 0.0
    weights = np.add.reduceat(np.abs(along).ravel(), first, dtype=np.float64)
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-9))


def coverage(query: SoftBits, evidence: Evidence, offsets: I64) -> F64:
    """Return the share (n,) of a query's weight that falls on frames a track has evidence of."""
    weights = query.weights()
    shares = np.zeros(len(offsets))
    _coverage(evidence.frames, weights, offsets, _starts(evidence, offsets), shares)
    return shares / max(float(weights.sum()), 1e-9)


def overlap(query: SoftBits, evidence: Evidence, offset: int) -> SoftBits:
    """Return what of a query falls on frames that a track has evidence of."""
    start, end = _starts(evidence, np.array([offset, offset + len(query.signed)]))
    inside = evidence.frames[start:end].astype(np.int64) - offset
    signed = np.zeros_like(query.signed)
    signed[inside] = query.signed[inside]
    return SoftBits.of(signed, n_blocks=query.n_blocks, step=query.step)


def without_edges(evidence: Evidence, margin: int, last: int) -> Evidence:
    """Leave out the frames next to silence, which tell of where it ends more than of the sound.

    Parameters
    ----------
    evidence : Evidence
    margin : int
        Frames next to silence to leave out.
    last : int
        Last frame of the track: neither there nor at the first does silence border.
    """
    frames = evidence.frames.astype(np.int64)
    if not len(frames) or (frames[0] == 0 and frames[-1] >= last and len(frames) > frames[-1]):
        return evidence
    gaps = np.flatnonzero(np.diff(frames) > 1)
    starts, ends = np.append(0, gaps + 1), np.append(gaps, len(frames) - 1)
    lowest = frames[starts] + np.where(frames[starts] > 0, margin, 0)
    highest = frames[ends] - np.where(frames[ends] < last, margin, 0)
    lengths = ends - starts + 1
    kept = (frames >= np.repeat(lowest, lengths)) & (frames <= np.repeat(highest, lengths))
    return Evidence(evidence.frames[kept], evidence.values[kept])


def spread(query: SoftBits, evidence: Evidence, n: int) -> I64:
    """Spread n offsets evenly over what of a track can be heard."""
    heard = np.flatnonzero(query.weights())
    if not len(heard) or not len(evidence.frames):
        return np.empty(0, np.int64)
    last = max(len(evidence.frames) - 1 - int(heard[-1] - heard[0]), 0)
    at = np.linspace(0, last, n).astype(np.int64)
    offsets: I64 = evidence.frames[at].astype(np.int64) - heard[0]
    return offsets


def _starts(evidence: Evidence, offsets: I64) -> I64:
    # In the type of the frames, lest all of them be converted.
    at_least = np.maximum(offsets, 0).astype(evidence.frames.dtype)
    return np.searchsorted(evidence.frames, at_least).astype(np.int64)


@kernel("void(uint32[::1], float64[::1], int64[::1], int64[::1], float64[::1])")
def _coverage(frames, weights, offsets, starts, shares):  # type: ignore[no-untyped-def]
    for k in range(len(offsets)):
        for i in range(starts[k], len(frames)):
            t = np.int64(frames[i]) - offsets[k]
            if t >= len(weights):
                break
            shares[k] += weights[t]


def agreements(query: SoftBits, evidence: Evidence, offsets: I64) -> F64:
    """Sum the agreement of a query with a track in blocks of time and frequency.

    Noise and other voices spoil some regions of the spectrum for some time; in blocks they can be
    told from what agrees.

    Parameters
    ----------
    query : SoftBits
    evidence : Evidence
        Sub-fingerprints of the track.
    offsets : ndarray of int64, shape (n,)
        Track frame minus query frame.

    Returns
    -------
    ndarray of float64, shape (n, n_blocks * 8)
        Weights of the bits that agree less those that differ.
    """
    sums = np.empty((len(offsets), query.n_blocks, N_REGIONS), np.float32)
    data = (evidence.frames, evidence.values, query.table, len(query.signed), query.step)
    _agreements(*data, offsets, _starts(evidence, offsets), sums)
    return sums.reshape(len(offsets), -1).astype(np.float64)


@kernel(
    "void(uint32[::1], uint32[::1], float32[:, :, ::1], int64, int64, int64[::1], int64[::1], "
    "float32[:, :, ::1])"
)
def _agreements(frames, values, table, n_frames, step, offsets, starts, sums):  # type: ignore[no-untyped-def]
    for k in range(len(offsets)):
        _agreement(frames, values, table, n_frames, step, offsets[k], starts[k], k, sums)


@kernel(
    "void(uint32[::1], uint32[::1], float32[:, :, ::1], int64, int64, int64, int64, int64, "
    "float32[:, :, ::1])"
)
def _agreement(frames, values, table, n_frames, step, offset, start, k, sums):  # type: ignore[no-untyped-def]
    n_blocks = sums.shape[1]
    i = start
    row = np.int64(-1)  # of the table; unknown after a gap
    t = np.int64(0)
    for block in range(n_blocks):
        end = ((block + 1) * n_frames + n_blocks - 1) // n_blocks
        a = b = c = d = e = f = g = h = np.float32(0.0)
        while i < len(frames):
            if row < 0:
                t = np.int64(frames[i]) - offset
                if t % step:
                    i += 1
                    continue
                row = t // step
            if t >= end:
                break
            word = values[i]
            a += table[row, 0, word & np.uint32(15)]
            b += table[row, 1, (word >> np.uint32(4)) & np.uint32(15)]
            c += table[row, 2, (word >> np.uint32(8)) & np.uint32(15)]
            d += table[row, 3, (word >> np.uint32(12)) & np.uint32(15)]
            e += table[row, 4, (word >> np.uint32(16)) & np.uint32(15)]
            f += table[row, 5, (word >> np.uint32(20)) & np.uint32(15)]
            g += table[row, 6, (word >> np.uint32(24)) & np.uint32(15)]
            h += table[row, 7, word >> np.uint32(28)]
            if i + step < len(frames) and np.int64(frames[i + step]) - np.int64(frames[i]) == step:
                i += step
                t += step
                row += 1
            else:
                i += 1
                row = np.int64(-1)
        sums[k, block, 0] = a
        sums[k, block, 1] = b
        sums[k, block, 2] = c
        sums[k, block, 3] = d
        sums[k, block, 4] = e
        sums[k, block, 5] = f
        sums[k, block, 6] = g
        sums[k, block, 7] = h


@dataclass(frozen=True, slots=True)
class BitErrors:
    """Bits that differ at an alignment."""

    n_errors: int
    n_bits: int

    @property
    def rate(self) -> float:
        """Bit error rate, one half where no bit was compared."""
        return self.n_errors / self.n_bits if self.n_bits else 0.5


def bit_errors(
    bits: U32, audible: npt.NDArray[np.bool_], evidence: Evidence, offset: int
) -> BitErrors:
    """Count the bits in which a query differs from a track.

    Parameters
    ----------
    bits : ndarray of uint32, shape (n,)
        Sub-fingerprints of the query.
    audible : ndarray of bool, shape (n,)
        Those that count.
    evidence : Evidence
        Sub-fingerprints of the track; a frame that it lacks does not count.
    offset : int
        Track frame minus query frame.
    """
    n_compared = np.zeros(1, np.int64)
    start = int(_starts(evidence, np.array([offset]))[0])
    n_errors = _bit_errors(
        bits, audible, evidence.frames, evidence.values, offset, start, n_compared
    )
    return BitErrors(n_errors, 32 * int(n_compared[0]))


@kernel("int64(uint32[::1], boolean[::1], uint32[::1], uint32[::1], int64, int64, int64[::1])")
def _bit_errors(bits, audible, frames, values, offset, start, n_compared):  # type: ignore[no-untyped-def]
    n_errors = np.int64(0)
    for i in range(start, len(frames)):
        t = np.int64(frames[i]) - offset
        if t >= len(bits):
            break
        if audible[t]:
            # Count the set bits in parallel: pairs, nibbles, bytes, their sum.
            x = bits[t] ^ values[i]
            x = x - ((x >> np.uint32(1)) & np.uint32(0x55555555))
            x = (x & np.uint32(0x33333333)) + ((x >> np.uint32(2)) & np.uint32(0x33333333))
            x = (x + (x >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
            n_errors += np.int64((x * np.uint32(0x01010101)) >> np.uint32(24)) & 0xFF
            n_compared[0] += 1
    return n_errors


@dataclass(frozen=True, slots=True, eq=False)
class BlockNull:
    """What blocks of a query agree to by chance.

    Bits are correlated in time and across bands, more so in slow or tonal music, so that agreement
    scatters more widely than independent bits would. How much is measured with the query itself, at
    places where it does not match. All moments are taken from quantiles: music that repeats itself
    does match at a few of these places.

    Attributes
    ----------
    mean, deviation : ndarray of float64, shape (n_blocks,)
        Of the agreement of each block.
    level, breadth : float
        Mean and deviation of the cube root of `excess`.
    """

    mean: F64
    deviation: F64
    level: float
    breadth: float

    @classmethod
    def fit(cls, samples: F64, chance: F64) -> "BlockNull":
        """Fit to agreements (n, n_blocks) at places where the query does not match.

        No block scatters less than ``chance`` (n_blocks,), that of independent bits.
        """
        low, mean, _ = _quantiles(samples.T)
        deviation = mean - low
        # A block that hardly weighs anything is not made to weigh as much as others.
        least = 0.25 * np.sqrt(np.mean(deviation**2)) + 1e-6
        deviation = np.maximum(deviation, np.maximum(chance, least))
        roots = np.cbrt(cls(mean, deviation, 0.0, 1.0).excess(samples))
        low, level, high = _quantiles(roots)
        return cls(mean, deviation, float(level), max(level - low, high - level, LEAST_BREADTH))

    def excess(self, sums: F64) -> F64:
        """Sum over the blocks the squares of what lies above chance, in standard deviations."""
        total = np.empty(len(sums))
        _excess(sums, self.mean, self.deviation, total)
        return total

    def scores(self, sums: F64) -> F64:
        """Return standard scores of agreements (n, n_blocks): normal where chance is all there is.

        The cube root of a sum of squares is nearly normal (Wilson and Hilferty, 1931).
        """
        scores: F64 = (np.cbrt(self.excess(sums)) - self.level) / self.breadth
        return scores


def _quantiles(samples: F64) -> F64:
    """Return the quantiles `LOWER_TO_UPPER` along the last axis, in the first."""
    ordered = np.sort(samples, axis=-1)
    at = np.rint(np.array(LOWER_TO_UPPER) * (ordered.shape[-1] - 1)).astype(np.int64)
    quantiles: F64 = np.moveaxis(ordered[..., at], -1, 0).astype(np.float64)
    return np.ascontiguousarray(quantiles)


@kernel("void(float64[:, ::1], float64[::1], float64[::1], float64[::1])")
def _excess(sums, mean, deviation, total):  # type: ignore[no-untyped-def]
    for k in range(len(total)):
        total[k] = 0.0
        for j in range(len(mean)):
            above = max((sums[k, j] - mean[j]) / deviation[j], 0.0)
            total[k] += above * above


def agreeing_stretch(query: SoftBits, evidence: Evidence, offset: int) -> tuple[int, int]:
    """Return the range of the query's frames on which it agrees with a track at an offset."""
    n = len(query.signed)
    by_frame = replace(query, n_blocks=n)
    sums = agreements(by_frame, evidence, np.array([offset])).reshape(n, N_REGIONS)
    agreement = sums.sum(axis=1, dtype=np.float64)
    weight = query.weights()
    typical = max(float(agreement.sum()) / max(float(weight.sum()), 1e-9), 0.1)
    # Largest difference of two points of the running sum (Kadane's maximum subarray).
    total = np.concatenate([[0.0], np.cumsum(agreement - 0.5 * typical * weight)])
    rise = total - np.minimum.accumulate(total)
    last = int(np.argmax(rise))
    return int(np.argmin(total[: last + 1])), last


def is_long_enough(query: SoftBits, evidence: Evidence) -> bool:
    """Tell whether there is so much evidence that places on it differ from each other."""
    heard = np.flatnonzero(query.weights())
    return len(heard) > 0 and len(evidence.frames) >= LEAST_SOUND * (heard[-1] - heard[0] + 1)


def common_null(query: SoftBits, sound: Evidence, n: int) -> BlockNull | None:
    """Learn from n places on the sound of many tracks; None where that is too short."""
    if not is_long_enough(query, sound):
        return None
    samples = agreements(query, sound, spread(query, sound, n))
    return BlockNull.fit(samples, query.chance())


def best_offset(
    query: SoftBits, evidence: Evidence, around: I64, nulls: Sequence[BlockNull], *, stride: int = 1
) -> tuple[float, float]:
    """Return the offset at which the mean score is highest, and that score.

    Parameters
    ----------
    query : SoftBits
    evidence : Evidence
        Sub-fingerprints of the track.
    around : ndarray of int64, shape (n,)
        Offsets in whose vicinity is searched, at least one.
    nulls : sequence of BlockNull
        What chance gives; where there are none, every score is zero.
    stride : int
        Frames between the offsets tried: 1 or 3.
    """
    if not nulls:
        return float(around[0]), 0.0
    near = np.arange(-OFFSET_SEARCH, OFFSET_SEARCH + 1, stride)
    offsets = (around[:, None] + near).ravel()
    sums = agreements(query, evidence, offsets)
    scores = nulls[0].scores(sums)
    for null in nulls[1:]:
        scores += null.scores(sums)
    best = int(np.argmax(scores))
    return float(offsets[best]), float(scores[best]) / len(nulls)


def best_share(query: SoftBits, evidence: Evidence, around: int) -> tuple[float, float]:
    """Return the offset in the vicinity at which most of the weight agrees, and what share does.

    Less apt than a score to tell a match from chance, but with a sharper peak.
    """
    offsets = around + np.arange(-OFFSET_SEARCH, OFFSET_SEARCH + 1)
    agreement = agreements(query, evidence, offsets).sum(axis=1)
    best = int(np.argmax(agreement))
    return float(offsets[best]), float(agreement[best]) / max(float(query.weights().sum()), 1e-9)
