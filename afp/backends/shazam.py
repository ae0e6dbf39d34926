"""Constellation fingerprints: pairs of spectral peaks, matched by offset-histogram voting.

A. L.-C. Wang, "An Industrial-Strength Audio Search Algorithm", ISMIR 2003. Beyond the paper: the
spectrogram is whitened, so that neither level nor colour matter; the reference is sparse and the
query dense, four times finer in time; a candidate is verified on the stored constellation, with
many more peaks than landmarks were made of; other speeds are searched on the query's side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from afp.backends.protocol import PLACE_SECONDS, Parameter, Place, nowhere
from afp.features.landmarks import pair_peaks, probe_landmarks
from afp.features.peaks import Peaks, interpolated_bins, local_maxima, strongest
from afp.features.spectrogram import log_spectrogram, whiten
from afp.fingerprint import F32, F64, I16, I32, I64, U32, Evidence, Fingerprint, Match
from afp.index import IndexReader
from afp.matching.alignment import PeakMap, dispersion, fit, score_offsets, spread_peaks
from afp.matching.significance import NullModel, surprise
from afp.matching.voting import Candidate, rarest, vote

N_FFT = 1024
HOP_LENGTH = 256
FIRST_BIN = 20  # 156 Hz: below, rooms and small loudspeakers leave little
N_BINS = 456  # up to 3.7 kHz
FINENESS = 4  # frames of a query in a frame of a reference

# In frames of the reference and bins, to either side; queries use `FINENESS` times the frames.
WHITENING_FRAMES = 32
WHITENING_BINS = 20
WHITENING_BREADTH = 0.3
MAXIMUM_FRAMES = 1
MAXIMUM_BINS = 4
RANKING_FRAMES = 16  # about a second in all, in which peaks compete

FAN_OUT = 5
TARGET_FRAMES = 31
TARGET_BINS = 127

PROBING_PEAKS = 60  # per second: a query's peaks that are paired
SPEED_PROBING_PEAKS = 30  # the same at each of the other speeds
VERIFYING_PEAKS = 150  # per second: a query's peaks that a stored peak may fall on

HISTOGRAM_WIDTH = 4  # fine frames
N_CANDIDATES = 24
MAX_HITS = 2_000_000  # at any one speed, of the rarest hashes
# In a store where a query has more hits than that: what is looked at unless those are sure.
MANY_CANDIDATES = 96
MANY_HITS = 16_000_000
OFFSET_SEARCH = 4  # fine frames around a histogram peak
OTHER_SPEEDS = (0.99, 1.01, 0.98, 1.02, 0.97, 1.03, 0.96, 1.04, 0.95, 1.05)
SPEED_STEPS = (-0.006, -0.004, -0.002, 0.002, 0.004, 0.006)
MAX_SPEED_ROUNDS = 4
WORTH_REFINING = 2.5  # score from which speeds between those of the search are tried
SURE = 1e-5  # p_false at which other speeds are not searched

# Fitted by benchmarks/null_model.py at 80 landmarks a second, and found to hold at 94.
NULL = NullModel(score=3.35, decay=3.9, hours=10.6)

# Of one place that another backend has named; fitted by benchmarks/null_fusion.py.
PLACE_NULL = NullModel(score=2.41, decay=3.62, hours=math.inf)
PLACE_FOUND = 1e-3  # p_false of a place at which other speeds are not searched


class Backend:
    """Pairs of spectral peaks; for noisy clips and speed changes, small on disk.

    Parameters
    ----------
    density : float
        Landmarks per second that a reference stores, about; each takes 6 bytes.
    peak_density : float
        Peaks per second that a reference keeps for verification; each takes under 2 bytes.
    """

    name = "shazam"
    version = 1
    sample_rate = 8000
    hop_seconds = HOP_LENGTH / 8000
    context_seconds = 4.0
    window_seconds = 12.0

    def __init__(self, *, density: float = 94.0, peak_density: float = 40.0) -> None:
        if not 5 <= density <= 500:
            raise ValueError(f"density must be 5 to 500 landmarks a second, not {density}")
        if not 5 <= peak_density <= VERIFYING_PEAKS:
            raise ValueError(
                f"peak_density must be 5 to {VERIFYING_PEAKS} peaks a second, not {peak_density}"
            )
        self.density = float(density)
        self.peak_density = float(peak_density)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters that an index is bound to."""
        return {"density": self.density, "peak_density": self.peak_density}

    def extract(self, samples: F32, *, dense: bool = False) -> Fingerprint:
        """Fingerprint mono samples (n,) at 8 kHz; see `afp.backends.Backend`."""
        if dense:
            return _extract_query(samples)
        spectrogram = _spectrogram(samples, 1)
        maxima = _maxima(spectrogram, 1)
        paired = _strongest(maxima, self.density / FAN_OUT, 1)
        frames, hashes = pair_peaks(
            paired.frames,
            paired.bins,
            fan_out=FAN_OUT,
            target_frames=TARGET_FRAMES,
            target_bins=TARGET_BINS,
        )
        kept = _strongest(maxima, self.peak_density, 1)
        evidence = Evidence(kept.frames.astype(np.uint32), kept.bins.astype(np.uint32))
        return Fingerprint(_n_frames(samples), frames, hashes=hashes, evidence=evidence)

    def match(self, query: Fingerprint, index: IndexReader, *, limit: int) -> list[Match]:
        """Look a dense fingerprint up; see `afp.backends.Backend`.

        The query is searched at nominal speed, by its rarest hashes first where it has many hits;
        and at other speeds unless that gives a sure answer.
        """
        clip = _Query.of(query)
        if not len(clip.times):
            return []
        peaks = clip.peak_map()
        store_hours = index.n_frames * self.hop_seconds / 3600
        candidates, is_crowded = _candidates(clip, index, (1.0,), MAX_HITS)
        first = candidates[:N_CANDIDATES]
        found = _verified(peaks, index, first, store_hours=store_hours, n_trials=1)
        if is_crowded and not _is_sure(found):
            # Rare hashes alone find other places than all of them do.
            rest = candidates[N_CANDIDATES:] + _candidates(clip, index, (1.0,), MANY_HITS)[0]
            found += _verified(peaks, index, rest, store_hours=store_hours, n_trials=1)
            found.sort(key=_strength)
        if not _is_sure(found):
            candidates = _candidates(clip, index, OTHER_SPEEDS, MAX_HITS)[0][:N_CANDIDATES]
            n_trials = 1 + len(OTHER_SPEEDS)
            found += _verified(peaks, index, candidates, store_hours=store_hours, n_trials=n_trials)
            found.sort(key=_strength)
        best: dict[int, _Alignment] = {}
        for alignment in found:
            best.setdefault(alignment.track_id, alignment)
        return [_match(clip, peaks, index, alignment) for alignment in list(best.values())[:limit]]

    def verify(
        self, query: Fingerprint, index: IndexReader, places: Sequence[Place]
    ) -> list[Match]:
        """Judge places that others have named; see `afp.backends.Verifier`.

        The query is laid there at the speed of the place, and at others unless that agrees well.
        """
        clip = _Query.of(query)
        peaks = clip.peak_map()
        alignments = [_at_place(peaks, index, place) for place in places]
        return [
            _match(clip, peaks, index, alignment)
            if alignment.score > 0
            else nowhere(place, index, alignment.score, self.name)
            for place, alignment in zip(places, alignments, strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """The query side of a constellation, as `Fingerprint.dense` carries it."""

    times: I32  # of the peaks that are paired, in fine frames
    frequencies: F32  # of the same, interpolated, in bins above FIRST_BIN
    speed_times: I32  # of the fewer that are paired at other speeds
    speed_frequencies: F32
    peak_times: I32  # of all peaks, on which those of a reference may fall
    peak_bins: I32
    peak_frequencies: F32
    peak_weights: F32
    n_frames: int  # fine
    seconds: float

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> "_Query":
        dense: dict[str, Any] = dict(fingerprint.dense)
        n_frames, seconds = int(dense.pop("n_frames")), float(dense.pop("seconds"))
        return cls(**dense, n_frames=n_frames, seconds=seconds)

    def peak_map(self) -> PeakMap:
        return spread_peaks(
            self.peak_times,
            self.peak_bins,
            self.peak_weights,
            n_frames=self.n_frames,
            n_bins=N_BINS,
            first_bin=FIRST_BIN,
            fineness=FINENESS,
        )

    def landmarks(self, speed: float) -> tuple[I64, U32]:
        nominal = speed == 1.0
        return probe_landmarks(
            self.times if nominal else self.speed_times,
            self.frequencies if nominal else self.speed_frequencies,
            fineness=FINENESS,
            first_bin=FIRST_BIN,
            n_bins=N_BINS,
            target_frames=TARGET_FRAMES,
            target_bins=TARGET_BINS,
            speed=speed,
        )


@dataclass(frozen=True, slots=True)
class _Alignment:
    """A verified candidate."""

    track_id: int
    offset: float  # track time minus speed times query time, in fine frames
    speed: float
    score: float
    p_false: float


def _strength(alignment: _Alignment) -> tuple[float, float]:
    return alignment.p_false, -alignment.score


def _n_frames(samples: F32) -> int:
    return -(-len(samples) // HOP_LENGTH)


def _spectrogram(samples: F32, fineness: int) -> I16:
    return log_spectrogram(
        samples,
        n_fft=N_FFT,
        hop_length=HOP_LENGTH // fineness,
        first_bin=FIRST_BIN,
        n_bins=N_BINS,
    )


def _maxima(spectrogram: I16, fineness: int) -> Peaks:
    salience = whiten(
        spectrogram,
        time_frames=WHITENING_FRAMES * fineness,
        frequency_bins=WHITENING_BINS,
        breadth=WHITENING_BREADTH,
    )
    return local_maxima(
        salience, time_radius=MAXIMUM_FRAMES * fineness, frequency_radius=MAXIMUM_BINS
    )


def _strongest(peaks: Peaks, per_second: float, fineness: int) -> Peaks:
    radius = RANKING_FRAMES * fineness
    seconds = (2 * RANKING_FRAMES + 1) * Backend.hop_seconds
    return strongest(peaks, time_radius=radius, most=round(per_second * seconds))


def _extract_query(samples: F32) -> Fingerprint:
    spectrogram = _spectrogram(samples, FINENESS)
    peaks = _strongest(_maxima(spectrogram, FINENESS), VERIFYING_PEAKS, FINENESS)
    probing = _strongest(peaks, PROBING_PEAKS, FINENESS)
    speed_probing = _strongest(probing, SPEED_PROBING_PEAKS, FINENESS)
    query = _Query(
        times=probing.frames,
        frequencies=interpolated_bins(spectrogram, probing),
        speed_times=speed_probing.frames,
        speed_frequencies=interpolated_bins(spectrogram, speed_probing),
        peak_times=peaks.frames,
        peak_bins=peaks.bins,
        peak_frequencies=interpolated_bins(spectrogram, peaks),
        peak_weights=np.sqrt(peaks.saliences.astype(np.float32)),
        n_frames=len(spectrogram),
        seconds=len(samples) / Backend.sample_rate,
    )
    times, hashes = query.landmarks(1.0)
    return Fingerprint(
        _n_frames(samples),
        (times // FINENESS).astype(np.uint32),
        hashes=hashes,
        dense={field.name: np.asarray(getattr(query, field.name)) for field in fields(query)},
    )


def _candidates(
    query: _Query, index: IndexReader, speeds: Sequence[float], most_hits: int
) -> tuple[list[Candidate], bool]:
    """Find the peaks of the offset histograms over all segments and speeds.

    Returns
    -------
    candidates : list of Candidate
        The most surprising first.
    is_crowded : bool
        Whether the query has more than `MAX_HITS`; there are `MANY_CANDIDATES` then.
    """
    candidates: list[Candidate] = []
    is_crowded = False
    for speed in speeds:
        times, hashes = query.landmarks(speed)
        if not len(hashes):
            continue
        lists = index.lookup(hashes)
        is_crowded |= int(lists.counts.sum(dtype=np.int64)) > MAX_HITS
        for hits in lists.gather(rarest(lists.counts, most_hits)):
            candidates += vote(
                hits,
                times,
                fineness=FINENESS,
                width=HISTOGRAM_WIDTH,
                most=MANY_CANDIDATES if is_crowded else N_CANDIDATES,
                speed=speed,
            )
    most = MANY_CANDIDATES if is_crowded else N_CANDIDATES
    return sorted(candidates, key=surprise, reverse=True)[:most], is_crowded


def _is_sure(found: Sequence[_Alignment]) -> bool:
    return bool(found) and found[0].p_false <= SURE


def _verified(
    peaks: PeakMap,
    index: IndexReader,
    candidates: Sequence[Candidate],
    *,
    store_hours: float,
    n_trials: int,
) -> list[_Alignment]:
    """Lay the stored constellation of each candidate onto the query, best first."""
    near = np.arange(-OFFSET_SEARCH, OFFSET_SEARCH + 1, dtype=np.float64)
    alignments: list[_Alignment] = []
    enough = 0  # hits below which a candidate is not worth a look beside a sure answer
    for candidate in candidates:
        if candidate.n_aligned < enough:
            continue
        evidence = index.evidence(candidate.track_id)
        score, offset, speed = _best_offset(
            peaks, evidence, candidate.offset + near, candidate.speed
        )
        if score > WORTH_REFINING:
            score, offset, speed = _refined(peaks, evidence, score, offset, speed)
            # Music that repeats itself scatters as widely where it matches nothing but itself:
            # only half of the excess, in logarithm, is held against a match.
            score /= dispersion(peaks, evidence, offset, speed=speed) ** 0.5
        p_false = NULL.p_false(score, store_hours=store_hours, n_trials=n_trials)
        alignments.append(_Alignment(candidate.track_id, offset, speed, score, p_false))
        if p_false < SURE:
            enough = max(enough, candidate.n_aligned // 3)
    return sorted(alignments, key=_strength)


def _refined(
    peaks: PeakMap, evidence: Evidence, score: float, offset: float, speed: float
) -> tuple[float, float, float]:
    """Look for a better speed next to one, about the middle of the query."""
    near = np.arange(-OFFSET_SEARCH, OFFSET_SEARCH + 1, 2, dtype=np.float64)
    middle = 0.5 * len(peaks.weights)
    for _ in range(MAX_SPEED_ROUNDS):
        centre, start = speed, offset
        for step in SPEED_STEPS:
            turned = start - step * middle
            score, offset, speed = max(
                (score, offset, speed),
                _best_offset(peaks, evidence, turned + near, centre + step),
            )
        if abs(speed - centre) < max(SPEED_STEPS):
            break
    return score, offset, speed


def _at_place(peaks: PeakMap, index: IndexReader, place: Place) -> _Alignment:
    """Lay the stored constellation onto the query about a place, at the best speed."""
    evidence = index.evidence(place.track_id)
    step_seconds = Backend.hop_seconds / FINENESS
    reach = round(PLACE_SECONDS / step_seconds)
    near = np.arange(-reach, reach + 1, dtype=np.float64)
    middle = 0.5 * len(peaks.weights)
    start = place.offset_seconds / step_seconds

    def best_at(speed: float) -> tuple[float, float, float]:
        return _best_offset(peaks, evidence, start + (place.speed - speed) * middle + near, speed)

    def judged(found: tuple[float, float, float], n_trials: int) -> _Alignment:
        score, offset, speed = _refined(peaks, evidence, *found)
        score /= dispersion(peaks, evidence, offset, speed=speed)
        p_false = PLACE_NULL.p_false(score, store_hours=0.0, n_trials=n_trials)
        return _Alignment(place.track_id, offset, speed, score, p_false)

    alignment = judged(best_at(place.speed), 1)
    if alignment.p_false > PLACE_FOUND:
        others = max(best_at(place.speed * factor) for factor in OTHER_SPEEDS)
        alignment = min(alignment, judged(others, 1 + len(OTHER_SPEEDS)), key=_strength)
    return alignment


def _best_offset(
    peaks: PeakMap, evidence: Evidence, offsets: F64, speed: float
) -> tuple[float, float, float]:
    scores, _ = score_offsets(peaks, evidence, offsets, speed=speed)
    best = int(np.argmax(scores))
    return float(scores[best]), float(offsets[best]), speed


def _match(query: _Query, peaks: PeakMap, index: IndexReader, alignment: _Alignment) -> Match:
    track = index.track(alignment.track_id)
    seconds = Backend.hop_seconds / FINENESS
    line = fit(
        peaks,
        index.evidence(alignment.track_id),
        query.peak_times,
        query.peak_frequencies,
        n_track_frames=round(track.duration_seconds / Backend.hop_seconds),
        offset=alignment.offset,
        speed=alignment.speed,
    )
    start = line.query_start * seconds
    end = query.seconds if line.query_end >= query.n_frames else line.query_end * seconds
    return Match(
        track=track,
        query_start=start,
        query_end=end,
        track_start=line.offset * seconds + line.speed * start,
        track_end=line.offset * seconds + line.speed * end,
        score=alignment.score,
        p_false=alignment.p_false,
        speed=line.speed,
        pitch=line.pitch,
        backend=Backend.name,
    )
