"""What happens to a clip between the loudspeaker and the query: the conditions of the benchmark.

Each takes an excerpt with its past (`corpus.Excerpt.samples`) and distorts all of it, so that
rooms, codecs and filters are under way when the clip begins; the past is cut off at the end.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from corpus import F32, PAST_SECONDS, RATE, files, is_silent, read
from scipy.signal import butter, fftconvolve, sosfilt

MP3_DELAY = 1105  # samples: encoder 576, decoder 529
MP3_BITS_PER_SECOND = 32_000
MP3_LARGEST, MP3_SMALLEST = 160_000, 8_000  # of MPEG-2, which 16 kHz falls under
PHONE_HZ = (300.0, 3400.0)
SEMITONE = 2.0 ** (1 / 12)


@dataclass(frozen=True, slots=True, eq=False)
class Sounds:
    """What distortions are made with.

    Attributes
    ----------
    noises, rooms : list of ndarray of float32
        Recordings of noise, and impulse responses.
    """

    noises: list[F32]
    rooms: list[F32]

    @classmethod
    def of(cls, audio: Path) -> "Sounds":
        """Read them all."""
        noises = [read(path) for path in files(audio, "noise")]
        return cls(noises, [read(path) for path in files(audio, "ir")])


Step = Callable[[F32, np.random.Generator, Sounds], F32]


@dataclass(frozen=True, slots=True)
class Condition:
    """Steps on a clip that is played at some speed.

    Attributes
    ----------
    steps : tuple of callable
        Taken in turn.
    speed : tuple of float
        Range that the speed is drawn from; 1.02 plays 2 % faster.
    """

    steps: tuple[Step, ...] = ()
    speed: tuple[float, float] = (1.0, 1.0)

    def apply(
        self, samples: F32, seconds: float, rng: np.random.Generator, sounds: Sounds
    ) -> tuple[F32, float]:
        """Return the clip, which is so many seconds long, and its speed."""
        slowest, fastest = self.speed
        speed = rng.uniform(slowest, fastest) if slowest < fastest else slowest
        if speed != 1.0:
            samples = soxr.resample(samples, speed * RATE, RATE, quality="VHQ")
        past, length = round(PAST_SECONDS * RATE / speed), round(seconds * RATE)
        samples = samples[: past + length]
        for step in self.steps:
            samples = step(samples, rng, sounds)
        return samples[past : past + length], speed


def add(noise: F32, samples: F32, snr_db: float) -> F32:
    """Mix noise in, at a ratio that holds over the clip without its past."""
    past = round(PAST_SECONDS * RATE)
    signal = np.mean(np.square(samples[past:], dtype=np.float64))
    power = np.mean(np.square(noise[past:], dtype=np.float64))
    gain = np.sqrt(signal / power * 10 ** (-snr_db / 10)) if power else 0.0
    return samples + np.float32(gain) * noise


def recorded_noise(n: int, rng: np.random.Generator, sounds: Sounds) -> F32:
    """Cut n samples out of a recording of noise, which is repeated when it is shorter."""
    while True:
        noise = sounds.noises[rng.integers(len(sounds.noises))]
        start = rng.integers(len(noise))
        piece = np.resize(np.roll(noise, -start), n) if len(noise) < n else _slice(noise, n, start)
        if not is_silent(piece[-min(n, RATE) :]):
            return piece


def _slice(samples: F32, n: int, start: int) -> F32:
    first = start % (len(samples) - n + 1)
    return samples[first : first + n]


def white_noise(n: int, rng: np.random.Generator) -> F32:
    """Make noise of equal power at every frequency."""
    return rng.standard_normal(n, np.float32)


def pink_noise(n: int, rng: np.random.Generator) -> F32:
    """Make noise of equal power in every octave."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, n).astype(np.float32)


def real(low_db: float, high_db: float | None = None) -> Step:
    """Add recorded noise at an SNR, or at one drawn from a range."""

    def step(samples: F32, rng: np.random.Generator, sounds: Sounds) -> F32:
        snr_db = low_db if high_db is None else rng.uniform(low_db, high_db)
        return add(recorded_noise(len(samples), rng, sounds), samples, snr_db)

    return step


def made(noise: Callable[[int, np.random.Generator], F32], snr_db: float) -> Step:
    """Add synthetic noise at an SNR."""
    return lambda samples, rng, sounds: add(noise(len(samples), rng), samples, snr_db)


def room(samples: F32, rng: np.random.Generator, sounds: Sounds) -> F32:
    """Play the clip in a room; the direct sound stays where it was."""
    response = sounds.rooms[rng.integers(len(sounds.rooms))]
    direct = int(np.argmax(np.abs(response)))
    return fftconvolve(samples, response)[direct : direct + len(samples)].astype(np.float32)


def mp3(samples: F32, rng: np.random.Generator, sounds: Sounds) -> F32:
    """Encode as MP3 at 32 kbit/s, and decode."""
    level = (MP3_LARGEST - MP3_BITS_PER_SECOND) / (MP3_LARGEST - MP3_SMALLEST)
    coded = io.BytesIO()
    with soundfile.SoundFile(
        coded,
        "w",
        RATE,
        1,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=level,
    ) as file:
        file.write(_limited(samples))
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32")
    delay = 0 if len(decoded) == len(samples) else MP3_DELAY  # no room for a tag that tells it
    return decoded[delay : delay + len(samples)]


def gsm(samples: F32, rng: np.random.Generator, sounds: Sounds) -> F32:
    """Encode as GSM 06.10 full rate (13 kbit/s at 8 kHz), and decode."""
    coded = io.BytesIO()
    narrow = _limited(soxr.resample(samples, RATE, RATE // 2))
    soundfile.write(coded, narrow, RATE // 2, format="WAV", subtype="GSM610")
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32")
    return soxr.resample(decoded[: len(narrow)], RATE // 2, RATE)[: len(samples)]


def band_pass(samples: F32, rng: np.random.Generator, sounds: Sounds) -> F32:
    """Keep what a telephone line lets through."""
    sections = butter(4, PHONE_HZ, "bandpass", fs=RATE, output="sos")
    return sosfilt(sections, samples).astype(np.float32)


def _limited(samples: F32) -> F32:
    """Turn a clip down that would overload."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(0.95 / peak) if peak > 0.95 else samples


def semitone_up(samples: F32, rng: np.random.Generator, sounds: Sounds) -> F32:
    """Raise the pitch by a semitone, at the same tempo: slow down, then play faster."""
    higher = soxr.resample(_slowed(samples, SEMITONE), SEMITONE * RATE, RATE)
    return np.pad(higher, (0, max(0, len(samples) - len(higher))))[: len(samples)]


def _slowed(samples: F32, factor: float) -> F32:
    """Make a clip longer at the same pitch: a phase vocoder with phases kept per bin."""
    n_fft, hop = 1024, 256
    window = np.hanning(n_fft + 1)[:-1]
    padded = np.pad(samples.astype(np.float64), (n_fft // 2, n_fft + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    spectra = np.fft.rfft(frames * window)
    places = np.arange(0, len(spectra) - 2, 1 / factor)
    before = places.astype(np.int64)
    share = (places - before)[:, None]
    magnitudes = (1 - share) * np.abs(spectra[before]) + share * np.abs(spectra[before + 1])
    advance = np.angle(spectra[before + 1] * spectra[before].conj())
    expected = 2 * np.pi * hop * np.arange(n_fft // 2 + 1) / n_fft
    advance = expected + (advance - expected + np.pi) % (2 * np.pi) - np.pi
    phases = np.angle(spectra[0]) + np.cumsum(advance, axis=0) - advance
    pieces = np.fft.irfft(magnitudes * np.exp(1j * phases)) * window
    out, weight = np.zeros((2, (len(pieces) - 1) * hop + n_fft))
    for i, piece in enumerate(pieces):
        out[i * hop : i * hop + n_fft] += piece
        weight[i * hop : i * hop + n_fft] += window**2
    length = round(len(samples) * factor)
    trimmed = slice(n_fft // 2, n_fft // 2 + length)
    return (out[trimmed] / np.maximum(weight[trimmed], 1e-3)).astype(np.float32)


def _at(percent: float) -> Condition:
    return Condition(speed=(1 + percent / 100, 1 + percent / 100))


CONDITIONS = {
    "clean": Condition(),
    "mp3": Condition((mp3,)),
    "real10": Condition((real(10.0),)),
    "real5": Condition((real(5.0),)),
    "real0": Condition((real(0.0),)),
    "real-5": Condition((real(-5.0),)),
    "white0": Condition((made(white_noise, 0.0),)),
    "pink0": Condition((made(pink_noise, 0.0),)),
    "room": Condition((room,)),
    "room+noise": Condition((room, real(0.0, 10.0))),
    "phone": Condition((room, real(0.0, 10.0), mp3, band_pass)),
    "gsm": Condition((gsm,)),
    "speed-4": _at(-4.0),
    "speed-2": _at(-2.0),
    "speed+2": _at(2.0),
    "speed+4": _at(4.0),
    "speed": Condition(speed=(0.96, 1.04)),
    "pitch+1": Condition((semitone_up,)),
}


def absent_sounds(
    speech: list[Path], sounds: Sounds, rng: np.random.Generator, share: float
) -> dict[str, list[F32]]:
    """Make clips of no music at all, of 3, 5 and 10 s.

    Parameters
    ----------
    speech : list of Path
        Recordings of speech, taken whole.
    share : float
        Of the full number of clips, which is 750 beside the speech.
    """

    def clips(n: int, make: Callable[[int], F32]) -> list[F32]:
        lengths = RATE * np.resize([3, 5, 10], max(3, round(n * share)))
        return [_limited(make(int(length))) for length in lengths]

    def tone(n: int) -> F32:
        frequency, n_harmonics = np.exp(rng.uniform(*np.log((60, 3500)))), rng.integers(1, 6)
        phase = 2 * np.pi * frequency * np.arange(n) / RATE
        harmonics = [np.sin(k * phase) / k for k in range(1, n_harmonics + 1)]
        return (0.3 * np.sum(harmonics, axis=0)).astype(np.float32)

    def chirp(n: int) -> F32:
        low, high = np.exp(rng.uniform(*np.log((50, 7000)), size=2))
        phase = 2 * np.pi * np.cumsum(np.geomspace(low, high, n)) / RATE
        return (0.5 * np.sin(phase)).astype(np.float32)

    def silence(n: int) -> F32:
        return np.full(n, rng.integers(0, 3) / 32768, np.float32) * rng.choice([-1, 1], n)

    n_speech = min(len(speech), max(1, round(share * len(speech))))
    return {
        "noise": clips(450, lambda n: recorded_noise(n, rng, sounds)),
        "speech": [read(speech[i]) for i in rng.permutation(len(speech))[:n_speech]],
        "white": clips(60, lambda n: 0.2 * white_noise(n, rng)),
        "pink": clips(60, lambda n: pink_noise(n, rng)),
        "silence": clips(30, silence),
        "tones": clips(75, tone),
        "chirps": clips(75, chirp),
    }
