"""Verification of sub-fingerprints: bit errors of a query laid onto a stored sequence."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.fingerprint import F32, F64, I64, U32, Evidence

BANDS = 4  # of a block
N_REGIONS = 32 // BANDS

LOWER_TO_UPPER = (0.1587, 0.5, 0.8413)  # a standard deviation to either side of the mean
LEAST_BREADTH = 0.1


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


def soft_bits(bits: U32, odds: F32, *, n_blocks: int) -> SoftBits:
    """Give each bit (n,) the sign of its value and the weight (n, 32) of its odds."""
    shifts = np.arange(32, dtype=np.uint32)
    is_set = (bits[:, None] >> shifts) & np.uint32(1)
    return SoftBits(np.where(is_set, odds, -odds).astype(np.float32), n_blocks)


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
    starts = np.searchsorted(evidence.frames, np.maximum(offsets, 0)).astype(np.int64)
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
    start = int(np.searchsorted(evidence.frames, max(offset, 0)))
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
    def fit(cls, samples: F64) -> "BlockNull":
        """Fit to agreements (n, n_blocks) at places where the query does not match."""
        low, mean = np.quantile(samples, LOWER_TO_UPPER[:2], axis=0)
        deviation = mean - low
        # A block that hardly weighs anything is not made to weigh as much as others.
        deviation = np.maximum(deviation, 0.25 * np.sqrt(np.mean(deviation**2)) + 1e-6)
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
    start = np.searchsorted(evidence.frames, [max(offset, 0)]).astype(np.int64)
    _agreements(evidence.frames, evidence.values, query.signed, np.array([offset]), start, sums)
    agreement = sums[0].sum(axis=1, dtype=np.float64)
    weight = np.abs(query.signed).sum(axis=1, dtype=np.float64)
    typical = max(float(agreement.sum()) / max(float(weight.sum()), 1e-9), 0.1)
    # Largest difference of two points of the running sum (Kadane's maximum subarray).
    total = np.concatenate([[0.0], np.cumsum(agreement - 0.5 * typical * weight)])
    rise = total - np.minimum.accumulate(total)
    last = int(np.argmax(rise))
    return int(np.argmin(total[: last + 1])), last
