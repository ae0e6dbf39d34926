"""The audio that the benchmarks draw their queries from.

A folder with ``music/dev``, ``noise/dev``, ``ir/dev`` and ``speech/dev``, each with audio files.
Everything is float32, mono, at `RATE`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

F32 = npt.NDArray[np.float32]

RATE = 16_000
PAST_SECONDS = 2.0  # of music before an excerpt: what a room still answers to when it begins
FASTEST = 1.05  # an excerpt holds enough music to be played so much faster
KEPT_OUT = 0.1  # share of the tracks that are not indexed
DEFAULT_AUDIO = Path(__file__).parents[2] / "shared" / "audio"


@dataclass(frozen=True, slots=True, eq=False)
class Excerpt:
    """A stretch of a track with what comes before it.

    Attributes
    ----------
    path : Path
        The track.
    start : float
        Where the excerpt starts in the track, in seconds.
    samples : ndarray of float32
        `PAST_SECONDS` of context, zeros before the start of the track; then the excerpt, longer
        by `FASTEST` than asked for.
    level_db : float
        Root mean square of the excerpt, in dB relative to full scale.
    """

    path: Path
    start: float
    samples: F32
    level_db: float


def files(audio: Path, kind: str) -> list[Path]:
    """List the files of one kind (``music``, ``noise``, ``ir``, ``speech``), sorted."""
    found = sorted(path for path in (audio / kind / "dev").glob("*") if path.is_file())
    if not found:
        raise SystemExit(f"{audio / kind / 'dev'}: no audio; name the folder with --audio")
    return [path.absolute() for path in found]


def read(path: Path) -> F32:
    """Decode a file: the mean of its channels, resampled to `RATE`."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE)


def split(audio: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """Return the tracks to index and those to keep out, chosen by chance."""
    tracks = files(audio, "music")
    order = np.random.default_rng(seed).permutation(len(tracks))
    n_out = max(1, round(KEPT_OUT * len(tracks)))
    return sorted(tracks[i] for i in order[n_out:]), sorted(tracks[i] for i in order[:n_out])


def is_silent(samples: F32) -> bool:
    """Tell digital silence: nothing is left of it, or one step, in a 16-bit file."""
    return not len(samples) or float(np.abs(samples).max()) < 1.5 / 32768


def draw(
    tracks: list[Path], n: int, seconds: float, rng: np.random.Generator
) -> tuple[list[Excerpt], int]:
    """Draw excerpts: a track by chance, then a start in it by chance.

    Digital silence is drawn again, and so is a track that is shorter than the excerpt.

    Returns
    -------
    excerpts : list of Excerpt
        In the order they were drawn.
    n_silent : int
        How many draws were digital silence.
    """
    needed = round(FASTEST * seconds * RATE)
    past = round(PAST_SECONDS * RATE)
    excerpts: dict[int, Excerpt] = {}
    n_silent = 0
    missing = list(range(n))
    for _ in range(100):
        drawn: dict[Path, list[tuple[int, float]]] = {}
        for i in missing:
            drawn.setdefault(tracks[rng.integers(len(tracks))], []).append((i, rng.random()))
        for path, places in drawn.items():  # each track is decoded once
            track = np.concatenate([np.zeros(past, np.float32), read(path)])
            room = len(track) - past - needed
            for i, where in places:
                start = int(where * room)
                samples = track[start : start + past + needed].copy()
                excerpt = samples[past : past + round(seconds * RATE)]
                if room > 0 and not is_silent(excerpt):
                    level = 10 * np.log10(np.mean(np.square(excerpt, dtype=np.float64)))
                    excerpts[i] = Excerpt(path, start / RATE, samples, round(float(level), 1))
                elif room > 0:
                    n_silent += 1
        missing = [i for i in range(n) if i not in excerpts]
        if not missing:
            return [excerpts[i] for i in range(n)], n_silent
    raise SystemExit(f"{len(tracks)} tracks: hardly any holds {seconds:g} s of sound")
