"""Changes of time and pitch: a turntable that runs fast, a DJ's tempo, a key change, resampling."""

import numpy as np
import numpy.typing as npt
import soxr

from afp.errors import UsageError
from afp.fingerprint import F32

_WINDOW_SECONDS = 0.064  # tones 60 Hz apart stay apart, and onsets are still in place
_OVERLAP = 4  # hops a window


def speed(samples: F32, *, factor: float) -> F32:
    """Play faster: tempo and pitch rise together, as on a turntable.

    Band-limited interpolation (libsoxr's best quality): what would rise above half the sample
    rate is filtered out, not folded.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples at any sample rate.
    factor : float
        1.02 plays 2 % faster.

    Returns
    -------
    ndarray of float32, shape (round(n / factor),)
        Time t holds what was at time t · factor.

    Raises
    ------
    UsageError
        When the factor is not above zero.
    """
    n_out = _length(len(samples), factor)
    return _fitted(soxr.resample(samples, factor, 1.0, quality="VHQ"), n_out)


def resample(samples: F32, *, sample_rate: int, hz: float) -> F32:
    """Convert to another sample rate and back, which leaves nothing above half of that rate.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    sample_rate : int
        In Hz.
    hz : float
        The sample rate in between, in Hz.

    Returns
    -------
    ndarray of float32, shape (n,)
        At `sample_rate`, aligned with the input.

    Raises
    ------
    UsageError
        When the sample rate in between is not above zero.
    """
    if not 0 < hz < np.inf:
        raise UsageError(f"{hz:g} Hz is no sample rate", hint="give one above 0")
    between = soxr.resample(samples, sample_rate, hz)
    return _fitted(soxr.resample(between, hz, sample_rate), len(samples))


def tempo(samples: F32, *, factor: float, sample_rate: int = 16_000) -> F32:
    """Play faster at the same pitch: a phase vocoder with identity phase locking.

    The spectrum at each output frame is that of the input there, its phases turned so that each
    spectral peak carries on from the frame before; the bins around a peak turn with it, which
    keeps the peak's shape. See J. Laroche and M. Dolson, "Improved phase vocoder time-scale
    modification of audio", IEEE Transactions on Speech and Audio Processing 7(3), 1999. The
    advance of a peak's phase over one output hop is read off a second spectrum that lies this
    very hop before the first, so that no phase has to be unwrapped.

    Meant for clips: it takes some 3 MB a second of output.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    factor : float
        1.1 plays 10 % faster.
    sample_rate : int
        In Hz; chooses the length of the window, which is near 64 ms.

    Returns
    -------
    ndarray of float32, shape (round(n / factor),)
        Time t holds what was at time t · factor, within 10 ms for factors from 0.8 to 1.25.

    Raises
    ------
    UsageError
        When the factor is not above zero.
    """
    from scipy.fft import irfft, rfft

    n_out = _length(len(samples), factor)
    n_fft = 2 ** max(round(np.log2(_WINDOW_SECONDS * sample_rate)), 5)
    hop = n_fft // _OVERLAP
    # A periodic Hann window.
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    n_frames = -(-n_out // hop) + 1
    starts = np.rint(np.arange(n_frames) * (hop * factor)).astype(np.int64)
    before = n_fft // 2 + hop  # the first frame's centre is the first sample
    after = max(int(starts[-1]) + n_fft + hop - before - len(samples), 0)
    padded = np.pad(samples, (before, after))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)
    earlier = rfft(frames[starts] * window).conj()
    spectra = rfft(frames[starts + hop] * window)
    peaks = _nearest_peaks(np.abs(spectra))
    for i in range(1, n_frames):
        turns = spectra[i - 1] * earlier[i]
        sizes = np.abs(turns)
        turns[sizes == 0] = sizes[sizes == 0] = 1  # nothing sounded: phases start afresh
        spectra[i] *= (turns / sizes)[peaks[i]]
    pieces = irfft(spectra, n_fft) * window
    out, weights = np.zeros((2, n_frames + _OVERLAP - 1, hop), np.float32)
    for i in range(_OVERLAP):
        part = slice(i * hop, (i + 1) * hop)
        out[i : i + n_frames] += pieces[:, part]
        weights[i : i + n_frames] += np.square(window[part])
    stretched: F32 = (out / np.maximum(weights, np.float32(1e-3))).ravel()
    return stretched[n_fft // 2 : n_fft // 2 + n_out]


def pitch(samples: F32, *, semitones: float, sample_rate: int = 16_000) -> F32:
    """Raise the pitch at the same tempo: `tempo` slows down what `speed` then plays faster.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    semitones : float
        12 to the octave, equally tempered; negative lowers the pitch.
    sample_rate : int
        In Hz; see `tempo`.

    Returns
    -------
    ndarray of float32, shape (n,)
        Aligned with the input.
    """
    ratio = 2.0 ** (semitones / 12)
    stretched = tempo(samples, factor=1 / ratio, sample_rate=sample_rate)
    return _fitted(speed(stretched, factor=ratio), len(samples))


def _nearest_peaks(magnitudes: F32) -> npt.NDArray[np.int64]:
    """Tell for each bin of each frame the nearest bin that is larger than two on either side."""
    n_bins = magnitudes.shape[1]
    is_peak = np.ones(magnitudes.shape, bool)
    for distance in (1, 2):
        is_peak[:, distance:] &= magnitudes[:, distance:] > magnitudes[:, :-distance]
        is_peak[:, :-distance] &= magnitudes[:, :-distance] >= magnitudes[:, distance:]
    bins = np.arange(n_bins)
    below = np.maximum.accumulate(np.where(is_peak, bins, -2 * n_bins), axis=1)
    above = np.minimum.accumulate(np.where(is_peak, bins, 3 * n_bins)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.where(bins - below <= above - bins, below, above)
    return np.where((nearest >= 0) & (nearest < n_bins), nearest, bins)  # no peak at all


def _length(n: int, factor: float) -> int:
    """Return how long n samples are at a factor, once that is known to make sense."""
    if not 0 < factor < np.inf:
        raise UsageError(
            f"a factor of {factor:g} on time cannot be played", hint="give one above 0"
        )
    return round(n / factor)


def _fitted(samples: F32, n: int) -> F32:
    """Return n samples, of a resampler that may give one too many or too few."""
    fitted = np.zeros(n, np.float32)
    fitted[: len(samples)] = samples[:n]
    return fitted
