"""Embeddings of a second of sound each, by a small net; matched along whole alignments.

S. Chang et al., "Neural Audio Fingerprint for High-specific Audio Retrieval based on Contrastive
Learning", ICASSP 2021. Beyond the paper: a query is embedded four times as densely as a
reference, and laid onto everything that is stored at every offset, so that no candidate is missed;
how improbable the best score is follows from the scores of the same query on all other tracks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from afp.backends.protocol import Parameter, Place, nowhere
from afp.errors import StoreError, UsageError
from afp.features import log_mel
from afp.features.embedding import Embedder
from afp.fingerprint import F32, F64, Fingerprint, Match
from afp.index import IndexReader
from afp.matching.inner_product import MOST_STEPS, Alignments, align, score_at, similarities
from afp.matching.significance import NullModel

HOP_FRAMES = 16  # log-mel frames from one stored segment to the next
FINENESS = 4  # segments of a query in a hop
HOP_LENGTH = HOP_FRAMES * log_mel.HOP_LENGTH
SEGMENT_SECONDS = log_mel.SEGMENT_SAMPLES / log_mel.SAMPLE_RATE
SIDE = 0.8  # weight of a query's segments that miss a stored one by a step

INSIDE = 0.5  # of the typical similarity: what a segment in the matching stretch has
SNAP_SECONDS = 0.75

# What a score is held against, whichever is most: the fifth best track, as four others may hold the
# same music; so many standard deviations above the mean of all alignments; nearly what tones and
# glides alone would score, as they are like any other tone. The deviation starts from a usual one,
# as if so many alignments had it.
RIVAL = 5
LEAST_DEVIATIONS = 3.0
PLAIN_ALLOWANCE = 0.1
USUAL_DEVIATION, USUAL_COUNT = 0.1, 200

# Fitted on 3,951 clips of 1 to 10 s, clean, noisy and in rooms, whose own tracks were left out of a
# store of 333 tracks. Beyond these, the rival rises with the best as the store grows; a smaller
# store counts as that many fewer chances for a rival.
NULL = NullModel(score=0.54, decay=4.54, hours=math.inf)
FITTED_TRACKS = 333

# Of one place that another backend has named; fitted by benchmarks/null_fusion.py.
PLACE_NULL = NullModel(score=-2.30, decay=2.14, hours=math.inf)


class Backend:
    """Embeddings of a small net; for short clips through noise and rooms, smallest on disk.

    Parameters
    ----------
    model : str
        Path of a model that ``afp train`` has written; empty for the one that is shipped.
    weights : str
        Digest of the model, where it has to be a certain one.
    """

    name = "neural"
    version = 1
    sample_rate = log_mel.SAMPLE_RATE
    hop_seconds = HOP_LENGTH / log_mel.SAMPLE_RATE
    context_seconds = 1.0
    window_seconds = 12.0

    def __init__(self, *, model: str = "", weights: str = "") -> None:
        content, shown = _read(model)
        self.model = model
        self.weights = blake2b(content, digest_size=8).hexdigest()
        if weights not in ("", self.weights):
            raise StoreError(
                f"backend 'neural': the weights {weights} are wanted, but {shown} has "
                f"{self.weights}",
                hint="put the model with those weights back there, or index the music again into "
                "a new store (-d)",
            )
        self._embed = Embedder(content, shown)
        self._plain = self._embed.plain()
        self._last: tuple[Fingerprint, IndexReader, F32, Alignments] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.parameters(),)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters that an index is bound to."""
        return {"model": self.model, "weights": self.weights}

    def extract(self, samples: F32, *, dense: bool = False) -> Fingerprint:
        """Fingerprint mono samples (n,) at 8 kHz; see `afp.backends.Backend`."""
        n_frames = -(-len(samples) // HOP_LENGTH)
        step = FINENESS if dense else 1
        powers = log_mel.mel_powers(samples)
        places, vectors = self._embed(powers, hop_frames=HOP_FRAMES // step)
        frames = (places // step).astype(np.uint32)
        if not dense:
            return Fingerprint(n_frames, frames, vectors=vectors)
        seconds = np.array(len(samples) / self.sample_rate)
        query = {"steps": places, "seconds": seconds}
        return Fingerprint(n_frames, frames, vectors=vectors, dense=query)

    def match(self, query: Fingerprint, index: IndexReader, *, limit: int) -> list[Match]:
        """Look a dense fingerprint up; see `afp.backends.Backend`."""
        if not len(query) or not index.n_tracks:
            return []
        vectors, found = self._laid(query, index)
        null = self._null(query, found)
        order = np.argsort(-found.scores, kind="stable")[:limit]
        seconds = float(query.dense["seconds"])
        return [
            self._match(
                _Alignment(
                    int(found.track_ids[i]),
                    int(found.offsets[i]),
                    float(found.scores[i]),
                    null.p_false(float(found.scores[i]), NULL),
                ),
                vectors,
                seconds,
                index,
            )
            for i in order
        ]

    def verify(
        self, query: Fingerprint, index: IndexReader, places: Sequence[Place]
    ) -> list[Match]:
        """Judge places that others have named; see `afp.backends.Verifier`.

        The score there is held against what that of `match` is held against.
        """
        if not len(query):
            return [nowhere(place, index, 0.0, self.name) for place in places]
        vectors, found = self._laid(query, index)
        null = self._null(query, found)
        step_seconds = self.hop_seconds / FINENESS
        seconds = float(query.dense["seconds"])
        matches = []
        for place in places:
            stored = index.embeddings(place.track_id)
            centre = round(place.offset_seconds / step_seconds)
            score, offset = max(
                (
                    score_at(vectors, stored, at, speed=place.speed, fineness=FINENESS, side=SIDE),
                    at,
                )
                for at in (centre - 1, centre, centre + 1)
            )
            p_false = null.p_false(score, PLACE_NULL)
            alignment = _Alignment(place.track_id, offset, score, p_false)
            matches.append(
                self._match(alignment, vectors, seconds, index)
                if score > 0
                else nowhere(place, index, score, self.name)
            )
        return matches

    def _laid(self, query: Fingerprint, index: IndexReader) -> tuple[F32, Alignments]:
        """Lay a query onto everything; the last is kept, as `verify` mostly follows `match`."""
        if self._last is None or self._last[0] is not query or self._last[1] is not index:
            assert query.vectors is not None
            steps = query.dense["steps"].astype(np.int64)
            vectors = np.zeros((int(steps[-1]) + 1, query.vectors.shape[1]), np.float32)
            vectors[steps] = query.vectors
            vectors = vectors[:MOST_STEPS]
            found = align(vectors, index.embedding_blocks(), fineness=FINENESS, side=SIDE)
            self._last = query, index, vectors, found
        return self._last[2:]

    def _null(self, query: Fingerprint, found: Alignments) -> "_Null":
        assert query.vectors is not None
        return _Null.of(found, self._plainness(query.vectors))

    def _plainness(self, vectors: F32) -> float:
        """Return how like a query is to tones and glides, each of its segments to another."""
        return float((vectors @ self._plain.T).max(axis=1).mean())

    def _match(
        self, alignment: "_Alignment", vectors: F32, seconds: float, index: IndexReader
    ) -> Match:
        track = index.track(alignment.track_id)
        stored = index.embeddings(alignment.track_id)
        near = [
            similarities(vectors, stored, alignment.offset + shift, fineness=FINENESS)
            for shift in (-1, 0, 1)
        ]
        step = self.hop_seconds / FINENESS
        offset = step * (alignment.offset + _vertex(*(each.sum() for each in near)))
        first, last = _stretch(near[1])
        lowest, highest = max(0.0, -offset), min(seconds, track.duration_seconds - offset)
        start, end = first * step, (last - 1) * step + SEGMENT_SECONDS
        # A stretch that ends next to where the query or the track does ends there.
        start = lowest if start < lowest + SNAP_SECONDS else start
        end = highest if end > highest - SNAP_SECONDS else end
        end = max(start, end)
        return Match(
            track=track,
            query_start=start,
            query_end=end,
            track_start=offset + start,
            track_end=offset + end,
            score=alignment.score,
            p_false=alignment.p_false,
            backend=self.name,
        )


@dataclass(frozen=True, slots=True)
class _Alignment:
    """The best place of the query in a track."""

    track_id: int
    offset: int  # track time minus query time, in steps of the query
    score: float
    p_false: float


@dataclass(frozen=True, slots=True)
class _Null:
    """What the scores of one query are held against."""

    level: float
    deviation: float
    n_trials: float

    @classmethod
    def of(cls, found: Alignments, plainness: float) -> "_Null":
        usual = USUAL_COUNT * USUAL_DEVIATION**2
        deviation = math.sqrt((found.n * found.variance + usual) / (found.n + USUAL_COUNT))
        level = max(found.mean + LEAST_DEVIATIONS * deviation, plainness - PLAIN_ALLOWANCE)
        if len(found.scores) >= RIVAL:
            level = max(level, float(np.partition(found.scores, -RIVAL)[-RIVAL]))
        return cls(level, deviation, max(FITTED_TRACKS / max(len(found.scores), 1), 1.0))

    def p_false(self, score: float, model: NullModel) -> float:
        excess = (score - self.level) / self.deviation
        return model.p_false(excess, store_hours=0.0, n_trials=self.n_trials)


def _restored(parameters: dict[str, str]) -> Backend:
    return Backend(**parameters)


def _read(model: str) -> tuple[bytes, str]:
    """Return the bytes of a model file, and its name."""
    path = Path(model) if model else files("afp") / "models" / "neural.onnx"
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise UsageError(
            f"backend 'neural': the model {path} cannot be read: {error.strerror}",
            hint="name a model.onnx that `afp train` has written" if model else "reinstall afp",
        ) from None


def _vertex(before: float, here: float, after: float) -> float:
    """Return where the parabola through three equidistant values has its peak."""
    bend = min(before - 2 * here + after, -1e-9)
    return min(max(0.5 * (before - after) / bend, -0.5), 0.5)


def _stretch(alike: F64) -> tuple[int, int]:
    """Return the steps ``first <= i < last`` whose excess of similarity is largest in all."""
    level = INSIDE * float(np.sort(alike)[-max(1, len(alike) // 2) :].mean())
    sums = np.concatenate([[0.0], np.cumsum(alike - level)])
    gains = sums - np.minimum.accumulate(sums)
    last = int(np.argmax(gains))
    first = int(np.argmin(sums[: last + 1]))
    return first, max(last, first + 1)
