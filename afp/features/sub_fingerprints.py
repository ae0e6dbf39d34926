"""Sub-fingerprints: the signs of energy differences along bands and time, 32 bits a frame.

J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.fingerprint import F32, F64, U32

N_BITS = 32
N_BANDS = N_BITS + 1
LOWEST_HZ, HIGHEST_HZ = 300.0, 2000.0

FLOOR = 10.0**-11.5
"""Power within the bands below which a frame is silent, relative to a full-scale sine."""
LEAKAGE = 1e-10
"""Share of the power below the bands that rounding may leave within them."""

ODDS_SCALE, MOST_ODDS = 8.0, 4.0  # fitted on music in recorded noise and in white noise at 0 dB
STEADY_ODDS_SCALE, STEADY_SHARE = 10.0, 0.6  # the same where what is steady is told apart
STEADY_QUANTILE = 0.15

FAINT = 1e-6
"""Share of a frame's power: what a band holds less than that may be leakage of the window, sure and
steady under a lone tone that glides, but nobody's music."""

BATCH_FRAMES = 128  # a multiple of any processor's lanes: all frames are rounded alike


def band_edges(n_fft: int, sample_rate: int) -> F64:
    """Return the edges of the logarithmically spaced bands, shape (34,), in bins."""
    steps = np.arange(N_BANDS + 1) / N_BANDS
    edges: F64 = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** steps * n_fft / sample_rate
    return edges


def band_energies(
    samples: F32, edges: F64, *, n_fft: int, hop_length: int, quick_start: bool = False
) -> F32:
    """Compute the energy in each band of each frame of mono samples, under a Hann window.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    edges : ndarray of float64, shape (34,) or (n_scales, 34)
        Edges of the bands, in bins; with two axes, several sets of them. A bin that an edge
        divides belongs to both bands in part.
    n_fft : int
        Length of a frame, in samples.
    hop_length : int
        Step from one frame to the next, in samples.
    quick_start : bool
        Transform with NumPy rather than SciPy: slower, and rounded otherwise, but a fifth of a
        second sooner where SciPy is not imported yet.

    Returns
    -------
    ndarray of float32, shape (n_frames, 33) or (n_scales, n_frames, 33)
        Relative to a full-scale sine; all zero in a silent frame. Frame k covers the samples from
        ``k * hop_length`` to ``k * hop_length + n_fft``. Empty when they do not fill a frame.
    """
    scales = np.ascontiguousarray(edges.reshape(-1, N_BANDS + 1))
    n_frames = max(0, (len(samples) - n_fft) // hop_length + 1)
    out = np.empty((len(scales), n_frames, N_BANDS), np.float32)
    if n_frames:
        window = (np.hanning(n_fft + 1)[:-1] * (4.0 / n_fft)).astype(np.float32)
        views = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop_length]
        rfft = _real_fft(quick_start)
        frames = np.empty((BATCH_FRAMES, n_fft), np.float32)
        running = np.empty(n_fft // 2 + 2, np.float64)
        for start in range(0, n_frames, BATCH_FRAMES):
            n = min(BATCH_FRAMES, n_frames - start)
            np.multiply(views[start : start + n], window, out=frames[:n])
            lanes = -(-n // 16) * 16
            frames[n:lanes] = 0.0
            spectrum = np.ascontiguousarray(rfft(frames[:lanes]), np.complex64)
            _band_energies(spectrum.view(np.float32), scales, FLOOR, LEAKAGE, start, running, out)
    return out[0] if edges.ndim == 1 else out


def _real_fft(quick_start: bool) -> Callable[[F32], Any]:
    if quick_start:
        return np.fft.rfft
    import scipy.fft

    return scipy.fft.rfft  # type: ignore[no-any-return]


@kernel(
    "void(float32[:, ::1], float64[:, ::1], float64, float64, int64, float64[::1], "
    "float32[:, :, ::1])"
)
def _band_energies(parts, scales, floor, leakage, start, running, out):  # type: ignore[no-untyped-def]
    n_scales, n_frames, n_bands = out.shape
    n_bins = parts.shape[1] // 2
    for i in range(min(parts.shape[0], n_frames - start)):
        # running[k]: power in the bins below k
        total = 0.0
        running[0] = 0.0
        for k in range(n_bins):
            re = np.float64(parts[i, 2 * k])
            im = np.float64(parts[i, 2 * k + 1])
            total += re * re + im * im
            running[k + 1] = total
        for scale in range(n_scales):
            below = 0.0
            lowest = 0.0
            for band in range(n_bands + 1):
                edge = min(scales[scale, band], np.float64(n_bins))
                k = min(np.int64(edge), n_bins - 1)
                value = running[k] + (edge - k) * (running[k + 1] - running[k])
                if band:
                    out[scale, start + i, band - 1] = value - below
                else:
                    lowest = value
                below = value
            if below - lowest < max(floor, leakage * lowest):
                for band in range(n_bands):
                    out[scale, start + i, band] = 0.0


def energies_between(energies: F32, times: F64) -> F32:
    """Interpolate band energies at fractional frames, by a cubic through the four around.

    Energies under a window of many hops are smooth in time.

    Parameters
    ----------
    energies : ndarray of float32, shape (n_frames, 33)
    times : ndarray of float64, shape (n,)
        In frames, from 0 to ``n_frames - 1``.

    Returns
    -------
    ndarray of float32, shape (n, 33)
    """
    out = np.empty((len(times), energies.shape[1]), np.float32)
    _energies_between(energies, times, out)
    return out


@kernel("void(float32[:, ::1], float64[::1], float32[:, ::1])")
def _energies_between(energies, times, out):  # type: ignore[no-untyped-def]
    n_frames, n_bands = energies.shape
    for i in range(len(times)):
        k = min(max(np.int64(times[i]), 0), n_frames - 1)
        x = times[i] - k
        a = max(k - 1, 0)
        c = min(k + 1, n_frames - 1)
        d = min(k + 2, n_frames - 1)
        wa = np.float32(x * (-0.5 + x * (1.0 - 0.5 * x)))
        wb = np.float32(1.0 + x * x * (-2.5 + 1.5 * x))
        wc = np.float32(x * (0.5 + x * (2.0 - 1.5 * x)))
        wd = np.float32(x * x * (-0.5 + 0.5 * x))
        silent = energies[k].sum() == 0.0 or energies[c].sum() == 0.0
        for band in range(n_bands):
            between = (
                wa * energies[a, band]
                + wb * energies[k, band]
                + wc * energies[c, band]
                + wd * energies[d, band]
            )
            out[i, band] = np.float32(0.0) if silent else max(between, np.float32(0.0))


@dataclass(frozen=True, slots=True, eq=False)
class SubFingerprints:
    """The bits of a stretch of audio, one word a frame, with how far each can be trusted.

    Attributes
    ----------
    bits : ndarray of uint32, shape (n,)
        Bit m of frame k is set where the energy of band m exceeds that of band m + 1 by more in
        frame k + 1 than in frame k.
    odds : ndarray of float32, shape (n, 32)
        Logarithm of the odds that a bit is as it was before noise came on top: near zero where
        the difference is small beside the energies that it is between, or these beside the
        frame's (`FAINT`), and at most `MOST_ODDS`.
    audible : ndarray of bool, shape (n,)
        False where a frame is silent; its bits say nothing.
    """

    bits: U32
    odds: F32
    audible: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.bits)


def sub_fingerprints(energies: F32, *, noisy: bool = False) -> SubFingerprints:
    """Derive sub-fingerprints from band energies.

    Parameters
    ----------
    energies : ndarray of float32, shape (n + 1, 33)
        Of successive frames.
    noisy : bool
        Whether there may be noise: bits between bands where little rises above what is steadily
        there are trusted less (minimum statistics; R. Martin, 2001).
    """
    n = max(len(energies) - 1, 0)
    scale, share, steady = ODDS_SCALE, 0.0, np.zeros(N_BITS, np.float32)
    if noisy and n:
        scale, share, steady = STEADY_ODDS_SCALE, STEADY_SHARE, _steady(energies)
    bits = np.empty(n, np.uint32)
    odds = np.empty((n, N_BITS), np.float32)
    audible = np.empty(n, np.bool_)
    _sub_fingerprints(energies, steady, share, scale, MOST_ODDS, FAINT, bits, odds, audible)
    return SubFingerprints(bits, odds, audible)


def _steady(energies: F32) -> F32:
    """Return the level that each pair of bands and of frames hardly ever falls below, (32,)."""
    heard = energies[energies.any(axis=1)]
    pairs = heard[:, :-1] + heard[:, 1:]
    at = int(STEADY_QUANTILE * max(len(pairs) - 1, 0))
    least: F32 = np.partition(pairs, at, axis=0)[at] if len(pairs) else np.zeros(N_BITS, np.float32)
    return 2 * least


@kernel(
    "void(float32[:, ::1], float32[::1], float64, float64, float64, float64, uint32[::1], "
    "float32[:, ::1], boolean[::1])"
)
def _sub_fingerprints(  # type: ignore[no-untyped-def]
    energies, steady, share, odds_scale, most_odds, faint, bits, odds, audible
):
    for t in range(len(bits)):
        first = np.float32(0.0)
        second = np.float32(0.0)
        for m in range(energies.shape[1]):
            first += energies[t, m]
            second += energies[t + 1, m]
        audible[t] = first > 0 and second > 0
        word = np.uint32(0)
        floor = np.float32(faint) * (first + second)
        for m in range(odds.shape[1]):
            before = energies[t, m] - energies[t, m + 1]
            after = energies[t + 1, m] - energies[t + 1, m + 1]
            level = (energies[t, m] + energies[t, m + 1]) + (
                energies[t + 1, m] + energies[t + 1, m + 1]
            )
            if audible[t]:
                ratio = abs(after - before) / (level + floor)
                known = np.float32(odds_scale) * np.sqrt(ratio)
                if steady[m] > 0:
                    known *= np.float32(1.0) - np.float32(share) * min(
                        steady[m] / level, np.float32(1.0)
                    )
                odds[t, m] = min(known, np.float32(most_odds))
                word |= np.uint32(after - before > 0) << np.uint32(m)
            else:
                odds[t, m] = 0.0
        bits[t] = word


def log_probability_right(odds: F32) -> F32:
    """Return the logarithm of the probability that bits with these log-odds are right."""
    probability: F32 = -np.log1p(np.exp(-odds))
    return probability
