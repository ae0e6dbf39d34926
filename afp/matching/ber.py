"""Verification of sub-fingerprints: bit errors of a query laid onto a stored sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    signed: F32
    n_blocks: int

    def weights(self) -> F64:
        """Return the weight of each frame, shape (n_frames,)."""
        weights: F64 = np.abs(self.signed).sum(axis=1, dtype=np.float64)
        return weights

    def chance(self) -> F64:
        """Return the deviation of each block's agreement, were all bits independent."""
        squares = (self.signed**2).reshape(len(self.signed), N_REGIONS, BANDS).sum(axis=2)
        starts = -(-np.arange(self.n_blocks) * len(self.signed) // self.n_blocks)
        deviation: F64 = np.sqrt(np.add.reduceat(squares, starts, axis=0, dtype=np.float64))
        return deviation.ravel()


def soft_bits(bits: U32, odds: F32, *, n_blocks: int) -> SoftBits:
    """Give each bit (n,) the sign of its value and the weight (n, 32) of its odds."""
    shifts = np.arange(32, dtype=np.uint32)
    is_set = (bits[:, None] >> shifts) & np.uint32(1)
    return SoftBits(np.where(is_set, odds, -odds).astype(np.float32), n_blocks)


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
    return SoftBits(signed, query.n_blocks)


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
    sums = np.zeros((len(offsets), query.n_blocks, 32), np.float32)
    starts = _starts(evidence, offsets)
    _agreements(evidence.frames, evidence.values, query.signed, offsets, starts, sums)
    regions = sums.reshape(len(offsets), query.n_blocks * N_REGIONS, BANDS)
    agreement: F64 = regions.sum(axis=2, dtype=np.float64)
    return agreement


@kernel(
    "void(uint32[::1], uint32[::1], float32[:, ::1], int64[::1], int64[::1], float32[:, :, ::1])"
)
def _agreements(frames, values, signed, offsets, starts, sums):  # type: ignore[no-untyped-def]
    n_frames, n_bits = signed.shape
    n_blocks = sums.shape[1]
    for k in range(len(offsets)):
        for i in range(starts[k], len(frames)):
            t = np.int64(frames[i]) - offsets[k]
            if t >= n_frames:
                break
            block = t * n_blocks // n_frames
            word = values[i]
            for m in range(n_bits):
                sign = np.float32(2 * np.int32((word >> np.uint32(m)) & np.uint32(1)) - 1)
                sums[k, block, m] += sign * signed[t, m]


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
        low, mean = np.quantile(samples, LOWER_TO_UPPER[:2], axis=0)
        deviation = mean - low
        # A block that hardly weighs anything is not made to weigh as much as others.
        least = 0.25 * np.sqrt(np.mean(deviation**2)) + 1e-6
        deviation = np.maximum(deviation, np.maximum(chance, least))
        roots = np.cbrt(cls(mean, deviation, 0.0, 1.0).excess(samples))
        low, level, high = np.quantile(roots, LOWER_TO_UPPER)
        return cls(mean, deviation, float(level), max(level - low, high - level, LEAST_BREADTH))

    def excess(self, sums: F64) -> F64:
        """Sum over the blocks the squares of what lies above chance, in standard deviations."""
        above = np.maximum((sums - self.mean) / self.deviation, 0.0)
        total: F64 = (above**2).sum(axis=1)
        return total

    def scores(self, sums: F64) -> F64:
        """Return standard scores of agreements (n, n_blocks): normal where chance is all there is.

        The cube root of a sum of squares is nearly normal (Wilson and Hilferty, 1931).
        """
        scores: F64 = (np.cbrt(self.excess(sums)) - self.level) / self.breadth
        return scores


def agreeing_stretch(query: SoftBits, evidence: Evidence, offset: int) -> tuple[int, int]:
    """Return the range of the query's frames on which it agrees with a track at an offset."""
    n = len(query.signed)
    sums = np.zeros((1, n, 32), np.float32)
    offsets = np.array([offset])
    starts = _starts(evidence, offsets)
    _agreements(evidence.frames, evidence.values, query.signed, offsets, starts, sums)
    agreement = sums[0].sum(axis=1, dtype=np.float64)
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
    query: SoftBits, evidence: Evidence, around: int, nulls: Sequence[BlockNull]
) -> tuple[float, float]:
    """Return the offset in the vicinity at which the mean score is highest, and that score."""
    if not nulls:
        return float(around), 0.0
    offsets = around + np.arange(-OFFSET_SEARCH, OFFSET_SEARCH + 1)
    sums = agreements(query, evidence, offsets)
    scores = np.mean([null.scores(sums) for null in nulls], axis=0)
    best = int(np.argmax(scores))
    return float(offsets[best]), float(scores[best])
