"""Log-power spectrograms in fixed point, and their whitening."""

from collections.abc import Callable
from typing import Any

import numpy as np

from afp.compiled import kernel
from afp.fingerprint import F32, I16

STEPS_PER_OCTAVE = 256
"""Fixed-point steps in a doubling of power (3.01 dB): one step is 0.012 dB."""

FLOOR_DB = -108.4
"""Power below which a cell counts as silent, relative to a full-scale sine (2 ** -36)."""

SCIPY_FRAMES = 2000
BATCH_FRAMES = 128  # a batch of frames and its spectra stay in the cache of one core


def log_spectrogram(
    samples: F32, *, n_fft: int, hop_length: int, first_bin: int, n_bins: int
) -> I16:
    """Compute the log-power spectrogram of mono samples with a Hann window.

    Integers make every later sum exact: a fingerprint depends neither on where in a file a frame
    stands nor on the order of additions.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    n_fft : int
        Window length, in samples.
    hop_length : int
        Step from one frame to the next, in samples.
    first_bin, n_bins : int
        The range of frequency bins to keep.

    Returns
    -------
    ndarray of int16, shape (n_frames, n_bins)
        `STEPS_PER_OCTAVE` times the base-2 logarithm of power, floored at `FLOOR_DB`; frame k
        covers the samples from ``k * hop_length`` to ``k * hop_length + n_fft``. Empty when the
        samples do not fill a frame.
    """
    n_frames = max(0, (len(samples) - n_fft) // hop_length + 1)
    out = np.empty((n_frames, n_bins), np.int16)
    if not n_frames:
        return out
    # The window's scale gives the peak cell of a full-scale sine the power 1.
    window = (np.hanning(n_fft + 1)[:-1] * (4.0 / n_fft)).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop_length]
    rfft = _real_fft(n_frames)
    for start in range(0, n_frames, BATCH_FRAMES):
        spectrum = rfft(frames[start : start + BATCH_FRAMES] * window)
        parts = np.ascontiguousarray(spectrum, np.complex64).view(np.float32)
        _log_power(parts, out[start : start + BATCH_FRAMES], first_bin)
    return out


def _real_fft(n_frames: int) -> Callable[[F32], Any]:
    """Choose SciPy's FFT, five times faster in batches, where that repays its import."""
    if n_frames < SCIPY_FRAMES:
        return np.fft.rfft
    import scipy.fft

    return scipy.fft.rfft  # type: ignore[no-any-return]


@kernel("void(float32[:, ::1], int16[:, ::1], int64)")
def _log_power(parts, out, first_bin):  # type: ignore[no-untyped-def]
    # log2(x) from the bits of a float32: exponent + mantissa m + 0.344 m (1 - m), error < 0.01.
    for t in range(out.shape[0]):
        for f in range(out.shape[1]):
            re = parts[t, 2 * (f + first_bin)]
            im = parts[t, 2 * (f + first_bin) + 1]
            bits = np.float32(re * re + im * im + np.float32(2.0**-36)).view(np.int32)
            mantissa = (bits >> 8) & 0x7FFF
            bend = (mantissa * (0x8000 - mantissa)) >> 15
            out[t, f] = ((bits >> 15) - 127 * 256) + ((bend * 88) >> 15)


def whiten(spectrogram: I16, *, time_frames: int, frequency_bins: int, breadth: float = 0.0) -> I16:
    """Subtract from each cell the mean of its neighbourhood: level and colour are gone.

    Parameters
    ----------
    spectrogram : ndarray of int16, shape (n_frames, n_bins)
        As from `log_spectrogram`.
    time_frames, frequency_bins : int
        Half the extent of the neighbourhood in either direction.
    breadth : float
        Weight, 0 to 1, of the mean over all bins against that of the neighbouring ones: what
        is strong in the whole spectrum outlives noise better than what is strong in its vicinity.

    Returns
    -------
    ndarray of int16, shape (n_frames, n_bins)
    """
    out = np.empty_like(spectrogram)
    n_frames, n_bins = spectrogram.shape
    if not n_frames:
        return out
    f = np.arange(n_bins)
    extent = np.minimum(f + frequency_bins + 1, n_bins) - np.maximum(f - frequency_bins, 0)
    column = np.zeros(n_bins, np.int32)
    prefix = np.zeros(n_bins + 2 * frequency_bins + 1, np.int32)
    inverse = (1.0 / extent).astype(np.float32)
    _whiten(spectrogram, out, column, prefix, inverse, time_frames, frequency_bins, breadth)
    return out


@kernel(
    "void(int16[:, ::1], int16[:, ::1], int32[::1], int32[::1], float32[::1], "
    "int64, int64, float64)"
)
def _whiten(spectrogram, out, column, prefix, inverse, time_frames, frequency_bins, breadth):  # type: ignore[no-untyped-def]
    n_frames, n_bins = spectrogram.shape
    for t in range(min(time_frames, n_frames)):
        for f in range(n_bins):
            column[f] += spectrogram[t, f]
    for t in range(n_frames):
        entering = t + time_frames
        if entering < n_frames:
            for f in range(n_bins):
                column[f] += spectrogram[entering, f]
        leaving = t - time_frames - 1
        if leaving >= 0:
            for f in range(n_bins):
                column[f] -= spectrogram[leaving, f]
        n_rows = min(entering, n_frames - 1) - max(leaving + 1, 0) + 1
        # prefix[f + frequency_bins] = sum of the columns below f, clamped at either end
        total = np.int32(0)
        for f in range(n_bins):
            prefix[f + frequency_bins] = total
            total += column[f]
        for f in range(n_bins + frequency_bins, n_bins + 2 * frequency_bins + 1):
            prefix[f] = total
        broad = np.float32(total) / np.float32(n_rows * n_bins) * np.float32(breadth)
        scale = np.float32(1.0 - breadth) / np.float32(n_rows)
        for f in range(n_bins):
            near = np.float32(prefix[f + 2 * frequency_bins + 1] - prefix[f])
            out[t, f] = np.int16(
                np.float32(spectrogram[t, f]) - near * (scale * inverse[f]) - broad
            )
