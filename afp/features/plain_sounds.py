"""Tones and glides: sounds so plain that to be like one says nothing of a recording."""

import numpy as np

from afp.features.log_mel import HIGHEST_HZ, LOWEST_HZ, SAMPLE_RATE, SEGMENT_SAMPLES
from afp.fingerprint import F32

LOWEST_HARMONIC_HZ = 60.0
HARMONICS = (2, 4, 8)
_TOP_HZ = 0.49 * SAMPLE_RATE

OCTAVES_A_SECOND = (-4.0, -2.0, -1.0, -0.5, -0.2, 0.2, 0.5, 1.0, 2.0, 4.0)


def plain_segments() -> F32:
    """Synthesise segments of tones and glides.

    Returns
    -------
    ndarray of float32, shape (n, SEGMENT_SAMPLES)
        Sines an eighth of a tone apart; tones with harmonics a semitone apart; sines that glide,
        from starts a whole tone apart.
    """
    pure = _steps(LOWEST_HZ, _TOP_HZ, 48)
    rich = _steps(LOWEST_HARMONIC_HZ, HIGHEST_HZ / 2, 12)
    glides = [
        (start, rate)
        for rate in OCTAVES_A_SECOND
        for start in _steps(LOWEST_HZ, HIGHEST_HZ, 6)
        if LOWEST_HZ < start * 2**rate < HIGHEST_HZ
    ]
    sounds = [_sound(hz, 0.0, 1) for hz in pure]
    sounds += [_sound(hz, 0.0, n) for n in HARMONICS for hz in rich]
    sounds += [_sound(start, rate, 1) for start, rate in glides]
    return np.array(sounds, np.float32)


def _steps(low: float, high: float, per_octave: int) -> list[float]:
    n = int(per_octave * np.log2(high / low))
    return [low * 2 ** (i / per_octave) for i in range(n + 1)]


def _sound(start_hz: float, octaves_a_second: float, n_harmonics: int) -> np.ndarray:
    times = np.arange(SEGMENT_SAMPLES) / SAMPLE_RATE
    hz = start_hz * 2 ** (octaves_a_second * times)
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
    parts = [np.sin(k * phase) / k * (k * hz < _TOP_HZ) for k in range(1, n_harmonics + 1)]
    sound: np.ndarray = np.sum(parts, axis=0)
    return sound
