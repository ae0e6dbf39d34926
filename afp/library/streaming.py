"""Samples in, fingerprints out, in memory that does not grow with the length of the audio."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from afp.audio import Resampler
from afp.backends import Backend
from afp.fingerprint import F32, Fingerprint, concatenate

CHUNK_SECONDS = 240.0
WHOLE_SECONDS = 300.0


class Extraction:
    """Fingerprint one stream of audio with several backends at once.

    Parameters
    ----------
    backends : iterable of Backend
        Backends that want the same sample rate share one resampler.
    sample_rate : int
        Of the blocks to come, in Hz.
    """

    def __init__(self, backends: Iterable[Backend], sample_rate: int) -> None:
        self._chunked = [ChunkedExtraction(backend) for backend in backends]
        self._resamplers = {
            rate: Resampler(sample_rate, rate)
            for rate in {chunked.backend.sample_rate for chunked in self._chunked}
        }

    def feed(self, block: F32, *, last: bool = False) -> None:
        """Take the next mono samples (n,); ``last`` ends the stream."""
        resampled = {
            rate: resampler.process(block, last=last)
            for rate, resampler in self._resamplers.items()
        }
        for chunked in self._chunked:
            chunked.feed(resampled[chunked.backend.sample_rate])

    def finish(self) -> dict[str, Fingerprint]:
        """End the stream and return the fingerprint of each backend, by name."""
        self.feed(np.empty(0, np.float32), last=True)
        return {chunked.backend.name: chunked.finish() for chunked in self._chunked}


class ChunkedExtraction:
    """Fingerprint a stream as if it came in one piece.

    Up to `WHOLE_SECONDS` are extracted in one go. A longer stream is cut into chunks of
    `CHUNK_SECONDS` that start on a whole hop; each is extracted with the backend's context on
    either side, which is then cut away.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._chunk_frames = int(CHUNK_SECONDS / backend.hop_seconds)
        self._context_frames = math.ceil(backend.context_seconds / backend.hop_seconds)
        whole_frames = int(WHOLE_SECONDS / backend.hop_seconds)
        self._enough = self._samples(whole_frames + 2 * self._context_frames)
        self._pending: list[F32] = []
        self._n_pending = 0
        self._context_before = 0
        self._parts: list[Fingerprint] = []

    def _samples(self, n_frames: int) -> int:
        return round(n_frames * self.backend.hop_seconds * self.backend.sample_rate)

    def feed(self, samples: F32) -> None:
        """Take the next samples (n,) at the backend's rate."""
        self._pending.append(samples)
        self._n_pending += len(samples)
        while self._n_pending > self._enough:
            self._extract_chunk()

    def _extract_chunk(self) -> None:
        samples = np.concatenate(self._pending)
        start = self._context_before
        stop = start + self._chunk_frames
        piece = samples[: self._samples(stop + self._context_frames)]
        part = self.backend.extract(piece).cut(start, stop)
        self._parts.append(replace(part, n_frames=self._chunk_frames))
        self._context_before = min(self._context_frames, stop)
        rest = samples[self._samples(stop - self._context_before) :].copy()
        self._pending, self._n_pending = [rest], len(rest)

    def finish(self) -> Fingerprint:
        """Return the fingerprint of everything that was fed."""
        samples = np.concatenate(self._pending) if self._pending else np.empty(0, np.float32)
        last = self.backend.extract(samples)
        if not self._parts:
            return last
        self._parts.append(last.cut(self._context_before, max(last.n_frames, self._context_before)))
        return concatenate(self._parts)


def windows(blocks: Iterable[F32], *, window: int, step: int) -> Iterator[tuple[int, F32]]:
    """Cut a stream of samples into overlapping windows.

    Parameters
    ----------
    blocks : iterable of ndarray of float32
        Consecutive mono samples.
    window, step : int
        Length of a window and distance between the starts of two, in samples.

    Yields
    ------
    start : int
        Where the window starts, in samples.
    samples : ndarray of float32, shape (<= window,)
        A stream no longer than ``window`` gives one; of a longer one the last window ends with
        the stream and overlaps the one before by more.
    """
    held = np.empty(0, np.float32)
    held_from = due = 0
    for block in blocks:
        held = np.concatenate([held, block])
        end = held_from + len(held)
        while end > due + window:
            yield due, held[due - held_from :][:window]
            due += step
        drop = max(end - window - held_from, 0)
        held, held_from = held[drop:], held_from + drop
    if len(held):
        yield held_from, held
