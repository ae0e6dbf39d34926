"""Sub-fingerprints: signs of energy differences, matched by bit error rate.

J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002. A frame of
0.37 s, every 11.6 ms, gives 32 bits: whether the difference in energy of two neighbouring bands
rises. A track keeps all of them. Beyond the paper:

1. The index holds hashes of a few bands over half a second, at the moments when their bits are
   surest: they outlive noise that no whole sub-fingerprint does.
2. A query looks up the variants of its hashes that are most probable, given how sure each of its
   bits is; tracks and offsets on which many agree are candidates.
3. The query's bits, weighted by how sure they are, are laid onto the candidates' bits. Agreement is
   summed in blocks of time and frequency, for noise spoils some of them and leaves others, and
   judged against that of the same query laid onto other places.
4. Unless that gives a sure answer, all this is done at other speeds too, on the query's side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from afp.backends.protocol import Parameter
from afp.features.bit_hashes import REGIONS, anchor_hashes, probe_hashes
from afp.features.sub_fingerprints import (
    SubFingerprints,
    band_edges,
    band_energies,
    energies_between,
    sub_fingerprints,
)
from afp.fingerprint import F32, I64, U32, Evidence, Fingerprint, Match
from afp.index import IndexReader
from afp.matching.ber import (
    FULL,
    BlockNull,
    SoftBits,
    agreeing_stretch,
    agreements,
    best_offset,
    best_share,
    bit_errors,
    common_null,
    coverage,
    is_long_enough,
    n_runs,
    overlap,
    soft_bits,
    spread,
    without_edges,
)
from afp.matching.significance import NullModel, surprise
from afp.matching.voting import Candidate, rarest, vote

SAMPLE_RATE = 5512  # Hz; an eighth of 44.1 kHz

QUERY_HOPS = 2  # between a query's frames; the energies of those between are interpolated
SPACING_SECONDS = 0.116  # between the moments of a hash
BLOCK_SECONDS = 1.0
STEP = 2  # frames of a query between those that are hashed
PROBES = 5000  # hashes to look up for a second of a query
SPEED_STEP, SPEED_PROBES = 4, 1000  # the same at each of the other speeds
VERIFIED_STEP = 4  # frames of a query between those that are laid onto tracks
MAX_HITS = 1_000_000  # at any one speed

HISTOGRAM_WIDTH = 3  # frames
N_CANDIDATES, SPEED_CANDIDATES = 1000, 12  # at nominal speed, and at each of the others
N_TRACKS = 150  # that are laid onto the query
SPEEDS = np.arange(-5, 6) * 0.01 + 1.0  # of the query: seconds of a track in one of its own
OTHER_SPEEDS = np.delete(np.linspace(0.95, 1.05, 7), 3)  # that are searched; a hash bears 0.8 %
SPEED_STEPS = (0.005, 0.0025, 0.001)  # of the search around a candidate's speed

# Places that a query is laid onto to learn what chance gives: on the sound of many tracks, joined,
# to choose the candidates that are worth a closer look; then on each one's own track, half nearby.
N_COMMON, COMMON_TRACKS = 200, 20
COMMON_LENGTHS = 100  # of the query, that these places are spread over
N_NEAR, N_FAR = 100, 60
NEAR_SECONDS = (0.35, 6.0)
MIN_NULL = 20  # places on its own track, on all of which the query lies in full, else none counts
MIN_OVERLAP_SECONDS = 0.5  # of a query and a track's sound
PART = 0.9  # of the score counts where part of a query does: fewer blocks have a heavier tail
WORTH_JUDGING = 4.0  # score from which a track, beside the best, is looked at closer
RUNS_PER_SECOND = 70.0  # of equal bits in nearly all music; a lone tone has fewer, and tells less
WORTH_REFINING = 3.5  # score from which speeds in between are tried
PLAIN = 10.0  # score beside which candidates with far fewer hits are passed over
SNAP_SECONDS = 0.75  # a match that ends so near the end of the query or the track ends there
SURE = 1e-5  # p_false at which other speeds are not searched

# Fitted on 1,169 excerpts of 167 tracks, clean and through noise, a room, a codec and at another
# speed, in stores without these tracks; held against 1,162 of the 166 other tracks.
NULL = NullModel(score=3.6, decay=2.85, hours=8.7)
SPEED_TRIALS = 5.0  # what the other speeds count for: few clips play at one


class Backend:
    """Signs of energy differences; for clips through codecs and filters, dense in time.

    Parameters
    ----------
    frame_length : int
        Samples (at 5512 Hz) over which energies are taken; 2048 are 0.37 s.
    hop_length : int
        Samples from one sub-fingerprint to the next; 64 are 11.6 ms.
    density : float
        Hashes per second that a reference stores, about; each takes 6 bytes.
    """

    name = "philips"
    version = 1
    sample_rate = SAMPLE_RATE
    window_seconds = 12.0

    def __init__(
        self, *, frame_length: int = 2048, hop_length: int = 64, density: float = 40.0
    ) -> None:
        for name, length in (("frame_length", frame_length), ("hop_length", hop_length)):
            if not float(length).is_integer():
                raise ValueError(f"{name} must be a whole number of samples, not {length}")
        if not 256 <= frame_length <= 4096:
            raise ValueError(f"frame_length must be 256 to 4096 samples, not {frame_length}")
        if not 32 <= hop_length <= frame_length // 8:
            raise ValueError(
                f"hop_length must be 32 samples to an eighth of a frame, not {hop_length}"
            )
        if not 4 <= density <= 200:
            raise ValueError(f"density must be 4 to 200 hashes a second, not {density}")
        self.frame_length = int(frame_length)
        self.hop_length = int(hop_length)
        self.density = float(density)
        self.hop_seconds = self.hop_length / SAMPLE_RATE
        self._edges = band_edges(self.frame_length, SAMPLE_RATE)
        self._spacing = self._frames(SPACING_SECONDS)
        self._radius = max(round((REGIONS / (self.density * self.hop_seconds) - 1) / 2), 1)
        reach = (self._radius + 4 * self._spacing) * self.hop_seconds
        self.context_seconds = max(2.0, reach + self.frame_length / SAMPLE_RATE)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters that an index is bound to."""
        return {
            "frame_length": self.frame_length,
            "hop_length": self.hop_length,
            "density": self.density,
        }

    def extract(self, samples: F32, *, dense: bool = False) -> Fingerprint:
        """Fingerprint mono samples (n,) at 5512 Hz; see `afp.backends.Backend`."""
        n_frames = -(-len(samples) // self.hop_length)
        if dense:
            query = _Query(
                band_energies(
                    samples,
                    self._edges * SPEEDS[:, None],
                    n_fft=self.frame_length,
                    hop_length=self.hop_length * QUERY_HOPS,
                    quick_start=True,
                ),
                seconds=len(samples) / SAMPLE_RATE,
            )
            times, hashes = self._probes(query, 1.0, PROBES)
            order = np.argsort(times, kind="stable")
            return Fingerprint(
                n_frames,
                times[order].astype(np.uint32),
                hashes=hashes[order],
                dense={"energies": query.energies, "seconds": np.array(query.seconds)},
            )
        energies = band_energies(
            samples, self._edges, n_fft=self.frame_length, hop_length=self.hop_length
        )
        prints = sub_fingerprints(energies)
        frames, hashes = anchor_hashes(prints, spacing=self._spacing, radius=self._radius)
        heard = np.flatnonzero(prints.audible)
        evidence = Evidence(heard.astype(np.uint32), prints.bits[heard])
        return Fingerprint(n_frames, frames, hashes=hashes, evidence=evidence)

    def match(self, query: Fingerprint, index: IndexReader, *, limit: int) -> list[Match]:
        """Look a dense fingerprint up; see `afp.backends.Backend`.

        The query is searched at nominal speed, and at others unless that gives a sure answer.
        """
        clip = _Query(np.ascontiguousarray(query.dense["energies"]), float(query.dense["seconds"]))
        if not len(query):
            return []
        assert query.hashes is not None
        candidates = _candidates(
            index, query.frames.astype(np.int64), query.hashes, 1.0, N_CANDIDATES
        )
        tracks = list(dict.fromkeys(candidate.track_id for candidate in candidates))
        sound = self._joined(index, tracks, clip.seconds)
        found = self._verified(clip, index, candidates, sound, n_trials=1)
        if not found or found[0].p_false > SURE:
            candidates = []
            for speed in OTHER_SPEEDS.tolist():
                times, hashes = self._probes(clip, speed, SPEED_PROBES)
                candidates += _candidates(index, times, hashes, speed, SPEED_CANDIDATES)
            candidates.sort(key=surprise, reverse=True)
            if len(tracks) < COMMON_TRACKS:
                tracks = list(dict.fromkeys(tracks + [each.track_id for each in candidates]))
                sound = self._joined(index, tracks, clip.seconds)
            found += self._verified(clip, index, candidates, sound, n_trials=SPEED_TRIALS)
            found.sort(key=_strength)
        best: dict[int, _Alignment] = {}
        for alignment in found:
            best.setdefault(alignment.track_id, alignment)
        return [self._match(clip, index, each) for each in list(best.values())[:limit]]

    def _frames(self, seconds: float) -> int:
        return max(1, round(seconds / self.hop_seconds))

    def _probes(self, query: "_Query", speed: float, per_second: int) -> tuple[I64, U32]:
        prints = query.prints(speed)
        most = round(per_second * query.seconds)
        step = STEP if speed == 1.0 else SPEED_STEP
        return probe_hashes(prints, spacing=self._spacing, step=step, most=most)

    def _verified(
        self,
        query: "_Query",
        index: IndexReader,
        candidates: Sequence[Candidate],
        sound: Evidence,
        *,
        n_trials: float,
    ) -> list["_Alignment"]:
        """Lay the stored sequences of candidates onto the query, best first."""
        if not candidates:
            return []
        groups: dict[tuple[int, float], list[Candidate]] = {}
        for candidate in candidates:
            groups.setdefault((candidate.track_id, candidate.speed), []).append(candidate)
        # At another speed other bits weigh, and agree by chance to another degree.
        common = {
            speed: common_null(query.soft_bits(speed), sound, N_COMMON)
            for speed in dict.fromkeys(speed for _, speed in groups)
        }
        ranked: list[_Alignment] = []
        enough = 0  # hits below which a candidate is not worth a look beside a plain answer
        for (track_id, speed), group in list(groups.items())[:N_TRACKS]:
            most_aligned = max(candidate.n_aligned for candidate in group)
            if most_aligned < enough:
                continue
            around = np.array([round(candidate.offset) for candidate in group])
            nulls = [null] if (null := common[speed]) else []
            evidence = index.evidence(track_id)
            offset, score = best_offset(query.soft_bits(speed), evidence, around, nulls, stride=3)
            ranked.append(_Alignment(track_id, offset, speed, score, 1.0))
            if score > PLAIN:
                enough = max(enough, most_aligned // 10)
        ranked.sort(key=lambda each: -each.score)
        liveliness = self._liveliness(query)
        looked_at: dict[int, _Alignment] = {}
        for alignment in ranked:
            if alignment.score < WORTH_JUDGING and looked_at:
                break
            if alignment.track_id not in looked_at:
                evidence = self._sound(index, alignment.track_id)
                judged = self._judged(query, evidence, alignment, sound)
                hours = index.n_frames * self.hop_seconds / 3600
                score = judged.score * (liveliness if judged.score > 0 else 1.0)
                p_false = NULL.p_false(score, store_hours=hours, n_trials=n_trials)
                looked_at[alignment.track_id] = replace(judged, score=score, p_false=p_false)
        return sorted(looked_at.values(), key=_strength)

    def _liveliness(self, query: "_Query") -> float:
        """Return what a score counts for: less where the bits hardly change, as in a lone tone."""
        audible = np.count_nonzero(query.prints(1.0).audible) * self.hop_seconds
        enough = RUNS_PER_SECOND * max(audible, self.hop_seconds)
        return float(min(n_runs(query.soft_bits(1.0, step=1)) / enough, 1.0) ** 0.5)

    def _judged(
        self, query: "_Query", evidence: Evidence, alignment: "_Alignment", sound: Evidence
    ) -> "_Alignment":
        """Refine the speed of an alignment, and score it.

        Only that part of the query counts which falls on sound of the track. It is held against
        what chance gives on many tracks and on its own. Either alone is too lenient: the one where
        a track scatters more than others, the other where less.
        """
        speed, around = alignment.speed, round(alignment.offset)
        bits = self._overlap(query, speed, evidence, around)
        nulls = self._nulls(bits, evidence, around, sound)
        offset, score = best_offset(bits, evidence, np.array([around]), nulls)
        if score > WORTH_REFINING:

            def placed(speed: float, around: int) -> tuple[float, float]:
                bits = self._overlap(query, speed, evidence, around)
                return best_offset(bits, evidence, np.array([around]), nulls)

            offset, speed, score = self._climb(query, placed, offset, speed, score, SPEED_STEPS)
            if speed != alignment.speed:
                around = round(offset)
                bits = self._overlap(query, speed, evidence, around)
                nulls = self._nulls(bits, evidence, around, sound)
                offset, score = best_offset(bits, evidence, np.array([around]), nulls)
        if coverage(query.soft_bits(speed), evidence, np.array([round(offset)]))[0] < FULL:
            score *= PART
        return replace(alignment, offset=offset, speed=speed, score=score)

    def _climb(
        self,
        query: "_Query",
        placed: Callable[[float, int], tuple[float, float]],
        offset: float,
        speed: float,
        score: float,
        steps: Sequence[float],
    ) -> tuple[float, float, float]:
        """Go from an offset and a speed to where a score is highest; return these and that."""
        middle = 0.5 * query.seconds / self.hop_seconds
        for step in steps:
            climbing = True
            while climbing:
                climbing = False
                for turned in (speed - step, speed + step):
                    if not SPEEDS[0] - 1e-6 <= turned <= SPEEDS[-1] + 1e-6:
                        continue
                    around = round(offset - (turned - speed) * middle)  # about its middle
                    found, better = placed(turned, around)
                    if better > score:
                        offset, speed, score = found, turned, better
                        climbing = True
                        break
        return offset, speed, score

    def _sound(self, index: IndexReader, track_id: int) -> Evidence:
        """Return the evidence of a track, but for frames that are in part silent."""
        length = index.track(track_id).duration_seconds * SAMPLE_RATE - self.frame_length
        last, margin = int(length) // self.hop_length, self.frame_length // self.hop_length
        return without_edges(index.evidence(track_id), margin, last)

    def _joined(self, index: IndexReader, tracks: Sequence[int], seconds: float) -> Evidence:
        """Join the sound of many tracks, without the silence between."""
        if not tracks:
            return Evidence(np.empty(0, np.uint32), np.empty(0, np.uint32))
        tracks = tracks[:COMMON_TRACKS]
        length = self._frames(COMMON_LENGTHS * seconds) // len(tracks) + 1
        pieces = []
        for track_id in tracks:
            values = self._sound(index, track_id).values
            first = max(len(values) - length, 0) // 2
            pieces.append(values[first : first + length])
        n = sum(map(len, pieces))
        pieces.sort(key=lambda piece: piece[:8].tolist())  # whatever the order in the store
        return Evidence(np.arange(n, dtype=np.uint32), np.concatenate(pieces))

    def _overlap(self, query: "_Query", speed: float, evidence: Evidence, offset: int) -> SoftBits:
        bits = query.soft_bits(speed)
        whole = coverage(bits, evidence, np.array([offset]))[0] >= FULL
        return bits if whole else overlap(bits, evidence, offset)

    def _nulls(
        self, bits: SoftBits, evidence: Evidence, centre: int, sound: Evidence
    ) -> list[BlockNull]:
        """Learn what chance gives, on many tracks and on one; none where that cannot be told."""
        if np.count_nonzero(bits.weights()) * bits.step < self._frames(MIN_OVERLAP_SECONDS):
            return []
        nulls = [common_null(bits, sound, N_COMMON), self._own_null(bits, evidence, centre)]
        return [null for null in nulls if null]

    def _own_null(self, bits: SoftBits, evidence: Evidence, centre: int) -> BlockNull | None:
        """Learn what chance gives on one track, near the place in question and elsewhere."""
        nearest, furthest = map(self._frames, NEAR_SECONDS)
        steps = np.linspace(nearest, furthest, N_NEAR // 2).astype(np.int64)
        far = spread(bits, evidence, N_FAR)
        places = np.concatenate([centre - steps, centre + steps, far[abs(far - centre) > nearest]])
        places = places[coverage(bits, evidence, places) >= FULL]
        if len(places) < MIN_NULL or not is_long_enough(bits, evidence):
            return None
        return BlockNull.fit(agreements(bits, evidence, places), bits.chance())

    def _match(self, query: "_Query", index: IndexReader, alignment: "_Alignment") -> Match:
        track = index.track(alignment.track_id)
        evidence = index.evidence(alignment.track_id)
        offset, speed = alignment.offset, alignment.speed
        if alignment.score > WORTH_REFINING:

            def placed(speed: float, around: int) -> tuple[float, float]:
                return best_share(query.soft_bits(speed, step=1), evidence, around)

            offset, share = placed(speed, round(offset))
            offset, speed, _ = self._climb(query, placed, offset, speed, share, SPEED_STEPS[1:])
        prints, frame = query.prints(speed), round(offset)
        bits = soft_bits(prints.bits, prints.odds, n_blocks=len(prints))
        first, last = agreeing_stretch(bits, evidence, frame)
        inside = slice(first, last)
        errors = bit_errors(prints.bits[inside], prints.audible[inside], evidence, frame + first)
        before, here, after = agreements(bits, evidence, frame + np.arange(-1, 2)).sum(axis=1)
        bend = min(before - 2 * here + after, -1e-6)
        offset = frame + min(max(0.5 * (before - after) / bend, -0.5), 0.5)
        hop, half = self.hop_seconds, 0.5 * self.frame_length / SAMPLE_RATE
        # The centres of frames meet, not their starts.
        shift = offset * hop + half * (1 - speed)
        lowest = max(0.0, -shift / speed)
        highest = min(query.seconds, (track.duration_seconds - shift) / speed)
        start, end = first * hop / speed + half, last * hop / speed + half
        start = lowest if start < lowest + half + SNAP_SECONDS else start
        end = highest if end > highest - half - SNAP_SECONDS else end
        return Match(
            track=track,
            query_start=start,
            query_end=max(end, start),
            track_start=shift + speed * start,
            track_end=shift + speed * max(end, start),
            score=alignment.score,
            p_false=alignment.p_false,
            speed=speed,
            pitch=speed,
            backend=self.name,
            details={"ber": errors.rate},
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    """The query side, as `Fingerprint.dense` carries it.

    Attributes
    ----------
    energies : ndarray of float32, shape (n_speeds, n, 33)
        Band energies of every `QUERY_HOPS`-th frame, in the bands that a reference's fall into
        when the query plays at each of `SPEEDS`.
    seconds : float
        Length of the query.
    """

    energies: F32
    seconds: float
    _prints: dict[float, SubFingerprints] = field(default_factory=dict)
    _bits: dict[tuple[float, int], SoftBits] = field(default_factory=dict)

    def soft_bits(self, speed: float, step: int = VERIFIED_STEP) -> SoftBits:
        """Return the bits to lay onto tracks, when the query plays at a speed."""
        if (speed, step) not in self._bits:
            prints, n_blocks = self.prints(speed), max(1, round(self.seconds / BLOCK_SECONDS))
            bits = soft_bits(prints.bits, prints.odds, n_blocks=n_blocks, step=step)
            self._bits[speed, step] = bits
        return self._bits[speed, step]

    def prints(self, speed: float) -> SubFingerprints:
        """Return the sub-fingerprints on the track's clock, when the query plays at a speed."""
        if speed not in self._prints:
            self._prints[speed] = self._prints_at(speed)
        return self._prints[speed]

    def _prints_at(self, speed: float) -> SubFingerprints:
        n = self.energies.shape[1]
        if not n:
            return sub_fingerprints(np.empty((0, self.energies.shape[2]), np.float32))
        place = float(np.clip((speed - SPEEDS[0]) / (SPEEDS[1] - SPEEDS[0]), 0, len(SPEEDS) - 1))
        below = min(int(place + 1e-6), len(SPEEDS) - 2)
        weight = np.float32(place - below)
        energies = self.energies[below]
        if weight > 1e-3:
            energies = (1 - weight) * energies + weight * self.energies[below + 1]
        step = 1 / (speed * QUERY_HOPS)
        times = np.arange(0.0, n - 1 + 1e-9, step)
        return sub_fingerprints(energies_between(energies, times), noisy=True)


@dataclass(frozen=True, slots=True)
class _Alignment:
    """A verified candidate."""

    track_id: int
    offset: float  # track time minus speed times query time, in frames
    speed: float
    score: float  # standard score among places where the query does not match
    p_false: float


def _strength(alignment: _Alignment) -> tuple[float, float]:
    return alignment.p_false, -alignment.score


def _candidates(
    index: IndexReader, times: I64, hashes: U32, speed: float, most: int
) -> list[Candidate]:
    """Find the peaks of the offset histograms over all segments."""
    if not len(hashes):
        return []
    candidates: list[Candidate] = []
    lists = index.lookup(hashes)
    for hits in lists.gather(rarest(lists.counts, MAX_HITS)):
        candidates += vote(hits, times, fineness=1, width=HISTOGRAM_WIDTH, most=most, speed=speed)
    return sorted(candidates, key=surprise, reverse=True)[:most]
