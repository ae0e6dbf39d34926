"""Additive noise: made or recorded, mixed in at a signal-to-noise ratio."""

import math
from collections.abc import Sequence

import numpy as np
import scipy.fft

from afp.errors import InputError
from afp.fingerprint import F32

MOST_DRAWS = 1000  # before recordings count as silent
LOWEST_AUDIBLE_HZ = 20.0
SHORTEST_PERIOD = 1024  # samples: shorter noise is a piece of noise of this length


def white(n: int, rng: np.random.Generator) -> F32:
    """Make noise of equal power at every frequency.

    Parameters
    ----------
    n : int
        Samples.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (n,)
        Gaussian, of unit variance.
    """
    return rng.standard_normal(n, np.float32)


def pink(n: int, rng: np.random.Generator, *, sample_rate: int) -> F32:
    """Make noise of equal power in every audible octave: 1/f from 20 Hz up.

    What lies below, a third of the power of 1/f down to a period of some seconds, nobody hears
    and no microphone records: with it an SNR would be milder than it sounds.

    Parameters
    ----------
    n : int
        Samples.
    rng : numpy.random.Generator
    sample_rate : int
        In Hz.

    Returns
    -------
    ndarray of float32, shape (n,)
        Gaussian, of unit variance over many draws, without a mean over its period, which is
        hardly longer than n.
    """
    period: int = scipy.fft.next_fast_len(max(n, SHORTEST_PERIOD), real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(period, np.float32))
    weights = np.zeros(len(spectrum), np.float32)
    lowest = max(1, math.ceil(LOWEST_AUDIBLE_HZ * period / sample_rate))
    weights[lowest:] = 1 / np.sqrt(np.arange(lowest, len(spectrum), dtype=np.float32))
    spectrum *= weights * np.sqrt(period / (2 * np.sum(weights**2)))
    noise: F32 = scipy.fft.irfft(spectrum, period)[:n]
    return noise


def babble(n: int, speech: Sequence[F32], rng: np.random.Generator, *, n_talkers: int = 6) -> F32:
    """Let several people talk at once, equally loud.

    Six talkers mask best of all numbers (Simpson & Cooke 2005, "Consonant identification in
    N-talker babble is a nonmonotonic function of N").

    Parameters
    ----------
    n : int
        Samples.
    speech : sequence of ndarray of float32
        Recordings, of a talker each; they are taken more than once only where there are fewer
        than talkers.
    rng : numpy.random.Generator
    n_talkers : int

    Returns
    -------
    ndarray of float32, shape (n,)
        Of unit power for each talker.

    Raises
    ------
    InputError
        When there are no recordings, or nobody speaks in them.
    """
    if not speech:
        raise InputError("no speech to make babble of", hint="name a folder that holds some")
    order = rng.permutation(len(speech))
    order = np.resize(order, max(len(order), n_talkers))
    mix = np.zeros(n, np.float32)
    for talker in range(n_talkers):
        voice = stretch(n, [speech[i] for i in order[talker::n_talkers].tolist()], rng)
        mix += voice / np.float32(np.sqrt(_power(voice)) or 1.0)
    return mix


def stretch(n: int, recordings: Sequence[F32], rng: np.random.Generator, *, past: int = 0) -> F32:
    """Cut a random piece out of a random recording; a shorter one is repeated from a random place.

    A piece that is digitally silent is drawn again.

    Parameters
    ----------
    n : int
        Samples.
    recordings : sequence of ndarray of float32
    rng : numpy.random.Generator
    past : int
        Samples at the start that do not count when the piece is checked for silence.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    InputError
        When there are no recordings, or they are silent.
    """
    if not recordings:
        raise InputError("no recordings to mix in", hint="name a folder that holds some")
    for _ in range(MOST_DRAWS):
        recording = recordings[int(rng.integers(len(recordings)))]
        piece = _piece(n, recording, rng)
        if n <= past or piece[past:].any():
            return piece
    raise InputError("the recordings to mix in are digitally silent", hint="replace them by others")


def add(samples: F32, noise: F32, *, snr_db: float, past: int = 0) -> F32:
    """Mix noise in at a signal-to-noise ratio.

    Parameters
    ----------
    samples, noise : ndarray of float32, shape (n,)
    snr_db : float
        Ratio of the mean powers, in dB.
    past : int
        Samples at the start that the ratio is not measured over, since they are context that will
        be cut off.

    Returns
    -------
    ndarray of float32, shape (n,)
        The samples as they are where they or the noise are silent.
    """
    signal_power, noise_power = _power(samples[past:]), _power(noise[past:])
    if signal_power == 0 or noise_power == 0:
        return samples.copy()
    gain = np.sqrt(signal_power / noise_power) * 10 ** (-snr_db / 20)
    mixed: F32 = noise * np.float32(gain)
    mixed += samples
    return mixed


def _piece(n: int, recording: F32, rng: np.random.Generator) -> F32:
    if len(recording) >= n:
        start = rng.integers(len(recording) - n + 1)
        return recording[start : start + n].copy()
    if len(recording) == 0:
        return np.zeros(n, np.float32)
    return np.resize(np.roll(recording, -rng.integers(len(recording))), n)


def _power(samples: F32) -> float:
    """Return the mean square, 0 of no samples."""
    wide = samples.astype(np.float64)
    return float(np.dot(wide, wide)) / max(len(samples), 1)
