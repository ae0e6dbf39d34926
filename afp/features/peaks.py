"""Peaks of a spectrogram: the stars of a constellation."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.fingerprint import F32, I16, I32


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Local maxima of a spectrogram, in the order of time, then of frequency.

    Attributes
    ----------
    frames, bins : ndarray of int32, shape (n,)
    saliences : ndarray of int16, shape (n,)
        Height of each peak.
    """

    frames: I32
    bins: I32
    saliences: I16

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> "Peaks":
        return Peaks(self.frames[chosen], self.bins[chosen], self.saliences[chosen])


def local_maxima(salience: I16, *, time_radius: int, frequency_radius: int) -> Peaks:
    """Find the cells above zero that top their neighbourhood.

    A peak is at least as high as every cell within the radii and strictly higher than those
    before it, so that a steady tone has none. The first ``time_radius`` frames have none either:
    what was before them is not known.

    Parameters
    ----------
    salience : ndarray of int16, shape (n_frames, n_bins)
    time_radius, frequency_radius : int
        Half the extent of the neighbourhood, in frames and bins.
    """
    n_bins = salience.shape[1]
    frames = np.empty(salience.size, np.int32)  # pages that stay untouched cost nothing
    bins = np.empty(salience.size, np.int32)
    ring = np.full((2 * time_radius + 1, n_bins), np.iinfo(np.int16).min, np.int16)
    mask = np.zeros(-(-n_bins // 8) * 8, np.uint8)
    n = _local_maxima(
        salience, ring, mask, mask.view(np.uint64), time_radius, frequency_radius, frames, bins
    )
    frames, bins = frames[:n].copy(), bins[:n].copy()
    return Peaks(frames, bins, salience[frames, bins])


@kernel(
    "int64(int16[:, ::1], int16[:, ::1], uint8[::1], uint64[::1], int64, int64, "
    "int32[::1], int32[::1])"
)
def _local_maxima(  # type: ignore[no-untyped-def]  # noqa: PLR0912
    salience, ring, mask, mask_words, time_radius, frequency_radius, frames, bins
):
    # Row t of the ring holds, for each bin, the maximum of frame t over the frequency radius.
    n_frames, n_bins = salience.shape
    n_ring = 2 * time_radius + 1
    count = 0
    for newest in range(n_frames + time_radius):
        row = ring[newest % n_ring]
        if newest < n_frames:
            for f in range(n_bins):
                row[f] = salience[newest, f]
            for d in range(1, frequency_radius + 1):
                for f in range(n_bins - d):
                    row[f] = max(row[f], salience[newest, f + d])
                for f in range(d, n_bins):
                    row[f] = max(row[f], salience[newest, f - d])
        else:
            for f in range(n_bins):
                row[f] = -32768
        t = newest - time_radius
        if t < time_radius:
            continue
        own = ring[t % n_ring]
        for f in range(n_bins):
            mask[f] = (salience[t, f] == own[f]) & (salience[t, f] > 0)
        for d in range(1, time_radius + 1):
            before = ring[(t - d) % n_ring]
            after = ring[(t + d) % n_ring]
            for f in range(n_bins):
                mask[f] &= (salience[t, f] > before[f]) & (salience[t, f] >= after[f])
        for w in range(len(mask_words)):
            if mask_words[w] != 0:
                for f in range(8 * w, min(8 * w + 8, n_bins)):
                    if mask[f] != 0:
                        frames[count] = t
                        bins[count] = f
                        count += 1
    return count


def strongest(peaks: Peaks, *, time_radius: int, most: int) -> Peaks:
    """Keep the peaks than which fewer than ``most`` within ``time_radius`` frames are higher.

    The density follows the music: loud and soft passages get equally many, and the choice depends
    on nothing further away than the radius.
    """
    keep = np.zeros(len(peaks), np.bool_)
    _strongest(peaks.frames, peaks.saliences, time_radius, most, keep)
    return peaks[keep]


@kernel("void(int32[::1], int16[::1], int64, int64, boolean[::1])")
def _strongest(frames, saliences, time_radius, most, keep):  # type: ignore[no-untyped-def]
    n = len(frames)
    low = 0
    high = 0
    for i in range(n):
        while frames[low] < frames[i] - time_radius:
            low += 1
        while high < n and frames[high] <= frames[i] + time_radius:
            high += 1
        higher = np.int32(0)
        for j in range(low, high):
            higher += np.int32(saliences[j] > saliences[i])
        keep[i] = higher < most


def interpolated_bins(spectrogram: I16, peaks: Peaks) -> F32:
    """Refine the frequency of peaks by a parabola through a bin and its neighbours.

    Parameters
    ----------
    spectrogram : ndarray of int16, shape (n_frames, n_bins)
        Logarithmic.
    peaks : Peaks

    Returns
    -------
    ndarray of float32, shape (n,)
        In bins, at most half a bin from the peak's.
    """
    last = spectrogram.shape[1] - 1
    below = spectrogram[peaks.frames, np.maximum(peaks.bins - 1, 0)].astype(np.float32)
    here = spectrogram[peaks.frames, peaks.bins].astype(np.float32)
    above = spectrogram[peaks.frames, np.minimum(peaks.bins + 1, last)].astype(np.float32)
    bend = np.minimum(below - 2 * here + above, np.float32(-1.0))
    shift = np.clip(0.5 * (below - above) / bend, -0.5, 0.5)
    refined: F32 = (peaks.bins + shift).astype(np.float32)
    return refined
