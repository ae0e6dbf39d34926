"""Recordings as memory-mapped 16-bit samples that many processes read at random places."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from afp.audio import AudioFile
from afp.distort.recordings import is_silent, read
from afp.errors import InputError
from afp.features.log_mel import SAMPLE_RATE
from afp.fingerprint import F32, I16

FULL_SCALE = 32767


@dataclass(frozen=True, slots=True)
class Pcm:
    """Recordings at `afp.features.log_mel.SAMPLE_RATE`, one behind the other in one file.

    Attributes
    ----------
    path : Path
        Int16 samples, mono; each recording is scaled to full scale.
    names : tuple of str
        Paths that the recordings were decoded from.
    bounds : tuple of int
        Where each begins in the file, and the end of the last, in samples.
    """

    path: Path
    names: tuple[str, ...]
    bounds: tuple[int, ...]

    @classmethod
    def decoded(
        cls,
        files: Sequence[AudioFile],
        into: Path,
        *,
        shortest_seconds: float = 0.0,
        progress: Callable[[int], None] | None = None,
    ) -> "Pcm":
        """Decode audio files, or take what an earlier call made of the same files.

        Files that cannot be decoded, silent ones and short ones are left out.

        Parameters
        ----------
        files : sequence of AudioFile
        into : Path
            The file to write; beside it one that tells what it holds.
        shortest_seconds : float
            Recordings that are shorter are left out.
        progress : callable, optional
            Called with the number of files done.

        Raises
        ------
        InputError
            When that leaves nothing.
        """
        about = into.with_suffix(".json")
        source = [[file.path, file.size, file.mtime_ns, shortest_seconds] for file in files]
        if about.exists():
            known = json.loads(about.read_text())
            if known["source"] == source and into.exists():
                return cls(into, tuple(known["names"]), tuple(known["bounds"]))
            about.unlink()
        names, bounds = [], [0]
        with into.open("wb") as out:
            for n_done, file in enumerate(files, 1):
                try:
                    samples = read(Path(file.path), sample_rate=SAMPLE_RATE)
                except InputError:
                    samples = np.empty(0, np.float32)
                if len(samples) >= shortest_seconds * SAMPLE_RATE and not is_silent(samples):
                    _quantised(samples).tofile(out)
                    names.append(file.path)
                    bounds.append(bounds[-1] + len(samples))
                if progress is not None:
                    progress(n_done)
        if not names:
            folder = Path(files[0].path).parent if files else "the folders named"
            raise InputError(
                f"{folder}: no audio in it that can be used", hint="name a folder with recordings"
            )
        about.write_text(json.dumps({"source": source, "names": names, "bounds": bounds}))
        return cls(into, tuple(names), tuple(bounds))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> I16:
        samples: I16 = _mapped(self.path)[self.bounds[i] : self.bounds[i + 1]]
        return samples

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples of each recording."""
        return np.diff(self.bounds)

    def cut(self, i: int, start: int, out: F32) -> None:
        """Copy a piece of a recording, zeros before its beginning and after its end.

        Parameters
        ----------
        i : int
            Which recording.
        start : int
            First sample, perhaps outside the recording.
        out : ndarray of float32, shape (n,)
            Where the piece goes; full scale is 1.
        """
        first, last = self.bounds[i] + start, self.bounds[i] + start + len(out)
        low, high = max(first, self.bounds[i]), min(last, self.bounds[i + 1])
        out[:] = 0
        if low < high:
            piece = _mapped(self.path)[low:high]
            np.multiply(piece, np.float32(1 / FULL_SCALE), out=out[low - first : high - first])


def _quantised(samples: F32) -> I16:
    scale = FULL_SCALE / float(np.abs(samples).max())
    quantised: I16 = np.rint(samples * np.float32(scale)).astype(np.int16)
    return quantised


@lru_cache(maxsize=16)
def _mapped(path: Path) -> I16:
    return np.memmap(path, np.int16, mode="r")
