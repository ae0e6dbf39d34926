"""Recordings of noise, rooms and speech that distortions are made with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from afp.audio import Resampler, decode, walk
from afp.errors import InputError, UsageError
from afp.fingerprint import F32

SILENT = 1.5 / 32768  # peak at which nothing, or one step, is left in a 16-bit file


@dataclass(frozen=True, slots=True)
class Recordings:
    """The recordings of a folder, decoded once into one file that processes share.

    Attributes
    ----------
    path : Path
        Float32 samples, mono, one recording after the other.
    names : tuple of str
        File names of the recordings.
    bounds : tuple of int
        Where each begins in the file, and the end of the last, in samples.
    """

    path: Path
    names: tuple[str, ...]
    bounds: tuple[int, ...]

    @classmethod
    def decoded(
        cls,
        folder: Path,
        into: Path,
        *,
        sample_rate: int,
        observer: Callable[[int, int], None] = lambda done, total: None,
    ) -> "Recordings":
        """Decode every audio file of a folder, and of those in it.

        Files that cannot be decoded, and silent ones, are left out.

        Parameters
        ----------
        folder : Path
            Or a single audio file.
        into : Path
            The file to write.
        sample_rate : int
            In Hz.
        observer : callable
            Told before each file how many of how many are done.

        Raises
        ------
        InputError
            When that leaves nothing.
        UsageError
            When ``into`` cannot be written.
        """
        files = [Path(file.path) for file in walk([folder])]
        names, bounds = [], [0]
        try:
            with into.open("wb") as file:
                for done, path in enumerate(files):
                    observer(done, len(files))
                    try:
                        samples = read(path, sample_rate=sample_rate)
                    except InputError:
                        continue
                    if not is_silent(samples):
                        file.write(samples.tobytes())
                        names.append(path.name)
                        bounds.append(bounds[-1] + len(samples))
        except OSError as error:
            raise UsageError(
                f"{into}: cannot be written: {error.strerror or error}", hint="make room there"
            ) from error
        if not names:
            raise InputError(
                f"{folder}: no audio in it that can be used",
                hint="name a folder with recordings, such as WAV files",
            )
        return cls(into, tuple(names), tuple(bounds))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> F32:
        state = self.path.stat()
        samples = _mapped(self.path, (state.st_ino, state.st_mtime_ns))
        return samples[self.bounds[i] : self.bounds[i + 1]]

    def draw(self, rng: np.random.Generator) -> tuple[str, F32]:
        """Choose one by chance; return its name and its samples."""
        i = int(rng.integers(len(self)))
        return self.names[i], self[i]


@dataclass(frozen=True, slots=True)
class Sounds:
    """What there is to distort with.

    Attributes
    ----------
    noise, rooms, speech : Recordings or None
        Noise, impulse responses of rooms, and speech.
    """

    noise: Recordings | None = None
    rooms: Recordings | None = None
    speech: Recordings | None = None


def read(path: Path, *, sample_rate: int) -> F32:
    """Decode a file whole: mono, at a sample rate in Hz.

    Raises
    ------
    InputError
        See `afp.audio.decode`.
    """
    with decode(path) as decoder:
        resampler = Resampler(decoder.sample_rate, sample_rate)
        blocks = [resampler.process(block) for block in decoder]
    blocks.append(resampler.process(np.empty(0, np.float32), last=True))
    return np.concatenate(blocks)


def is_silent(samples: F32) -> bool:
    """Tell digital silence: nothing is left of it, or one step, in a 16-bit file."""
    return not len(samples) or float(np.abs(samples).max()) < SILENT


@lru_cache(maxsize=16)
def _mapped(path: Path, state: tuple[int, int]) -> F32:
    """Map a file that is in some state: another file may have taken its place."""
    return np.memmap(path, np.float32, mode="r")
