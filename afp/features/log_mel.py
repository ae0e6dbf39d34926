"""Log-mel segments: what the neural fingerprinter hears.

Training and inference call the same functions, so that a model sees in use what it learnt from.
"""

from functools import cache

import numpy as np

from afp.fingerprint import F32

SAMPLE_RATE = 8000
"""In Hz."""

N_FFT = 1024
HOP_LENGTH = 250
"""In samples: 32 frames a second, so that segments which begin on a frame share frames."""

N_FRAMES = 28
"""Frames of a segment."""

N_BANDS = 128
LOWEST_HZ, HIGHEST_HZ = 160.0, 4000.0

SEGMENT_SAMPLES = N_FFT + (N_FRAMES - 1) * HOP_LENGTH
"""Samples under the frames of a segment: 0.972 s, so that a clip of a second fills one."""

FLOOR = 1e-6
"""Power, relative to the mean of the segment, below which nothing is told apart (−60 dB)."""

SILENCE = 1e-12
"""Mean power of a segment, relative to a full-scale sine, that counts as silence."""

_BATCH_FRAMES = 112  # a batch of frames, its spectra and their powers stay in the cache of a core


def mel_powers(samples: F32) -> F32:
    """Compute the power in mel bands over time.

    Parameters
    ----------
    samples : ndarray of float32, shape (..., n)
        Mono, at `SAMPLE_RATE`; leading axes hold independent signals.

    Returns
    -------
    ndarray of float32, shape (..., n_frames, N_BANDS)
        Frame k covers the samples from ``k * HOP_LENGTH`` to ``k * HOP_LENGTH + N_FFT``; a
        full-scale sine has the power 1 at its peak. No frame when the samples do not fill one.
    """
    import scipy.fft

    *leading, n = samples.shape
    n_frames = max(0, (n - N_FFT) // HOP_LENGTH + 1)
    powers = np.empty((*leading, n_frames, N_BANDS), np.float32)
    if not powers.size:
        return powers
    window, first_bin, bands = _analysis()
    frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT, axis=-1)
    frames = frames[..., ::HOP_LENGTH, :]
    for index in np.ndindex(*leading):
        for start in range(0, n_frames, _BATCH_FRAMES):
            batch = slice(start, start + _BATCH_FRAMES)
            spectra = scipy.fft.rfft(frames[(*index, batch)] * window)
            kept = spectra[:, first_bin : first_bin + len(bands)]
            np.matmul(
                np.square(kept.real) + np.square(kept.imag), bands, out=powers[(*index, batch)]
            )
    return powers


def normalised(powers: F32) -> F32:
    """Turn mel powers of segments into what a model takes: level and contrast are gone.

    Parameters
    ----------
    powers : ndarray of float32, shape (..., n_frames, N_BANDS)
        As from `mel_powers`; `N_FRAMES` frames, or as many as there are of a segment.

    Returns
    -------
    ndarray of float32, shape (..., n_frames, N_BANDS)
        The logarithm of each segment's powers above a floor that moves with their mean, of zero
        mean and unit variance over the segment; zero for a silent one.
    """
    mean = powers.mean(axis=(-2, -1), keepdims=True)
    silent = mean <= SILENCE
    relative = powers / np.where(silent, np.float32(1), mean)
    relative += np.float32(FLOOR)
    logarithms: F32 = np.log(relative, out=relative)
    logarithms -= logarithms.mean(axis=(-2, -1), keepdims=True)
    deviation = np.sqrt(np.square(logarithms).mean(axis=(-2, -1), keepdims=True))
    # What hardly differs is not blown up into differences.
    logarithms /= np.maximum(deviation, np.float32(0.1))
    logarithms *= ~silent
    return logarithms


def segments(powers: F32, *, hop_frames: int) -> F32:
    """Cut the mel powers of a signal into overlapping segments, without a copy.

    Parameters
    ----------
    powers : ndarray of float32, shape (n_frames, N_BANDS)
        As from `mel_powers`.
    hop_frames : int
        Frames from the start of a segment to that of the next.

    Returns
    -------
    ndarray of float32, shape (n_segments, N_FRAMES, N_BANDS)
        A read-only view for `normalised`; no segment when there are fewer than `N_FRAMES` frames.
    """
    if len(powers) < N_FRAMES:
        return np.empty((0, N_FRAMES, N_BANDS), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(powers, N_FRAMES, axis=0)
    return windows[::hop_frames].transpose(0, 2, 1)


def padded_segment(powers: F32, first: int) -> F32:
    """Cut and normalise a segment that reaches beyond the start or the end of a signal.

    Parameters
    ----------
    powers : ndarray of float32, shape (n_frames, N_BANDS)
        As from `mel_powers`.
    first : int
        Frame that the segment begins with, before the first one if it is negative.

    Returns
    -------
    ndarray of float32, shape (N_FRAMES, N_BANDS)
        As from `normalised`, over the frames that there are; zero, which is their mean, elsewhere.
    """
    segment = np.zeros((N_FRAMES, N_BANDS), np.float32)
    start, stop = max(first, 0), min(first + N_FRAMES, len(powers))
    segment[start - first : stop - first] = normalised(powers[start:stop])
    return segment


@cache
def _analysis() -> tuple[F32, int, F32]:
    """Return the window, the first bin in use, and the weights of bins (rows) in bands."""
    # The window's scale gives the peak bin of a full-scale sine the power 1.
    window = (np.hanning(N_FFT + 1)[:-1] * (4.0 / N_FFT)).astype(np.float32)
    edges = _hz(np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), N_BANDS + 2))
    bins = np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    # Low bands are narrower than a bin is wide: each has the same weight in all.
    weights /= weights.sum(axis=0)
    used = np.flatnonzero(weights.any(axis=1))
    first, last = int(used[0]), int(used[-1])
    return window, first, np.ascontiguousarray(weights[first : last + 1], np.float32)


def _mel(hz: float) -> float:
    """O'Shaughnessy's mel scale."""
    return float(1127.0 * np.log1p(hz / 700.0))


def _hz(mel: np.ndarray) -> np.ndarray:
    hz: np.ndarray = 700.0 * np.expm1(mel / 1127.0)
    return hz
