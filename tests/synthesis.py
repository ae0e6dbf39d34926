"""Audio for tests, made from a seed: pieces that resemble music, tones, noise, silence."""

import numpy as np

from afp.fingerprint import F32

_SCALE = np.array([0, 2, 4, 5, 7, 9, 11])  # major, in semitones
_BEAT_SECONDS = 0.25


def music(seconds: float, seed: int = 0, sample_rate: int = 8000) -> F32:
    """Play random chords, a melody and drums; every seed another piece, none repeats itself."""
    rng = np.random.default_rng(seed)
    n_samples = round(seconds * sample_rate)
    n_beats = int(np.ceil(seconds / _BEAT_SECONDS)) + 1
    tonic = 110.0 * 2 ** (rng.integers(12) / 12)
    tuning = 2 ** (rng.uniform(-0.5, 0.5) / 12)
    mix = np.zeros(n_samples + 2 * sample_rate, np.float32)

    def pitch(degree: int) -> float:
        octave, step = divmod(degree, len(_SCALE))
        return float(tonic * tuning * 2 ** (octave + _SCALE[step] / 12))

    def play(start: float, hz: float, length: float, level: float) -> None:
        t = np.arange(round(length * sample_rate)) / sample_rate
        note = np.zeros(len(t))
        for harmonic in range(1, 6):
            if harmonic * hz < 0.45 * sample_rate:
                decay = np.exp(-t * (2 + harmonic) / length)
                note += decay * np.sin(2 * np.pi * harmonic * hz * t) / harmonic
        at = round(start * sample_rate)
        note[: len(t) // 50] *= np.linspace(0, 1, len(t) // 50)
        mix[at : at + len(t)] += (level * note[: len(mix) - at]).astype(np.float32)

    for beat in range(n_beats):
        start = min(max(beat * _BEAT_SECONDS + rng.normal(0, 0.01), 0), seconds)
        if beat % 4 == 0:
            root = int(rng.integers(7))
            for third in (0, 2, 4):
                play(start, pitch(root + third), 1.5, 0.08)
        if rng.random() < 0.8:
            play(start, pitch(int(rng.integers(7, 28))), rng.choice([0.25, 0.5, 1.0]), 0.2)
        if rng.random() < 0.5:
            hit = rng.standard_normal(sample_rate // 10) * np.exp(
                -np.linspace(0, 6, sample_rate // 10)
            )
            at = round(start * sample_rate)
            mix[at : at + len(hit)] += (rng.uniform(0.03, 0.15) * hit).astype(np.float32)
    return mix[:n_samples] / np.float32(max(np.abs(mix[:n_samples]).max(initial=0), 1.0))


def tone(seconds: float, hz: float = 440.0, sample_rate: int = 8000, level: float = 0.5) -> F32:
    """Play one sine."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def noise(seconds: float, seed: int = 0, sample_rate: int = 8000, level: float = 0.1) -> F32:
    """Return white Gaussian noise."""
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * sample_rate))).astype(np.float32)


def silence(seconds: float, sample_rate: int = 8000) -> F32:
    """Return zeros."""
    return np.zeros(round(seconds * sample_rate), np.float32)
