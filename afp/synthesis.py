"""Music out of nothing: songs that differ from one another and never quite repeat themselves."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from afp.fingerprint import F32

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))


_N_PARTIALS = 8
_CYCLE = 4096  # samples of one period, from which notes of all pitches are read
_HARMONICS = np.sin(
    2 * np.pi * np.outer(np.arange(1, _N_PARTIALS + 1), np.arange(_CYCLE) / _CYCLE)
).astype(np.float32)


def song(seed: int, *, seconds: float, sample_rate: int = 16_000) -> F32:
    """Compose and play a song: chords, a bass, a melody and drums.

    Parameters
    ----------
    seed : int
        Equal seeds give equal songs.
    seconds : float
        Its length.
    sample_rate : int
        In Hz.

    Returns
    -------
    ndarray of float32, shape (round(seconds · sample_rate),)
        Mono, with a peak of 0.8.
    """
    rng = np.random.default_rng(seed)
    n = round(seconds * sample_rate)
    mix = np.zeros(n + 4 * sample_rate, np.float32)
    beat = 60.0 / rng.uniform(76, 148)
    key = rng.uniform(200.0, 400.0)  # in no tuning in particular, as old records are
    scale = np.array(SCALES[rng.integers(len(SCALES))])
    drum = rng.uniform((40, 3, 15, 9), (70, 10, 40, 20))  # Hz, cycles of the sweep, 1/s, 1/s
    timbres = [
        (rng.uniform(0.2, 1.0, _N_PARTIALS) / np.arange(1, _N_PARTIALS + 1)).astype(np.float32)
        for _ in range(3)
    ]

    def pitch(degree: int, octave: int) -> float:
        octaves, step = divmod(degree, 7)
        return float(key * 2.0 ** (octave + octaves + scale[step] / 12))

    def play(sound: F32, at_seconds: float) -> None:
        start = max(round(at_seconds * sample_rate), 0)
        if start < n:
            mix[start : start + len(sound)] += sound

    def moments(shortest: float, longest: float) -> Iterator[float]:
        at = 0.0
        while at < seconds:
            yield at
            at += beat * rng.uniform(shortest, longest)

    # The voices keep no common time, so that two songs do not resemble each other in rhythm.
    for at in moments(1.5, 4.5):
        chord = int(rng.integers(7))
        for third in (0, 2, 4):
            play(
                _note(
                    pitch(chord + third, 0), rng.uniform(1, 4) * beat, timbres[0], sample_rate, 0.12
                ),
                at,
            )
        play(_note(pitch(chord, -2), rng.uniform(1, 2) * beat, timbres[2], sample_rate, 0.35), at)
    degree = 0
    for at in moments(0.2, 1.3):
        degree = int(np.clip(degree + rng.integers(-3, 4), -4, 10))
        play(
            _note(pitch(degree, 1), rng.uniform(0.3, 1.5) * beat, timbres[1], sample_rate, 0.25), at
        )
    for at in moments(0.9, 1.1):
        play(_kick(drum, sample_rate), at)
    for at in moments(0.4, 1.2):
        play(_noise_burst(rng, rng.uniform(0.02, 0.2), sample_rate, 0.2), at)
    mix = mix[:n]
    mix *= np.float32(0.8 / max(float(np.abs(mix).max(initial=0)), 1e-9))
    return mix


def _note(frequency_hz: float, seconds: float, partials: F32, sample_rate: int, gain: float) -> F32:
    t = np.arange(round(seconds * sample_rate), dtype=np.float32) / np.float32(sample_rate)
    harmonics = np.arange(1, len(partials) + 1)
    audible = harmonics * frequency_hz < 0.45 * sample_rate
    cycle = partials[audible] @ _HARMONICS[: np.count_nonzero(audible)]
    wave = cycle[(t * np.float32(frequency_hz * _CYCLE)).astype(np.int32) % _CYCLE]
    envelope = np.minimum(t / 0.008, 1) * np.exp(-2.5 / seconds * t)
    fade = np.minimum((seconds - t) / 0.02, 1)
    note: F32 = np.float32(gain) * wave * envelope * fade
    return note


def _kick(drum: npt.NDArray[np.float64], sample_rate: int) -> F32:
    frequency_hz, sweep, fall, decay = drum
    t = np.arange(round(0.25 * sample_rate)) / sample_rate
    phase = frequency_hz * t + sweep * (1 - np.exp(-fall * t))
    kick: F32 = (0.7 * np.sin(2 * np.pi * phase) * np.exp(-decay * t)).astype(np.float32)
    return kick


def _noise_burst(rng: np.random.Generator, seconds: float, sample_rate: int, gain: float) -> F32:
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.diff(rng.standard_normal(len(t) + 1))
    return (gain * noise * np.exp(-5 * t / seconds)).astype(np.float32)
