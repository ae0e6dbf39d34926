"""Real music among synthetic tracks, and noisy clips of it as queries."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
import soxr
from clips import sounds_of, split
from corpus import Corpus
from output import note

from afp.backends import shazam
from afp.bench.grid import PAST_SECONDS, RATE
from afp.distort import Clip, Sounds, is_silent, parse, read
from afp.errors import InputError
from afp.fingerprint import F32, Fingerprint, Match
from afp.library import Searcher
from afp.library.querying import DEFAULT_MAX_P

STRETCH_SECONDS = 30.0
CLIP_SECONDS = 5.0
CONDITIONS = ("noise:snr=0", "chang")
ABSENT_SHARE = 0.1
PLACE_SECONDS = 0.5  # within which a place counts as right
SCORE_QUANTILES = (0.5, 0.9, 0.95, 1.0)
# What p_false of a thousandth takes in a store of up to the hours that it is fitted on.
SMALL_SCORE = shazam.NULL.score - math.log(DEFAULT_MAX_P) / shazam.NULL.decay


@dataclass(frozen=True, slots=True)
class Planted:
    """A stretch of real music that is indexed."""

    name: str
    fingerprint: Fingerprint
    seconds: float = STRETCH_SECONDS


@dataclass(frozen=True, slots=True)
class RealQuery:
    """A noisy clip, as a file.

    Attributes
    ----------
    path : Path
    track : int or None
        Which of the planted stretches it is from; None for music that is not indexed.
    start_seconds : float
        Where in the stretch.
    """

    path: Path
    track: int | None
    start_seconds: float


@dataclass(frozen=True, slots=True)
class RealMusic:
    """Stretches to index, and clips of them and of other music."""

    planted: list[Planted]
    queries: list[RealQuery]

    @classmethod
    def made(cls, found: Corpus, folder: Path, *, tracks: int, queries: int, seed: int) -> Self:
        """Cut stretches out of the middle of tracks, and clips of them; half as many are absent.

        A tenth of the music is kept out for those, or more where there is enough.
        """
        paths = found.tracks()
        share = max(ABSENT_SHARE, 1 - tracks / len(paths))
        indexed, absent = split(paths, share, seed)
        note(f"cutting {len(indexed)} stretches and {queries + queries // 2} clips")
        noises = Corpus(found.music, noise=found.noise, rooms=found.rooms)
        sounds = sounds_of(noises, folder)
        present = _stretches(indexed[:tracks])
        backend = shazam.Backend()
        planted = [
            Planted(path.stem, backend.extract(read_at(samples, backend.sample_rate)))
            for path, samples in present
        ]
        rng = np.random.default_rng(seed)
        made = [
            *_clips([samples for _, samples in present], queries, True, folder, sounds, rng),
            *_clips([s for _, s in _stretches(absent)], queries // 2, False, folder, sounds, rng),
        ]
        return cls(planted, made)


def read_at(samples: F32, rate: int) -> F32:
    """Resample from the rate of clips."""
    return np.ascontiguousarray(soxr.resample(samples, RATE, rate), np.float32)


def _stretches(paths: Sequence[Path]) -> list[tuple[Path, F32]]:
    """Cut a stretch out of the middle of each track; what is silent or unreadable is left out."""
    found = []
    n = round(STRETCH_SECONDS * RATE)
    for path in paths:
        try:
            samples = read(path, sample_rate=RATE)
        except InputError as error:
            note(str(error))
            continue
        first = max((len(samples) - n) // 2, 0)
        stretch = samples[first : first + n].copy()
        if len(stretch) == n and not is_silent(stretch):
            found.append((path, stretch))
    return found


def _clips(
    stretches: Sequence[F32],
    queries: int,
    present: bool,
    folder: Path,
    sounds: Sounds,
    rng: np.random.Generator,
) -> Iterator[RealQuery]:
    length, past = round(CLIP_SECONDS * RATE), round(PAST_SECONDS * RATE)
    conditions = [distortion for text in CONDITIONS for distortion in parse(text)]
    for number in range(queries):
        while True:
            track = int(rng.integers(len(stretches)))
            start = int(rng.integers(past, len(stretches[track]) - length))
            if not is_silent(stretches[track][start : start + length]):
                break
        samples = stretches[track][start - past : start + length]
        distortion = conditions[number % len(conditions)]
        clip = distortion.apply(Clip(samples, RATE, past, length), sounds, rng)
        path = folder / f"{'present' if present else 'absent'}-{number}.wav"
        soundfile.write(path, clip.body(), RATE, subtype="FLOAT")
        start_seconds = start / RATE + clip.delay_seconds
        yield RealQuery(path, track if present else None, start_seconds)


def ask(
    searcher: Searcher, music: RealMusic, names: Sequence[str], most: int | None = None
) -> dict[str, Any]:
    """Ask every query whose track is planted, or absent; count right and wrong answers, and time.

    Parameters
    ----------
    searcher : Searcher
    music : RealMusic
    names : sequence of str
        Path in the store of each stretch that is planted: the first ones.
    most : int, optional
        Ask no more queries than that.
    """
    answers = []
    searcher.query(music.queries[0].path)  # loads what is loaded once
    known = [each for each in music.queries if each.track is None or each.track < len(names)]
    for query in known[:most]:
        wall, cpu = time.perf_counter(), time.process_time()
        found = searcher.query(query.path, max_p=1.0).matches
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        answers.append(_Answer.of(query, found, names, 1e3 * cpu, 1e3 * wall))
    present = [answer for answer in answers if answer.is_present]
    absent = [answer for answer in answers if not answer.is_present]
    sure = [answer for answer in present if answer.p_false <= DEFAULT_MAX_P]
    times = {"query": percentiles([answer.cpu_ms for answer in present])}
    if not absent:
        return times
    return times | {
        "present": len(present),
        "absent": len(absent),
        "right": sum(answer.is_right for answer in sure) / len(present),
        "placed": sum(answer.is_placed for answer in sure) / len(present),
        "wrong": sum(not answer.is_right for answer in sure),
        "right_at_any_p": sum(answer.is_right for answer in present) / len(present),
        "right_at_score": sum(a.is_right and a.score >= SMALL_SCORE for a in present)
        / len(present),
        "false": sum(answer.p_false <= DEFAULT_MAX_P for answer in absent),
        "false_at_score": sum(answer.score >= SMALL_SCORE for answer in absent),
        "false_at_p_of_0.1": sum(answer.p_false <= 0.1 for answer in absent) / len(absent),
        "absent_score_quantiles": np.quantile(
            [answer.score for answer in absent], SCORE_QUANTILES
        ).tolist(),
        "query_wall": percentiles([answer.wall_ms for answer in present]),
        "query_absent": percentiles([answer.cpu_ms for answer in absent]),
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the 95th and the 99th percentile."""
    found = np.percentile(values, (50, 95, 99)).tolist()
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), found, strict=True))


@dataclass(frozen=True, slots=True)
class _Answer:
    is_present: bool
    is_right: bool
    is_placed: bool
    p_false: float
    score: float
    cpu_ms: float
    wall_ms: float

    @classmethod
    def of(
        cls,
        query: RealQuery,
        found: Sequence[Match],
        names: Sequence[str],
        cpu_ms: float,
        wall_ms: float,
    ) -> "_Answer":
        is_present = query.track is not None
        if not found:
            return cls(is_present, False, False, 1.0, 0.0, cpu_ms, wall_ms)
        match = found[0]
        is_right = query.track is not None and match.track.path == names[query.track]
        offset = match.track_start - match.query_start
        is_placed = is_right and abs(offset - query.start_seconds) <= PLACE_SECONDS
        return cls(is_present, is_right, is_placed, match.p_false, match.score, cpu_ms, wall_ms)
