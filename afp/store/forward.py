"""The forward index: what each track has in the inverted indexes, read back track by track.

An inverted index is sorted by hash; here the postings of some tracks at a time are picked out of it
and sorted by track and frame. Whatever is read has passed its checksum.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.fingerprint import I64
from afp.store import records
from afp.store.manifest import read_manifest
from afp.store.packing import StoredFingerprint
from afp.store.postings import U64, pair, sort, unmix
from afp.store.records import ANEW, REPLACE, DamagedStoreError
from afp.store.segment import Segment
from afp.store.segment_writer import Source
from afp.store.snapshot import Snapshot, read_tails
from afp.store.tails import source_of

CHUNK_POSTINGS = 1 << 22  # read back at a time, what bounds the memory: some 24 bytes a posting
CHUNK_BYTES = 1 << 26  # of packed fingerprints
CHUNK_TRACKS = 1024
_STEP_POSTINGS = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that holds a track: its path, size in bytes and mtime in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """A track as a store holds it, without its number there.

    Attributes
    ----------
    content_id, duration_seconds, title, artist, album, partial
        As in `afp.fingerprint.Track`.
    files : sequence of StoredFile
        Those that hold it, the one seen last first.
    fingerprints : mapping of str to StoredFingerprint
        By backend.
    """

    content_id: str
    duration_seconds: float
    title: str | None
    artist: str | None
    album: str | None
    partial: str | None
    files: Sequence[StoredFile]
    fingerprints: Mapping[str, StoredFingerprint]

    @property
    def n_postings(self) -> int:
        """Postings of all backends."""
        return sum(len(fingerprint.frames) for fingerprint in self.fingerprints.values())


def read_tracks(
    snapshot: Snapshot, track_ids: Sequence[int], backends: Sequence[str]
) -> Iterator[list[StoredTrack]]:
    """Read tracks back, in their order, as many at a time as memory should hold.

    Parameters
    ----------
    snapshot : Snapshot
        Open for as long as this is iterated over.
    track_ids : sequence of int
        Of tracks that the snapshot has.
    backends : sequence of str
        Whose fingerprints to read.

    Raises
    ------
    DamagedStoreError
        When one of the parts that hold the tracks is damaged.
    """
    indexes = {name: _ForwardIndex(snapshot, name) for name in backends}
    for chunk in _chunks(track_ids, list(indexes.values())):
        fingerprints: dict[int, dict[str, StoredFingerprint]] = {i: {} for i in chunk}
        for name, index in indexes.items():
            for track_id, fingerprint in index.read(chunk):
                fingerprints[track_id][name] = fingerprint
        yield [_track(snapshot, track_id, found) for track_id, found in fingerprints.items()]


def _track(
    snapshot: Snapshot, track_id: int, fingerprints: Mapping[str, StoredFingerprint]
) -> StoredTrack:
    record = snapshot.catalogue.require(track_id)
    files = []
    for key in record.paths:
        known = snapshot.catalogue.path_entry(bytes.fromhex(key))
        if known is None:
            raise DamagedStoreError(f"track {track_id} has lost a path", hint=ANEW)
        files.append(StoredFile(known.path, known.size, known.mtime_ns))
    return StoredTrack(
        record.content_id,
        record.duration_seconds,
        record.title,
        record.artist,
        record.album,
        record.partial,
        files,
        fingerprints,
    )


def _chunks(
    track_ids: Sequence[int], indexes: "Sequence[_ForwardIndex]"
) -> Iterator[Sequence[int]]:
    """Cut tracks into stretches of bounded size, of one track at least."""
    ids = np.asarray(track_ids, np.int64)
    postings, n_bytes = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    for index in indexes:
        postings += index.counts(ids)
        n_bytes += index.sizes(ids)
    totals = np.cumsum(postings), np.cumsum(n_bytes)
    start = 0
    while start < len(ids):
        stop = start + CHUNK_TRACKS
        for total, each, most in (
            (totals[0], postings, CHUNK_POSTINGS),
            (totals[1], n_bytes, CHUNK_BYTES),
        ):
            before = int(total[start] - each[start])
            stop = min(stop, int(np.searchsorted(total, before + most, side="right")))
        stop = max(stop, start + 1)
        yield ids[start:stop].tolist()
        start = stop


class _ForwardIndex:
    """What one backend has of each track."""

    def __init__(self, snapshot: Snapshot, backend: str) -> None:
        backend_id = snapshot.backends[backend].id
        catalogue = snapshot.catalogue
        self._sources: list[Source] = [
            snapshot.segments[record.id] for record in read_manifest(catalogue, backend_id).segments
        ]
        self._tails = read_tails(catalogue, backend_id)
        if self._tails:
            self._sources.append(source_of(self._tails))
        self._verified: set[int] = set()
        axes = [source.axis for source in self._sources]
        empty = [np.zeros(0, np.int64)]
        ids = np.concatenate(empty + [axis.track_ids for axis in axes])
        places = [np.arange(len(axis.track_ids)) for axis in axes]
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._source_of = np.repeat(np.arange(len(axes)), [len(axis.track_ids) for axis in axes])
        self._place_of = np.concatenate(empty + places)
        self._counts = np.concatenate(empty + [axis.counts.astype(np.int64) for axis in axes])
        self._sizes = np.concatenate(empty + [axis.sizes.astype(np.int64) for axis in axes])

    def _find(self, ids: I64) -> tuple[npt.NDArray[np.bool_], I64]:
        """Tell which tracks are in the index, and where those are."""
        at = np.searchsorted(self._ids, ids)
        found = at < len(self._ids)
        found[found] = self._ids[at[found]] == ids[found]
        return found, self._order[at[found]].astype(np.int64)

    def counts(self, ids: I64) -> I64:
        """Return the number of postings of each track."""
        return self._of_each(self._counts, ids)

    def sizes(self, ids: I64) -> I64:
        """Return the size of each track's packed fingerprint, in bytes."""
        return self._of_each(self._sizes, ids)

    def _of_each(self, values: I64, ids: I64) -> I64:
        found, rows = self._find(ids)
        each = np.zeros(len(ids), np.int64)
        each[found] = values[rows]
        return each

    def read(self, track_ids: Sequence[int]) -> Iterator[tuple[int, StoredFingerprint]]:
        """Yield the tracks that the index has, in no certain order."""
        _, rows = self._find(np.asarray(track_ids, np.int64))
        for number in np.unique(self._source_of[rows]).tolist():
            source = self._sources[number]
            if isinstance(source, Segment) and number not in self._verified:
                for fault in source.damage():
                    raise DamagedStoreError(fault, hint=REPLACE)
                self._verified.add(number)
            places = np.sort(self._place_of[rows[self._source_of[rows] == number]])
            yield from self._read(source, places)

    def _read(
        self, source: Source, places: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, StoredFingerprint]]:
        axis = source.axis
        keys = _by_position(source, places)
        positions, mixed = (keys >> np.uint64(32)).astype(np.uint32), keys.astype(np.uint32)
        hashes = unmix(mixed)
        bases, n_frames = axis.bases[places], axis.n_frames[places]
        starts = np.searchsorted(positions, bases)
        stops = np.searchsorted(positions, bases + n_frames)
        for place, base, length, start, stop in zip(
            *(array.tolist() for array in (places, bases, n_frames, starts, stops)), strict=True
        ):
            track_id = int(axis.track_ids[place])
            sealed = (
                source.fingerprint(place)
                if isinstance(source, Segment)
                else self._tails[place].fingerprint
            )
            what = f"the fingerprint of track {track_id}"
            payload = records.unseal(records.track_key(track_id), sealed, what, REPLACE)
            frames = positions[start:stop] - np.uint32(base)
            if len(frames) != axis.counts[place]:
                raise DamagedStoreError(
                    f"track {track_id} has {len(frames)} postings where {axis.counts[place]} are "
                    "counted",
                    hint=REPLACE,
                )
            yield (
                track_id,
                StoredFingerprint(length, frames, hashes[start:stop], bytes(payload)),
            )


def _by_position(source: Source, places: npt.NDArray[np.int64]) -> U64:
    """Pick the postings of some tracks of a source; return position and mixed hash, sorted."""
    axis = source.axis
    low = axis.bases[places[0]]
    span = axis.bases[places[-1]] + axis.n_frames[places[-1]] - low
    wanted = np.zeros(len(axis.bases), np.bool_)
    wanted[places] = True
    is_contiguous = places[-1] - places[0] + 1 == len(places)
    n_postings = int(axis.counts.sum(dtype=np.int64))
    bits = min((n_postings // _STEP_POSTINGS).bit_length(), 8)
    picked: list[U64] = []
    for step in range(1 << bits):
        keys = source.keys_between(step, step + 1, bits)
        inside = keys.astype(np.uint32) - low < span  # below `low` they wrap around
        keys = keys[inside]
        if not is_contiguous:
            of_track = np.searchsorted(axis.bases, keys.astype(np.uint32), side="right") - 1
            keys = keys[wanted[of_track]]
        picked.append(keys)
    keys = np.concatenate(picked)
    return sort(pair(keys.astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)))
