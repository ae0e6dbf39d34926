"""Writing a backend's index: tails for single tracks, segments for batches, merges."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

import numpy as np

from afp.errors import StoreError
from afp.fingerprint import F32, U32
from afp.store import packing, records
from afp.store.axis import LAST_STOP, Axis, axis_stop
from afp.store.catalogue import Catalogue
from afp.store.manifest import (
    NEXT_SEGMENT,
    Manifest,
    fitting,
    read_manifest,
    write_segments,
    write_tail_state,
)
from afp.store.packing import Storable, StoredFingerprint
from afp.store.postings import mix, pair, sort
from afp.store.segment import BYTES_A_POSTING, DamagedSegmentError, Segment, SegmentRecord
from afp.store.segment_writer import SortedKeys, Source, write_segment
from afp.store.snapshot import dead_tracks, read_tails
from afp.store.tails import Tail, source_of

_FAULT = "this is a fault of the backend: tell its author"

# A batch of so many tracks, or of the weight of so many postings, becomes a segment straight away.
BATCH_TRACKS = 16
BATCH_POSTINGS = 1 << 16


def check_fingerprint(fingerprint: Storable, whose: str) -> None:
    """Refuse a fingerprint that cannot be stored.

    Raises
    ------
    StoreError
        When its arrays contradict each other.
    """
    hashes, frames, evidence = fingerprint.hashes, fingerprint.frames, None
    hint = _FAULT
    if not isinstance(fingerprint, StoredFingerprint):
        evidence = fingerprint.evidence
        if hashes is None and fingerprint.vectors is None:
            raise StoreError(f"{whose}: a fingerprint without hashes and vectors", hint=hint)
        if fingerprint.vectors is not None:
            if evidence is not None:
                raise StoreError(
                    f"{whose}: a fingerprint has either vectors or evidence", hint=hint
                )
            _check_vectors(fingerprint.vectors, frames, whose)
    pairs = [] if hashes is None else [(frames, hashes)]
    pairs += [] if evidence is None else [(evidence.frames, evidence.values)]
    for times, values in pairs:
        if times.shape != values.shape or times.ndim != 1:
            raise StoreError(f"{whose}: {len(times)} frames, {len(values)} values", hint=hint)
        if times.dtype != np.uint32 or values.dtype != np.uint32:
            raise StoreError(f"{whose}: frames and values must be uint32", hint=hint)
        if np.any(times[1:] < times[:-1]):
            raise StoreError(f"{whose}: its frames decrease", hint=hint)
    if length(fingerprint) >= 1 << 31:
        raise StoreError(f"{whose}: it is longer than 2**31 frames", hint="cut the file in pieces")


def _check_vectors(vectors: F32, frames: U32, whose: str) -> None:
    if vectors.ndim != 2 or frames.shape != vectors.shape[:1] or frames.dtype != np.uint32:
        raise StoreError(
            f"{whose}: {frames.dtype} frames of shape {frames.shape}, vectors of {vectors.shape}",
            hint=_FAULT,
        )
    if not np.isfinite(vectors).all():
        raise StoreError(f"{whose}: its vectors are not all finite", hint=_FAULT)
    if np.any(frames[1:] <= frames[:-1]):
        raise StoreError(f"{whose}: its vectors are not one a frame, in order", hint=_FAULT)


def _postings(fingerprint: Storable) -> tuple[U32, U32]:
    """Return hashes and frames of the postings; embeddings may be without."""
    if fingerprint.hashes is None:
        return np.empty(0, np.uint32), np.empty(0, np.uint32)
    return fingerprint.hashes, fingerprint.frames


def length(fingerprint: Storable) -> int:
    """Return the frames that a fingerprint takes on an axis."""
    last = int(fingerprint.frames[-1]) + 1 if len(fingerprint.frames) else 0
    return max(int(fingerprint.n_frames), last)


def _vector_bytes(fingerprint: Storable) -> int:
    """Return the size of what a merge copies beside the postings, where that is much."""
    if isinstance(fingerprint, StoredFingerprint):
        return len(fingerprint.payload)
    return 0 if fingerprint.vectors is None else fingerprint.vectors.size


@dataclass(slots=True)
class Batch:
    """Fingerprints of one backend on their way into its index."""

    track_ids: list[int] = field(default_factory=list)
    fingerprints: list[Storable] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """What to store all fingerprints costs, in postings."""
        n_bytes = sum(_vector_bytes(each) for each in self.fingerprints)
        n_postings = sum(len(_postings(each)[0]) for each in self.fingerprints)
        return n_postings + n_bytes // BYTES_A_POSTING

    @property
    def stop(self) -> int:
        """Length of an axis of their own."""
        n_frames = sum(length(fingerprint) for fingerprint in self.fingerprints)
        return axis_stop(len(self.fingerprints), n_frames)

    def tails(self, base: int) -> list[Tail]:
        """Return the fingerprints as tails, the first behind `base`."""
        axis, packed = self._lay()
        found = []
        for i, fingerprint in enumerate(self.fingerprints):
            hashes, at_frames = _postings(fingerprint)
            keys = sort(pair(mix(hashes), at_frames))
            mixed, frames = (keys >> np.uint64(32)).astype(np.uint32), keys.astype(np.uint32)
            at = base + int(axis.bases[i])
            n_frames = int(axis.n_frames[i])
            found.append(Tail(self.track_ids[i], at, n_frames, mixed, frames, packed[i]))
        return found

    def source(self) -> SortedKeys:
        """Return the fingerprints as a source of a segment."""
        axis, packed = self._lay()
        postings = [_postings(fingerprint) for fingerprint in self.fingerprints]
        mixed = mix(np.concatenate([hashes for hashes, _ in postings]))
        positions = np.concatenate([frames for _, frames in postings])
        positions += np.repeat(axis.bases, axis.counts)
        return SortedKeys(axis, sort(pair(mixed, positions)), packed)

    def _lay(self) -> tuple[Axis, list[bytes]]:
        """Lay the tracks on an axis of their own, and pack their fingerprints."""
        packed = [
            records.seal(records.track_key(track_id), packing.pack(fingerprint))
            for track_id, fingerprint in zip(self.track_ids, self.fingerprints, strict=True)
        ]
        axis = Axis.lay(
            self.track_ids,
            [length(fingerprint) for fingerprint in self.fingerprints],
            [len(_postings(fingerprint)[0]) for fingerprint in self.fingerprints],
            [len(sealed) for sealed in packed],
        )
        return axis, packed


class IndexWriter:
    """Changes one backend's index within a write transaction.

    Segment files that a transaction replaces are deleted after it, those that an aborted one wrote
    when the store is opened for writing next: no manifest names them.
    """

    def __init__(self, folder: Path, catalogue: Catalogue, backend_id: int) -> None:
        self._folder = folder
        self._catalogue = catalogue
        self.backend_id = backend_id
        self.manifest: Manifest = read_manifest(catalogue, backend_id)

    def add(self, batch: Batch) -> None:
        """Add fingerprints and their postings, but for tracks that the same batch has removed."""
        batch = self._without_removed(batch)
        if not batch.track_ids:
            return
        if (
            len(batch.track_ids) >= BATCH_TRACKS
            or batch.weight >= BATCH_POSTINGS
            or self.manifest.tail_stop + batch.stop > LAST_STOP
        ):
            self._append(self._write([batch.source()]))
            return
        for tail in batch.tails(self.manifest.tail_stop):
            key = records.backend_track_key(self.backend_id, tail.base)
            self._catalogue.put("tails", key, tail.pack())
            self.manifest.n_tails += 1
            self.manifest.n_tail_postings += len(tail.mixed)
            self.manifest.n_tail_frames += tail.n_frames
        write_tail_state(self._catalogue, self.backend_id, self.manifest)

    def flush_tails(self) -> list[SegmentRecord]:
        """Turn the tails into a segment; return the segments that it replaces: none."""
        if not self.manifest.n_tails:
            return []
        tails = read_tails(self._catalogue, self.backend_id)
        record = self._write([source_of(tails)])
        for tail in tails:
            key = records.backend_track_key(self.backend_id, tail.base)
            self._catalogue.delete("tails", key)
        self.manifest.n_tails = self.manifest.n_tail_postings = self.manifest.n_tail_frames = 0
        write_tail_state(self._catalogue, self.backend_id, self.manifest)
        self._append(record)
        self._purge([tail.track_id for tail in tails])
        return []

    def merge(self, span: tuple[int, int]) -> list[SegmentRecord]:
        """Merge the segments ``start <= i < stop`` into one; return those that it replaces.

        Raises
        ------
        DamagedSegmentError
            When one of them is damaged; nothing has changed then.
        """
        start, stop = span
        old = self.manifest.segments[start:stop]
        sources = [self._sound(record) for record in old]
        record = self._write(sources)
        self.manifest.segments[start:stop] = [record] if record else []
        write_segments(self._catalogue, self.backend_id, self.manifest)
        self._purge([int(track) for source in sources for track in source.axis.track_ids])
        return old

    def merge_all(self) -> list[SegmentRecord]:
        """Merge everything into as few segments as hold it, without removed tracks.

        Raises
        ------
        DamagedSegmentError
            When a segment is damaged; abort the transaction then.
        """
        self.flush_tails()
        replaced: list[SegmentRecord] = []
        start = 0
        dead = len(dead_tracks(self._catalogue, self.backend_id)) > 0
        while start < len(self.manifest.segments):
            before = len(self.manifest.segments)
            count = max(fitting(self.manifest.segments[start:]), 1)
            if dead or count > 1:
                replaced += self.merge((start, start + count))
            start += len(self.manifest.segments) - (before - count)
        return replaced

    def _sound(self, record: SegmentRecord) -> Segment:
        """Open a segment whose checksums all fit, but for one of removed tracks alone.

        A merge writes checksums of its own, which would hide the damage. It takes nothing of
        removed tracks, so that removing all of its tracks gets rid of a damaged segment.
        """
        try:
            segment = Segment.open(self._folder, record)
        except StoreError as error:
            raise DamagedSegmentError(record.id, str(error), error.hint) from error
        if segment.axis.alive(dead_tracks(self._catalogue, self.backend_id)).any():
            for fault in segment.damage():
                raise DamagedSegmentError(record.id, fault)
        return segment

    def _without_removed(self, batch: Batch) -> Batch:
        keys = [records.backend_track_key(self.backend_id, i) for i in batch.track_ids]
        kept = [not self._catalogue.delete("tombstones", key) for key in keys]
        return Batch(
            list(compress(batch.track_ids, kept)), list(compress(batch.fingerprints, kept))
        )

    def _write(self, sources: Sequence[Source]) -> SegmentRecord | None:
        dead = dead_tracks(self._catalogue, self.backend_id)
        segment_id = self._catalogue.take_number(NEXT_SEGMENT)
        return write_segment(self._folder, segment_id, sources, dead)

    def _append(self, record: SegmentRecord | None) -> None:
        if record:
            self.manifest.segments.append(record)
            write_segments(self._catalogue, self.backend_id, self.manifest)

    def _purge(self, track_ids: Sequence[int]) -> None:
        """Delete the tombstones of tracks that a merge has just left out."""
        dead = set(dead_tracks(self._catalogue, self.backend_id).tolist())
        for track_id in dead.intersection(track_ids):
            key = records.backend_track_key(self.backend_id, track_id)
            self._catalogue.delete("tombstones", key)
