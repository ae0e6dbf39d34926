"""Rooms: what reaches a microphone besides the direct sound."""

from functools import cache

import numpy as np
import scipy.fft

from afp.errors import InputError, UsageError
from afp.fingerprint import F32, F64

SHORTEST_T60, LONGEST_T60 = 0.05, 3.0
DIRECT_DB = (-6.0, 6.0)  # direct to reverberant, at twice and half the critical distance
REFLECTIONS = (4, 8)
EARLIEST = 0.001  # seconds after the direct sound: a surface some 20 cm off the direct path
EARLY_SHARE = 0.2  # of the reverberant energy
EARLY_T60S = 0.1  # length of the early part in reverberation times
LOWEST_EDGE_HZ = 500.0
HALVING_HZ = 12_000.0  # where the reverberation time is half of that at low frequencies


def response(*, t60: float, sample_rate: int, rng: np.random.Generator) -> F32:
    """Make up the impulse response of a room.

    The direct sound, a few sparse early reflections, then Gaussian noise that decays
    exponentially (Moorer 1979, "About this reverberation business"; Polack 1993), sooner at high
    frequencies, which surfaces and the air absorb more of (Kuttruff, *Room Acoustics*). The
    microphone is at half to twice the critical distance: a direct-to-reverberant ratio between 6
    and −6 dB.

    Parameters
    ----------
    t60 : float
        Reverberation time over all frequencies, 0.05 to 3 s: as ISO 3382-1 fits it to the decay
        from −5 to −35 dB (T30).
    sample_rate : int
        In Hz.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (ceil(t60 · sample_rate),)
        The direct sound first, which is 1.

    Raises
    ------
    UsageError
        When `t60` is out of range.
    """
    if not SHORTEST_T60 <= t60 <= LONGEST_T60:
        hint = f"choose {SHORTEST_T60:g} to {LONGEST_T60:g} s"
        raise UsageError(f"no room has a reverberation time of {t60:g} s here", hint=hint)
    n = int(np.ceil(t60 * sample_rate))
    n_reflections = rng.integers(REFLECTIONS[0], REFLECTIONS[1], endpoint=True)
    delays = np.sort(rng.uniform(EARLIEST, EARLY_T60S * t60, n_reflections))
    places = np.maximum((delays * sample_rate).astype(np.int64), 1)
    early = np.zeros(n, np.float32)
    early[places] = rng.uniform(0.5, 1.0, n_reflections) * rng.choice([-1, 1], n_reflections)
    early[places] *= 10 ** (-3 * delays / t60)
    tail = _tail(n, t60, sample_rate, rng)
    tail[: places[0]] = 0.0
    reverberant_energy = 10 ** (-rng.uniform(*DIRECT_DB) / 10)
    early *= np.sqrt(EARLY_SHARE * reverberant_energy / np.sum(early**2))
    tail *= np.sqrt((1 - EARLY_SHARE) * reverberant_energy / np.sum(tail**2))
    whole: F32 = early + tail
    whole[0] = 1.0
    return whole


def convolve(samples: F32, response: F32) -> F32:
    """Play samples in a room.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    response : ndarray of float32, shape (m,)
        Impulse response at the same sample rate. It is scaled to unit energy, so that its level
        does not matter.

    Returns
    -------
    ndarray of float32, shape (n,)
        The strongest tap, which is the direct sound, stays at its place in time.

    Raises
    ------
    InputError
        When the response is silent.
    """
    direct = int(np.argmax(np.abs(response))) if len(response) else 0
    energy = float(np.sum(np.square(response, dtype=np.float64)))
    if not (energy > 0 and np.isfinite(energy)):
        raise InputError("an impulse response is silent", hint="replace it by another")
    if len(samples) == 0:
        return samples.copy()
    n = scipy.fft.next_fast_len(len(samples) + len(response) - 1, real=True)
    spectrum = scipy.fft.rfft(response / np.float32(np.sqrt(energy)), n)
    spectrum *= scipy.fft.rfft(samples, n)
    wet: F32 = scipy.fft.irfft(spectrum, n, overwrite_x=True)[direct : direct + len(samples)]
    return wet


def _tail(n: int, t60: float, sample_rate: int, rng: np.random.Generator) -> F32:
    """Make noise that decays in each band at the band's own rate."""
    edges, times = _bands(sample_rate)
    period = scipy.fft.next_fast_len(n, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(period, np.float32))
    bins = np.round(edges * period / sample_rate).astype(np.int64)
    bins[-1] = len(spectrum)
    seconds = np.arange(n, dtype=np.float32) / np.float32(sample_rate)
    tail = np.zeros(n, np.float32)
    for low, high, time in zip(bins[:-1], bins[1:], times * t60, strict=True):
        band = np.zeros_like(spectrum)
        band[low:high] = spectrum[low:high]
        tail += scipy.fft.irfft(band, period)[:n] * np.exp(np.float32(-_rate(time)) * seconds)
    return tail


@cache
def _bands(sample_rate: int) -> tuple[F64, F64]:
    """Return the edges of octave bands, in Hz, and each band's share of the whole's t60.

    The decay of the whole is a sum of exponentials, early of the short, late of the long ones;
    the shares make its T30 what is asked for at the critical distance, where the direct sound has
    half the energy.
    """
    nyquist = sample_rate / 2
    octaves = LOWEST_EDGE_HZ * 2.0 ** np.arange(16)
    edges = np.concatenate([[0.0], octaves[octaves < nyquist], [nyquist]])
    centres = (edges[:-1] + edges[1:]) / 2
    times = 1 / (1 + centres / HALVING_HZ)
    seconds = np.linspace(0, 1, 1000)
    energies = np.diff(edges) * times  # remaining at time 0, of noise of equal density
    remaining = np.exp(-2 * np.outer(seconds, _rate(times))) @ energies
    decay = 10 * np.log10(remaining / (2 * remaining[0]))
    fitted = (decay <= -5) & (decay >= -35)
    slope = np.polyfit(seconds[fitted], decay[fitted], 1)[0]
    return edges, times * (slope / -60)


def _rate(t60: F64) -> F64:
    """Return the rate, in 1/s, at which amplitudes decay by 60 dB in so many seconds."""
    rate: F64 = np.log(1000.0) / t60
    return rate
