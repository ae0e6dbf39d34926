"""Sounds that no track answers, beside music that is not in the store."""

from collections.abc import Callable

import numpy as np

from afp.distort import Recordings, Sounds
from afp.distort.noise import pink, stretch, white
from afp.fingerprint import F32

_Make = Callable[[int, int, np.random.Generator], F32]

_STEP = 1 / 32768  # of a 16-bit file


def _tones(n: int, sample_rate: int, rng: np.random.Generator) -> F32:
    frequency = 60 * (sample_rate / 300) ** rng.random()  # up to a fifth of the rate
    phase = 2 * np.pi * frequency * np.arange(n) / sample_rate
    harmonics = [np.sin(k * phase) / k for k in range(1, rng.integers(2, 7))]
    samples: F32 = (0.3 * np.sum(harmonics, axis=0)).astype(np.float32)
    return samples


def _chirps(n: int, sample_rate: int, rng: np.random.Generator) -> F32:
    low, high = 50 * (0.009 * sample_rate) ** rng.random(2)  # up to 0.45 of the rate
    phase = 2 * np.pi * np.cumsum(np.geomspace(low, high, n)) / sample_rate
    return (0.5 * np.sin(phase)).astype(np.float32)


def _silence(n: int, sample_rate: int, rng: np.random.Generator) -> F32:
    """Make silence with a step or two of dither, or none."""
    steps = np.float32(_STEP * rng.integers(0, 3))
    return steps * rng.choice(np.array([-1, 1], np.float32), n)


_SYNTHETIC: dict[str, _Make] = {
    "white": lambda n, sample_rate, rng: np.float32(0.2) * white(n, rng),
    "pink": lambda n, sample_rate, rng: np.float32(0.2) * pink(n, rng, sample_rate=sample_rate),
    "tones": _tones,
    "chirps": _chirps,
    "silence": _silence,
}


def kinds(sounds: Sounds) -> tuple[str, ...]:
    """Name the kinds that can be made of these recordings, and without."""
    recorded = [name for name in ("noise", "speech") if getattr(sounds, name) is not None]
    return (*recorded, *_SYNTHETIC)


def make(kind: str, n: int, sample_rate: int, rng: np.random.Generator, sounds: Sounds) -> F32:
    """Make n samples of one of `kinds`."""
    if kind in _SYNTHETIC:
        return _SYNTHETIC[kind](n, sample_rate, rng)
    recordings: Recordings = getattr(sounds, kind)
    _, recording = recordings.draw(rng)
    return stretch(n, [recording], rng)
