"""Embeddings of music, and of distorted clips of it as queries: what search is measured on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from clips import clips, excerpts_of, sounds_of
from corpus import Corpus

from afp.backends import neural
from afp.bench.grid import RATE, Grid
from afp.distort import parse
from afp.fingerprint import F32, Fingerprint


class Query(NamedTuple):
    """A clip: its fingerprint, what is laid onto tracks a step, and the place that it is from."""

    fingerprint: Fingerprint
    vectors: F32
    track: int
    start_seconds: float


def embedded(tracks: Iterable[F32], backend: neural.Backend) -> list[F32]:
    """Embed the samples of tracks: one vector a frame, zeros where it is silent."""
    found = []
    for samples in tracks:
        print_ = backend.extract(samples)
        if len(print_):
            assert print_.vectors is not None
            vectors = np.zeros((int(print_.frames[-1]) + 1, print_.vectors.shape[1]), np.float32)
            vectors[print_.frames] = print_.vectors
        else:
            vectors = np.zeros((1, backend.dimensions), np.float32)
        found.append(vectors)
    return found


def shortened(vectors: F32, dimensions: int) -> F32:
    """Keep the leading dimensions of vectors (n, d), of length 1 again."""
    short = vectors[:, :dimensions]
    unit: F32 = short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-9)
    return unit


def queries_of(
    paths: Sequence[Path],
    found: Corpus,
    backend: neural.Backend,
    folder: Path,
    *,
    conditions: Sequence[str],
    seconds: float,
    queries: int,
    seed: int,
) -> list[Query]:
    """Make distorted clips, so many of each condition, and embed them densely."""
    distortions = tuple(each for text in conditions for each in parse(text))
    grid = Grid(tuple(paths), distortions, (seconds,), queries=queries, seed=seed)
    sounds = sounds_of(Corpus(found.music, noise=found.noise, rooms=found.rooms), folder)
    shelf, excerpts = excerpts_of(grid, folder)
    track_of = {str(path): track for track, path in enumerate(paths)}
    made = []
    for cell in grid.cells:
        for excerpt, clip in zip(excerpts, clips(grid, cell, sounds, shelf), strict=True):
            samples = soxr.resample(clip, RATE, backend.sample_rate)
            fingerprint = backend.extract(np.ascontiguousarray(samples, np.float32), dense=True)
            assert fingerprint.vectors is not None
            steps = fingerprint.dense["steps"]
            vectors = np.zeros((int(steps[-1]) + 1, backend.dimensions), np.float32)
            vectors[steps] = neural.less_common(fingerprint.vectors)
            track = track_of[excerpt.source.path]
            made.append(Query(fingerprint, vectors, track, excerpt.start_seconds))
    return made
