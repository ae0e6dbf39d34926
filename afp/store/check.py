"""Verification of a whole store: every checksum, every cross-reference."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from afp.errors import StoreError
from afp.store import packing, records
from afp.store.catalogue import TABLES, Catalogue
from afp.store.manifest import Manifest, read_manifest
from afp.store.records import BackendRecord, KnownPath, TrackRecord
from afp.store.segment import Segment
from afp.store.snapshot import Snapshot
from afp.store.tails import Tail, axis_of

_T = TypeVar("_T")
_CATALOGUE = f"the catalogue is damaged: {records.REPLACE}"


def check(snapshot: Snapshot) -> list[str]:
    """Return what is wrong with a store, a line each, and what mends it; nothing for a sound one.

    What a damaged catalogue says of the indexes is not compared with them.
    """
    found = _Check(snapshot.catalogue)
    faults = list(found.of_catalogue()) or list(found.of_indexes(snapshot.segments))
    return list(dict.fromkeys(faults))


def check_catalogue(catalogue: Catalogue) -> list[str]:
    """Return what is wrong with the catalogue alone, a line each, and what mends it."""
    return list(dict.fromkeys(_Check(catalogue).of_catalogue()))


class _Check:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._problems: list[str] = []
        self._tracks = self._table("tracks", records.track_of, TrackRecord.unpack)
        self._paths = self._table("paths", bytes, KnownPath.unpack)
        self._contents = self._table(
            "content", bytes, lambda payload: records.track_of(bytes(payload))
        )
        self._table("header", bytes, bytes)
        self._table("failures", bytes, records.Failure.unpack)
        self._backends = self._table("backends", bytes, records.BackendRecord.unpack)
        self._tombstones = self._table("tombstones", records.backend_track_of, bytes)
        self._tails = self._table("tails", records.backend_track_of, Tail.unpack)

    def of_catalogue(self) -> Iterator[str]:
        faults = [
            *self._problems,
            *_cross_check(self._tracks, self._paths, self._contents),
            *self._of_backends(),
        ]
        yield from faults
        if faults:
            yield _CATALOGUE

    def of_indexes(self, segments: Mapping[int, Segment]) -> Iterator[str]:
        """Check the indexes that the catalogue names."""
        for backend in self._backends.values():
            manifest = self._manifest(backend.id)
            if not isinstance(manifest, str):
                yield from self._index(backend, manifest, segments)

    def _table(
        self, table: str, key_of: Callable[[bytes], Any], value_of: Callable[[memoryview], _T]
    ) -> dict[Any, _T]:
        """Read a table; what cannot be read goes to the problems."""
        found = {}
        try:
            for key, value in self._catalogue.values(table):
                name = f"{table}: record {key.hex()}"
                try:
                    found[key_of(key)] = value_of(records.unseal(TABLES[table] + key, value, name))
                except StoreError as error:
                    self._problems.append(str(error))
                except Exception as error:
                    self._problems.append(f"{name} makes no sense: {error!r}")
        except StoreError as error:
            self._problems.append(f"{table}: {error}")
        return found

    def _manifest(self, backend_id: int) -> Manifest | str:
        try:
            return read_manifest(self._catalogue, backend_id)
        except (StoreError, TypeError, ValueError) as error:
            return str(error)

    def _tails_of(self, backend_id: int) -> list[Tail]:
        return [tail for (number, _), tail in self._tails.items() if number == backend_id]

    def _of_backends(self) -> Iterator[str]:
        known = {backend.id for backend in self._backends.values()}
        for track_id, record in self._tracks.items():
            if not known.issuperset(record.backends):
                yield f"tracks: {track_id} is in the index of a backend that is not stored"
        for backend in self._backends.values():
            name = backend.name
            manifest = self._manifest(backend.id)
            if isinstance(manifest, str):
                yield f"{name}: its manifest cannot be read: {manifest}"
                continue
            tails = self._tails_of(backend.id)
            for tail in tails:
                yield from (
                    f"{name}: {line}" for line in _fingerprint(tail.track_id, tail.fingerprint)
                )
            if len(tails) != manifest.n_tails:
                yield f"{name}: {len(tails)} tails where {manifest.n_tails} are counted"
            elif not np.array_equal(axis_of(tails).bases, [tail.base for tail in tails]):
                yield f"{name}: the tails do not follow each other on their axis"

    def _index(
        self, backend: BackendRecord, manifest: Manifest, segments: Mapping[int, Segment]
    ) -> Iterator[str]:
        name = backend.name
        alive = {i for i, record in self._tracks.items() if backend.id in record.backends}
        dead = {track for number, track in self._tombstones if number == backend.id}
        seen = [tail.track_id for tail in self._tails_of(backend.id)]
        for record in manifest.segments:
            segment = segments[record.id]  # open, so that no merge takes it away meanwhile
            ids = segment.axis.track_ids.tolist()
            seen += ids
            faults = list(segment.damage())
            for i, track_id in enumerate(ids):
                faults += _fingerprint(track_id, segment.fingerprint(i))
            yield from (f"{name}: {fault}" for fault in faults)
            if faults:
                yield _remedy(name, record.id, alive & set(ids))
        contradictions = []
        if len(set(seen)) != len(seen):
            contradictions.append(f"{name}: tracks are in its index twice")
        for what, ids in (
            ("tracks are missing from its index", (alive | dead) - set(seen)),
            ("tracks in its index are neither stored nor removed", set(seen) - alive - dead),
            ("tracks are stored and removed", alive & dead),
        ):
            if ids:
                contradictions.append(f"{name}: {what}: {_some(ids)}")
        yield from contradictions
        if contradictions:
            yield _CATALOGUE


def _remedy(name: str, segment_id: int, tracks: set[int]) -> str:
    if not tracks:
        return f"{name}: segment {segment_id} holds removed tracks only: `afp compact`"
    return f"{name}: segment {segment_id} holds the tracks {spans(tracks)}: {records.REPLACE}"


def _fingerprint(track_id: int, sealed: bytes | memoryview) -> Iterator[str]:
    """Read a packed fingerprint."""
    try:
        key = records.track_key(track_id)
        packing.require_sound(records.unseal(key, sealed, "its fingerprint"))
    except StoreError as error:
        yield f"track {track_id}: {error}"


def _cross_check(
    tracks: dict[int, TrackRecord], paths: dict[bytes, KnownPath], contents: dict[bytes, int]
) -> Iterator[str]:
    """Compare tracks, paths and contents with each other."""
    of_tracks = {bytes.fromhex(key): i for i, record in tracks.items() for key in record.paths}
    for key, entry in paths.items():
        if records.path_key(entry.path) != key:
            yield f"paths: {entry.path!r} is under the key of another path"
        if of_tracks.get(key) != entry.track_id:
            yield f"paths: {entry.path!r} points to track {entry.track_id}, which does not know it"
    for key in sorted(of_tracks.keys() - paths.keys()):
        yield f"tracks: {of_tracks[key]} has a path that is not stored"
    for track_id, record in tracks.items():
        if not record.paths:
            yield f"tracks: {track_id} has no path"
        if contents.get(records.content_key(record.content_id)) != track_id:
            yield f"tracks: {track_id} is not found by its content {record.content_id}"
    for key, track_id in contents.items():
        if track_id not in tracks:
            yield f"content: {key.hex()} points to track {track_id}, which is not stored"


def spans(ids: set[int]) -> str:
    """Name all ids, those that follow each other as one span."""
    spans: list[list[int]] = []
    for number in sorted(ids):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans) or "none"


def _some(ids: set[int]) -> str:
    listed = ", ".join(str(number) for number in sorted(ids)[:5])
    return listed + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
