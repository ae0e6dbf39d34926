"""Manifests: which segments make up a backend's index, and when they merge."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from afp.store import records
from afp.store.axis import LAST_STOP, axis_stop
from afp.store.catalogue import Catalogue
from afp.store.records import DamagedStoreError
from afp.store.segment import SegmentRecord

NEXT_SEGMENT = b"next_segment_id"
FAN_OUT = 8
CHEAP_POSTINGS = 1 << 19  # what merges in about a tenth of a second
EAGER_POSTINGS = 1 << 24  # what merges in a few seconds
EAGER_SHARE = 10  # a tenth of the postings
TAIL_TRACKS = 64
TAIL_POSTINGS = 1 << 19
_SMALLEST = 1 << 16  # postings; all segments below are of one tier


@dataclass(slots=True)
class Manifest:
    """A backend's index.

    Attributes
    ----------
    segments : list of SegmentRecord
        In order.
    n_tails, n_tail_postings, n_tail_frames : int
        What is in tails.
    """

    segments: list[SegmentRecord] = field(default_factory=list)
    n_tails: int = 0
    n_tail_postings: int = 0
    n_tail_frames: int = 0

    @property
    def n_postings(self) -> int:
        """Postings, those of removed tracks included."""
        return self.n_tail_postings + sum(segment.n_postings for segment in self.segments)

    @property
    def n_tracks(self) -> int:
        """Tracks, removed ones included."""
        return self.n_tails + sum(segment.n_tracks for segment in self.segments)

    @property
    def tail_stop(self) -> int:
        """Length of the axis of the tails."""
        return axis_stop(self.n_tails, self.n_tail_frames)

    @property
    def tails_due(self) -> bool:
        """Whether the tails are to become a segment."""
        return (
            self.n_tails >= TAIL_TRACKS
            or self.n_tail_postings >= TAIL_POSTINGS
            or self.tail_stop > LAST_STOP // 2
        )

    def due_merge(self, damaged: Collection[int] = ()) -> tuple[int, int] | None:
        """Return the stretch ``start <= i < stop`` of segments to merge next, or None.

        Without the segments whose ids are among the damaged ones.

        Size-tiered: `FAN_OUT` adjacent segments of a tier become one of the next (after Lucene's
        LogMergePolicy); smaller ones between them go along.
        """
        for start, stop in self._stretches(damaged):
            due = _due_tier(self.segments[start:stop])
            if due is not None:
                return start + due[0], start + due[1]
        return None

    def due_merge_at_rest(self, damaged: Collection[int] = ()) -> tuple[int, int] | None:
        """Return the stretch of segments to merge at the end of a run, or None.

        An index that merges fast becomes one segment; a larger one does when a tenth of its
        postings or more lies outside its largest segment, so that adding track after track
        rewrites about ten postings for one added; the largest are left to `due_merge`.
        """
        for start, stop in self._stretches(damaged):
            segments = self.segments[start:stop]
            sizes = [segment.weight for segment in segments]
            total, outside = sum(sizes), sum(sizes) - max(sizes)
            few = total >= CHEAP_POSTINGS and EAGER_SHARE * outside < total
            n = 0 if few or total >= EAGER_POSTINGS else fitting(segments)
            if n >= 2:
                return start, start + n
        return None

    def _stretches(self, damaged: Collection[int]) -> Iterator[tuple[int, int]]:
        """Yield the stretches of segments, as long as they are, between the damaged ones."""
        numbered = enumerate(self.segments)
        for is_damaged, group in groupby(numbered, lambda item: item[1].id in damaged):
            if not is_damaged:
                places = [i for i, _ in group]
                yield places[0], places[-1] + 1


def fitting(segments: Sequence[SegmentRecord]) -> int:
    """Return how many segments from the first on fit on one axis and in one directory."""
    position = postings = 0
    for i, segment in enumerate(segments):
        position += axis_stop(segment.n_tracks, segment.n_frames)
        postings += segment.n_postings
        if position > LAST_STOP or postings >= 1 << 32:
            return i
    return len(segments)


def _due_tier(segments: Sequence[SegmentRecord]) -> tuple[int, int] | None:
    """Return which stretch of adjacent segments is due as a tier is full, or None."""
    tiers = [_tier(segment.weight) for segment in segments]
    start = 0
    while start < len(tiers):
        top = max(tiers[start:])
        stop = max(i for i, tier in enumerate(tiers) if tier == top) + 1
        if stop - start >= FAN_OUT:
            end = start + fitting(segments[start:stop])
            if end - start >= 2:
                return start, end
            start += 1
        else:
            start = stop
    return None


def _tier(n_postings: int) -> int:
    tier, size = 0, _SMALLEST * FAN_OUT
    while n_postings >= size:
        tier, size = tier + 1, size * FAN_OUT
    return tier


def read_manifest(catalogue: Catalogue, backend_id: int) -> Manifest:
    """Read a registered backend's manifest.

    Raises
    ------
    DamagedStoreError
        When it is not there, or fails its checksum.
    """
    key = records.backend_key(backend_id)
    segments = catalogue.get("manifests", key + b"s")
    tails = catalogue.get("manifests", key + b"t")
    if segments is None or tails is None:
        raise DamagedStoreError(f"the index of backend {backend_id} is lost", hint=records.ANEW)
    found = [SegmentRecord(**segment) for segment in records.from_json(segments)]
    return Manifest(found, *records.from_json(tails))


def write_segments(catalogue: Catalogue, backend_id: int, manifest: Manifest) -> None:
    """Write the segments of a manifest."""
    payload = records.to_json([segment.to_dict() for segment in manifest.segments])
    catalogue.put("manifests", records.backend_key(backend_id) + b"s", payload)


def write_tail_state(catalogue: Catalogue, backend_id: int, manifest: Manifest) -> None:
    """Write what a manifest says of the tails."""
    state = [manifest.n_tails, manifest.n_tail_postings, manifest.n_tail_frames]
    catalogue.put("manifests", records.backend_key(backend_id) + b"t", records.to_json(state))
