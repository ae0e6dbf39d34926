"""Validation by retrieval: clips of unseen tracks, distorted, looked up among distractors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from afp.distort import device, filters, noise, room, time_pitch
from afp.features.log_mel import (
    HOP_LENGTH,
    N_BANDS,
    N_FRAMES,
    SAMPLE_RATE,
    mel_powers,
    normalised,
    segments,
)
from afp.fingerprint import F32, I64
from afp.training.pcm import FULL_SCALE, Pcm

HOP_SECONDS = 0.5
HOP_FRAMES = int(HOP_SECONDS * SAMPLE_RATE) // HOP_LENGTH
LENGTHS = (1, 2, 3)
"""Of the queries, in seconds."""

NEAR_SECONDS = 0.5
_N_SAMPLES = LENGTHS[-1] * SAMPLE_RATE
_PAST = 2 * SAMPLE_RATE  # what reverberates into a clip
_QUIET_DB = -50.0  # below the track's peak: no clip is taken from there
_MOST_DRAWS = 50
_CHUNK = 64  # queries compared at a time

Embed = Callable[[np.ndarray], F32]


@dataclass(frozen=True, slots=True)
class Validation:
    """Queries and what they are looked up in; the same whenever it is made of the same files.

    Attributes
    ----------
    references : ndarray of float16, shape (n_references, N_FRAMES, N_BANDS)
        Segments every `HOP_SECONDS`, of the unseen tracks first.
    tracks : ndarray of int64, shape (n_references,)
        Which track each segment is of, ascending.
    seconds : ndarray of float64, shape (n_references,)
        Where each begins in its track.
    queries : dict of ndarray of float16, shape (n_queries, n_segments, N_FRAMES, N_BANDS)
        By condition: the segments of each query, every `HOP_SECONDS`.
    query_tracks, query_seconds : ndarray, shape (n_queries,)
        Where each query is from, the same for every condition.
    """

    references: np.ndarray
    tracks: I64
    seconds: np.ndarray
    queries: dict[str, np.ndarray]
    query_tracks: I64
    query_seconds: np.ndarray

    @classmethod
    def made(
        cls,
        music: Pcm,
        noises: Pcm | None,
        rooms: Pcm | None,
        *,
        distractors: Pcm | None,
        n_queries: int,
        n_distractors: int,
        seed: int,
    ) -> "Validation":
        """Draw the queries and cut the references.

        Parameters
        ----------
        music : Pcm
            Tracks that training does not see; all their segments are references.
        noises, rooms : Pcm or None
            Recordings that training does not see; pink noise and made-up rooms without them.
        distractors : Pcm or None
            Tracks of which segments are added that no query is from.
        n_queries : int
            In each condition.
        n_distractors : int
            Segments that are added at most.
        seed : int
        """
        rng = np.random.default_rng((seed, 3))
        cut = [_segments(_read(music, i)) for i in range(len(music))]
        tracks = [np.full(len(each), i) for i, each in enumerate(cut)]
        seconds = [np.arange(len(each)) * HOP_SECONDS for each in cut]
        n_added, others = 0, rng.permutation(len(distractors) if distractors else 0)
        for i in others.tolist():
            if n_added >= n_distractors:
                break
            assert distractors is not None
            cut.append(_segments(_read(distractors, i))[: n_distractors - n_added])
            tracks.append(np.full(len(cut[-1]), len(tracks)))
            seconds.append(np.arange(len(cut[-1])) * HOP_SECONDS)
            n_added += len(cut[-1])
        places = [_place(music, rng) for _ in range(n_queries)]
        queries: dict[str, list[np.ndarray]] = {name: [] for name in _CONDITIONS}
        for track, start in places:
            for name, distort in _CONDITIONS.items():
                clip = distort(_around(music, track, start), noises, rooms, rng)
                queries[name].append(_segments(clip))
        return cls(
            np.concatenate(cut),
            np.concatenate(tracks),
            np.concatenate(seconds),
            {name: np.stack(each) for name, each in queries.items()},
            np.array([track for track, _ in places]),
            np.array([start / SAMPLE_RATE for _, start in places]),
        )

    def scores(self, embed: Embed) -> dict[str, float]:
        """Look the queries up by the mean similarity of aligned segments.

        Parameters
        ----------
        embed : callable
            Maps segments, float16 of shape (n, N_FRAMES, N_BANDS), to embeddings of length 1.

        Returns
        -------
        dict of float
            ``<condition> <length>s track`` and ``… near``: the share of queries whose best place
            is in the right track, and within `NEAR_SECONDS` of the right place.
        """
        references = embed(self.references)
        n_segments = next(iter(self.queries.values())).shape[1]
        found: dict[str, float] = {}
        for name, segments_ in self.queries.items():
            n_queries = len(segments_)
            embedded = embed(segments_.reshape(-1, N_FRAMES, N_BANDS))
            embedded = embedded.reshape(n_queries, n_segments, -1)
            for length in LENGTHS:
                n_used = int((length - 1) / HOP_SECONDS) + 1
                best = np.concatenate(
                    [
                        self._best(references, embedded[first : first + _CHUNK, :n_used])
                        for first in range(0, n_queries, _CHUNK)
                    ]
                )
                right = self.tracks[best] == self.query_tracks
                distance = np.abs(self.seconds[best] - self.query_seconds)
                found[f"{name} {length}s track"] = float(right.mean())
                found[f"{name} {length}s near"] = float((right & (distance <= NEAR_SECONDS)).mean())
        return found

    def _best(self, references: F32, queries: F32) -> I64:
        """Return the reference at which each query begins, of (n_queries, n_segments, d)."""
        n = len(references)
        total = np.zeros((len(queries), n), np.float32)
        for i in range(queries.shape[1]):
            similarities = queries[:, i] @ references[i:].T
            total[:, : n - i] += similarities
            # Past the end of a track there is nothing that could be similar.
            total[:, : n - i][:, self.tracks[i:] != self.tracks[: n - i]] -= 1
            total[:, n - i :] -= 1
        best: I64 = np.argmax(total, axis=1)
        return best


def score(scores: dict[str, float]) -> float:
    """Return the one figure that the best checkpoint is chosen by: the mean over all cells."""
    return sum(scores.values()) / len(scores)


def _read(music: Pcm, i: int) -> F32:
    return music[i].astype(np.float32) / np.float32(FULL_SCALE)


def _segments(samples: F32) -> np.ndarray:
    cut = normalised(segments(mel_powers(samples), hop_frames=HOP_FRAMES))
    return cut.astype(np.float16)


def _place(music: Pcm, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a track and a start at which a query sounds."""
    usable = np.flatnonzero(music.lengths >= _N_SAMPLES)
    for _ in range(_MOST_DRAWS):
        track = int(rng.choice(usable))
        start = int(rng.integers(music.lengths[track] - _N_SAMPLES + 1))
        clip = music[track][start : start + SAMPLE_RATE].astype(np.float32) / FULL_SCALE
        if np.mean(np.square(clip)) > 10 ** (_QUIET_DB / 10):
            break
    return track, start


def _around(music: Pcm, track: int, start: int) -> F32:
    """Cut a clip with its past, and a little more at the end for what is played faster."""
    clip = np.empty(_PAST + _N_SAMPLES + SAMPLE_RATE // 4, np.float32)
    music.cut(track, start - _PAST, clip)
    return clip


def _in_room(clip: F32, rooms: Pcm | None, rng: np.random.Generator) -> F32:
    if rooms is None:
        response = room.response(t60=rng.uniform(0.3, 1.2), sample_rate=SAMPLE_RATE, rng=rng)
    else:
        response = rooms[int(rng.integers(len(rooms)))].astype(np.float32)
    return room.convolve(clip, response)


def _with_noise(
    clip: F32, noises: Pcm | None, snr_db: tuple[float, float], rng: np.random.Generator
) -> F32:
    if noises is None:
        added = noise.pink(len(clip), rng, sample_rate=SAMPLE_RATE)
    else:
        recordings = [noises[i] for i in range(len(noises))]
        added = noise.stretch(len(clip), recordings, rng).astype(np.float32)  # type: ignore[arg-type]
    return noise.add(clip, added, snr_db=float(rng.uniform(*snr_db)))


def _clip(samples: F32) -> F32:
    return np.ascontiguousarray(samples[_PAST : _PAST + _N_SAMPLES])


def _clean(clip: F32, noises: Pcm | None, rooms: Pcm | None, rng: np.random.Generator) -> F32:
    return _clip(clip)


def _noise_0_10(clip: F32, noises: Pcm | None, rooms: Pcm | None, rng: np.random.Generator) -> F32:
    return _with_noise(_clip(clip), noises, (0, 10), rng)


def _noise_0(clip: F32, noises: Pcm | None, rooms: Pcm | None, rng: np.random.Generator) -> F32:
    return _with_noise(_clip(clip), noises, (0, 0), rng)


def _room_noise(clip: F32, noises: Pcm | None, rooms: Pcm | None, rng: np.random.Generator) -> F32:
    return _with_noise(_clip(_in_room(clip, rooms, rng)), noises, (0, 10), rng)


def _phone(clip: F32, noises: Pcm | None, rooms: Pcm | None, rng: np.random.Generator) -> F32:
    heard = _room_noise(clip, noises, rooms, rng)
    heard = device.microphone(heard, sample_rate=SAMPLE_RATE, rng=rng)
    return filters.telephone(heard, sample_rate=SAMPLE_RATE)


def _speed(clip: F32, noises: Pcm | None, rooms: Pcm | None, rng: np.random.Generator) -> F32:
    factor = 1 + float(rng.choice([-0.03, 0.03]))
    faster = time_pitch.speed(np.ascontiguousarray(clip[_PAST:]), factor=factor)[:_N_SAMPLES]
    return _with_noise(faster, noises, (5, 10), rng)


_CONDITIONS: dict[str, Callable[[F32, Pcm | None, Pcm | None, np.random.Generator], F32]] = {
    "clean": _clean,
    "noise": _noise_0_10,
    "noise 0 dB": _noise_0,
    "room+noise": _room_noise,
    "phone": _phone,
    "speed 3%": _speed,
}
