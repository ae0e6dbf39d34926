"""Embeddings of a second of sound each, by a small net; matched along whole alignments.

S. Chang et al., "Neural Audio Fingerprint for High-specific Audio Retrieval based on Contrastive
Learning", ICASSP 2021. Beyond the paper: a query is embedded four times as densely as a
reference, and laid onto everything that is stored at every offset, so that no candidate is missed;
how improbable the best score is follows from the scores of the same query on all other tracks. In
large stores only stretches that are like the query, and some others at random, take part in that.
"""

import math
import weakref
from collections.abc import Mapping, Sequence
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
from afp.fingerprint import F32, F64, I64, Fingerprint, Match
from afp.index import IndexReader
from afp.matching import cells
from afp.matching.inner_product import MOST_STEPS, Alignments, align, score_at, similarities
from afp.matching.significance import NullModel
from afp.matching.voting import rarest

HOP_FRAMES = 16  # log-mel frames from one stored segment to the next
FINENESS = 4  # segments of a query in a hop
OVERHANG_STEPS = 1  # that the first segment of a query begins before it
HOP_LENGTH = HOP_FRAMES * log_mel.HOP_LENGTH
SEGMENT_SECONDS = log_mel.SEGMENT_SAMPLES / log_mel.SAMPLE_RATE
SIDE = 0.8  # weight of a query's segments that miss a stored one by a step

# Of what all segments of a query have in common, so much is taken away before they are laid onto
# tracks: it is the room, the noise and the device as much as it is the music.
COMMON = 0.5

LEAST_DIMENSIONS = 16
SHIPPED = Path(str(files("afp") / "models" / "neural.onnx"))

# Beyond so many stored embeddings (139 hours) only a part of them is looked at.
MOST_EXACT = 1_000_000
# One in so many segments of a query is looked up: they are as good together as all of them, and
# more cells for each find more.
LOOKUP_STEP = 3
PROBES, LEAST_PROBES = 192, 4  # cells for all that are looked up, and for each at least
MAX_HITS = 2_000_000
CANDIDATES = 300  # the rivals too must be found among them
OFFSET_WIDTH = 2  # steps
CHANCE_TRACKS, CHANCE_FRAMES = 200, 40  # what tells how alike the query is to anything

INSIDE = 0.5  # of the typical similarity: what a segment in the matching stretch has
SNAP_SECONDS = 0.75

# What a score is held against, whichever is most: the rival, that is the best track of other music;
# what the fifth best track is in a large store, from the deviation of the scores and the length of
# the query; what is scored by tones and glides alone, as they are like any other tone: a power of
# the likeness to them that is near 1 for nothing else. The excess counts in units of the geometric
# mean of that and the deviation: the higher the rivals, the wider they scatter.
# Up to eight tracks may hold the same music, or be heard at once: all down to the last that exceeds
# the next by so much are no rivals. So are outliers counted from the least of them on, lest one
# masks another (B. Rosner, "Percentage points for a generalized ESD many-outlier procedure",
# Technometrics 1983). At 4 to 6 the same clips are named; at less, rivals are taken for outliers.
MOST_PRESENT, LEAST_EXCESS = 8, 5.0
RIVAL = 5  # of a place that another backend has named, without a look at its rivals
RIVAL_DEVIATIONS, RIVAL_DECAY = 23.2, 0.214  # for one embedding, and with their number
PLAIN_POWER = 5

# The deviation is that of a track which is more like the query than most others, without the best
# ones, which may hold it; and as if some tracks more had the usual one.
DEVIATION_QUANTILE = 0.95
USUAL_DEVIATION, USUAL_TRACKS = 0.0016, 3

# Fitted on 4,900 clips of 1 to 10 s, clean, noisy and in rooms, of 35 tracks that the net had not
# been trained on, each left out of a store of 315, and held against stores of 1 to 100 of them; a
# little stricter than that. benchmarks/null_neural.py does it anew.
# The rival rises with the best as the store grows.
NULL = NullModel(score=-1.0, decay=0.58, hours=math.inf)

# Of one place that another backend has named; benchmarks/null_fusion.py fits it, and this is on the
# strict side of that.
PLACE_NULL = NullModel(score=-4.3, decay=0.9, hours=math.inf)


class Backend:
    """Embeddings of a small net; for short clips through noise and rooms, smallest on disk.

    Parameters
    ----------
    model : str
        Path of a model that ``afp train`` has written; empty for the one that is shipped.
    weights : str
        Digest of the model, where it has to be a certain one.
    dimensions : int
        Of an embedding: so many leading ones are kept, 0 for all that the model gives. The shipped
        model was trained to be cut to 64, which halves what is stored.
    """

    name = "neural"
    version = 1
    sample_rate = log_mel.SAMPLE_RATE
    hop_seconds = HOP_LENGTH / log_mel.SAMPLE_RATE
    context_seconds = 1.0
    window_seconds = 12.0

    def __init__(self, *, model: str = "", weights: str = "", dimensions: int = 0) -> None:
        content, shown = _read(model, weights)
        self.model = str(Path(model).absolute()) if model else ""
        self.weights = blake2b(content, digest_size=8).hexdigest()
        if weights not in ("", self.weights):
            raise StoreError(
                f"backend 'neural': the weights {weights} are wanted, but {shown} has "
                f"{self.weights}",
                hint="put the model with those weights there, or index the music again into a new "
                "store (-d)",
            )
        self._embed = Embedder(content, shown)
        most = self._embed.dimensions
        if dimensions and not LEAST_DIMENSIONS <= dimensions <= most:
            raise ValueError(f"dimensions must be {LEAST_DIMENSIONS} to {most}, not {dimensions}")
        self.dimensions = dimensions or most
        self._plain = self._cut(self._embed.plain())
        self._centres = self._cut(self._embed.centres())
        self._last: tuple[Fingerprint, weakref.ref[IndexReader], F32, Alignments] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.parameters(),)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters that an index is bound to."""
        return {"model": self.model, "weights": self.weights, "dimensions": self.dimensions}

    def adopts(self, version: int, parameters: Mapping[str, Parameter]) -> bool:
        """Tell whether fingerprints are of the same model, wherever its file was."""
        return (version, {**parameters, "model": self.model}) == (self.version, self.parameters())

    def _cut(self, vectors: F32) -> F32:
        """Keep the leading dimensions of vectors (n, d), of length 1 again."""
        if vectors.shape[1] == self.dimensions:
            return vectors
        short = vectors[:, : self.dimensions]
        unit: F32 = short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-9)
        return unit

    def extract(self, samples: F32, *, dense: bool = False) -> Fingerprint:
        """Fingerprint mono samples (n,) at 8 kHz; see `afp.backends.Backend`."""
        n_frames = -(-len(samples) // HOP_LENGTH)
        powers = log_mel.mel_powers(samples)
        if not dense:
            frames, vectors = self._embed(powers, hop_frames=HOP_FRAMES)
            vectors = self._cut(vectors)
            hashes = cells.nearest(vectors, self._centres) if len(self._centres) else None
            return Fingerprint(n_frames, frames.astype(np.uint32), hashes=hashes, vectors=vectors)
        places, vectors = self._embed.overhanging(powers, hop_frames=HOP_FRAMES // FINENESS)
        frames = np.maximum(places, 0) // FINENESS
        steps = places + OVERHANG_STEPS
        seconds = np.array(len(samples) / self.sample_rate)
        query = {"steps": steps, "seconds": seconds}
        return Fingerprint(
            n_frames, frames.astype(np.uint32), vectors=self._cut(vectors), dense=query
        )

    def match(self, query: Fingerprint, index: IndexReader, *, limit: int) -> list[Match]:
        """Look a dense fingerprint up; see `afp.backends.Backend`."""
        if not _is_heard(query) or not index.n_tracks:
            return []
        vectors, found = self._laid(query, index)
        null = self._null(query, found)
        order = np.argsort(-found.scores, kind="stable")[:limit]
        order = order[found.scores[order] > 0]
        seconds = float(query.dense["seconds"])
        return [
            self._match(
                _Alignment(
                    int(found.track_ids[i]),
                    int(found.offsets[i]),
                    float(found.scores[i]),
                    null.p_false(float(found.scores[i])),
                ),
                vectors,
                seconds,
                index,
            )
            for i in order.tolist()
        ]

    def verify(
        self, query: Fingerprint, index: IndexReader, places: Sequence[Place]
    ) -> list[Match]:
        """Judge places that others have named; see `afp.backends.Verifier`.

        The score there, at the speed of the place, is held against the fifth best track, or what
        that is in a large store; the match is described as `match` does, at speed 1.
        """
        if not _is_heard(query):
            return [nowhere(place, index, 0.0, self.name) for place in places]
        vectors, found = self._laid(query, index)
        null = self._null(query, found)
        step_seconds = self.hop_seconds / FINENESS
        seconds = float(query.dense["seconds"])
        matches = []
        for place in places:
            stored = index.embeddings(place.track_id)
            centre = round(place.offset_seconds / step_seconds - OVERHANG_STEPS * place.speed)
            score, offset = max(
                (
                    score_at(vectors, stored, at, speed=place.speed, fineness=FINENESS, side=SIDE),
                    at,
                )
                for at in (centre - 1, centre, centre + 1)
            )
            p_false = null.p_false_at(score)
            alignment = _Alignment(place.track_id, offset, score, p_false)
            matches.append(
                self._match(alignment, vectors, seconds, index)
                if score > 0
                else nowhere(place, index, score, self.name)
            )
        return matches

    def _laid(self, query: Fingerprint, index: IndexReader) -> tuple[F32, Alignments]:
        """Lay a query onto everything; the last is kept, as `verify` mostly follows `match`."""
        if self._last is None or self._last[0] is not query or self._last[1]() is not index:
            assert query.vectors is not None
            steps = query.dense["steps"].astype(np.int64)
            vectors = np.zeros((int(steps[-1]) + 1, query.vectors.shape[1]), np.float32)
            vectors[steps] = less_common(query.vectors)
            vectors = vectors[:MOST_STEPS]
            found = self._align(query.vectors, steps[steps < MOST_STEPS], vectors, index)
            self._last = query, weakref.ref(index), vectors, found
        return self._last[2:]

    def _align(self, heard: F32, steps: I64, vectors: F32, index: IndexReader) -> Alignments:
        """Lay a query onto every track, or onto what is worth it in a large store."""
        blocks = index.embedding_blocks()
        if index.n_postings <= MOST_EXACT:  # none without cells
            return align(vectors, blocks, fineness=FINENESS, side=SIDE)
        # From the first whole one on: all that a clip of a second has.
        looked_up = slice(min(OVERHANG_STEPS, len(steps) - 1), len(steps), LOOKUP_STEP)
        heard, steps = heard[looked_up], steps[looked_up]
        n_probe = max(PROBES // len(steps), LEAST_PROBES)
        rows, hashes = cells.probes(heard, self._centres, n_probe=n_probe)
        lists = index.lookup(hashes)
        stretches = cells.promising(
            vectors,
            steps[rows],
            lists.gather(rarest(lists.counts, MAX_HITS)),
            blocks,
            fineness=FINENESS,
            width=OFFSET_WIDTH,
            most=CANDIDATES,
        )
        chance = cells.sample(blocks, n_tracks=CHANCE_TRACKS, n_frames=CHANCE_FRAMES)
        return cells.align_stretches(vectors, stretches, chance, fineness=FINENESS, side=SIDE)

    def _null(self, query: Fingerprint, found: Alignments) -> "_Null":
        assert query.vectors is not None
        return _Null.of(found, self._plainness(query.vectors), len(query))

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
        offset = step * (
            alignment.offset + OVERHANG_STEPS + _vertex(*(each.sum() for each in near))
        )
        first, last = (i - OVERHANG_STEPS for i in _stretch(near[1]))
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
            score=alignment.score**0.25,
            p_false=alignment.p_false,
            backend=self.name,
        )


@dataclass(frozen=True, slots=True)
class _Alignment:
    """The best place of the query in a track."""

    track_id: int
    offset: int  # of the query's first segment from the start of the track, in steps
    score: float
    p_false: float


@dataclass(frozen=True, slots=True)
class _Null:
    """What the scores of one query are held against.

    Attributes
    ----------
    deviation : float
        Of scores by chance.
    level : float
        What the best track that is not present has, or would have in a large store.
    place_level : float
        What the `RIVAL` has, or would have in a large store.
    """

    deviation: float
    level: float
    place_level: float

    @classmethod
    def of(cls, found: Alignments, plainness: float, n_heard: int) -> "_Null":
        by_score = np.argsort(-found.scores, kind="stable")
        count, squares = found.powers[by_score[MOST_PRESENT:]].T
        usual = np.full(USUAL_TRACKS, USUAL_DEVIATION**2)
        powers = np.concatenate([squares[count > 0] / count[count > 0], usual])
        deviation = math.sqrt(float(np.quantile(powers, DEVIATION_QUANTILE)))
        least = max(
            RIVAL_DEVIATIONS * deviation * n_heard**-RIVAL_DECAY, max(plainness, 0.0) ** PLAIN_POWER
        )
        best = np.zeros(MOST_PRESENT + 1)
        best[: len(by_score)] = found.scores[by_score[: len(best)]]
        levels = np.maximum(best[1:], least)
        present = np.flatnonzero(_excess(best[:-1], levels, deviation) > LEAST_EXCESS)
        level = levels[present[-1] if len(present) else 0]
        return cls(deviation, float(level), float(levels[RIVAL - 2]))

    def excess(self, score: float) -> float:
        """Return by how much a score exceeds what it is held against."""
        return float(_excess(score, self.level, self.deviation))

    def p_false(self, score: float) -> float:
        """Return how probable it is that a query of nothing has a best score as high."""
        return NULL.p_false(self.excess(score), store_hours=0.0)

    def p_false_at(self, score: float) -> float:
        """Return how probable it is at one place that another backend has named."""
        excess = float(_excess(score, self.place_level, self.deviation))
        return PLACE_NULL.p_false(excess, store_hours=0.0)


def _excess(score: F64 | float, level: F64 | float, deviation: float) -> Any:
    return (score - level) / np.sqrt(deviation * (level + deviation))


def less_common(vectors: F32) -> F32:
    """Take `COMMON` of their mean away from a query's vectors (n, d), of length 1 again."""
    rest = vectors - np.float32(COMMON) * vectors.mean(axis=0)
    unit: F32 = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)
    return unit


def _is_heard(query: Fingerprint) -> bool:
    """Tell whether there is an embedding among the steps that are looked up."""
    return len(query) > 0 and int(query.dense["steps"][0]) < MOST_STEPS


def _restored(parameters: dict[str, Any]) -> Backend:
    return Backend(**parameters)


def _read(model: str, weights: str) -> tuple[bytes, str]:
    """Return the bytes of a model file, and its name."""
    path = Path(model) if model else SHIPPED
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        what = f"backend 'neural': the model {path} cannot be read: {error.strerror}"
        if weights:
            raise StoreError(
                what,
                hint=f"put the model with the weights {weights} there, which the index was made "
                "with, or use another backend of the store (-b)",
            ) from None
        hint = "name a model.onnx that `afp train` has written" if model else "reinstall afp"
        raise UsageError(what, hint=hint) from None


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
