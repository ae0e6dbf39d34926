"""Verification of a whole store: every checksum, every cross-reference."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from afp.errors import StoreError
from afp.store import packing, records
from afp.store.catalogue import TABLES
from afp.store.manifest import read_manifest
from afp.store.records import KnownPath, TrackRecord
from afp.store.snapshot import Snapshot
from afp.store.tails import Tail, axis_of

_T = TypeVar("_T")


def check(snapshot: Snapshot) -> list[str]:
    """Return what is wrong with a store, a line each; nothing for a sound one."""
    return list(dict.fromkeys(_Check(snapshot).run()))


class _Check:
    def __init__(self, snapshot: Snapshot) -> None:
        self._catalogue = snapshot.catalogue
        self._segments = snapshot.segments

    def run(self) -> Iterator[str]:
        problems: list[str] = []
        tracks = self._table("tracks", records.track_of, TrackRecord.unpack, problems)
        paths = self._table("paths", bytes, KnownPath.unpack, problems)
        contents = self._table(
            "content", bytes, lambda payload: records.track_of(bytes(payload)), problems
        )
        self._table("header", bytes, bytes, problems)
        self._table("failures", bytes, records.Failure.unpack, problems)
        backends = self._table("backends", bytes, records.BackendRecord.unpack, problems)
        tombstones = self._table("tombstones", records.backend_track_of, bytes, problems)
        yield from problems
        yield from _cross_check(tracks, paths, contents)
        for backend in backends.values():
            alive = {i for i, record in tracks.items() if backend.id in record.backends}
            dead = {track for number, track in tombstones if number == backend.id}
            yield from self._index(backend.id, backend.name, alive, dead)

    def _table(
        self,
        table: str,
        key_of: Callable[[bytes], Any],
        value_of: Callable[[memoryview], _T],
        problems: list[str],
    ) -> dict[Any, _T]:
        """Read a table; what cannot be read goes to `problems`."""
        found = {}
        for key, value in self._catalogue.values(table):
            name = f"{table}: record {key.hex()}"
            try:
                found[key_of(key)] = value_of(records.unseal(TABLES[table] + key, value, name))
            except StoreError as error:
                problems.append(str(error))
            except Exception as error:
                problems.append(f"{name} makes no sense: {error!r}")
        return found

    def _index(self, backend_id: int, name: str, alive: set[int], dead: set[int]) -> Iterator[str]:
        try:
            manifest = read_manifest(self._catalogue, backend_id)
        except (StoreError, TypeError, ValueError) as error:
            yield f"{name}: its manifest cannot be read: {error}"
            return
        seen: list[int] = []
        for record in manifest.segments:
            segment = self._segments[record.id]  # open, so that no merge takes it away meanwhile
            ids = segment.axis.track_ids.tolist()
            seen += ids
            faults = list(segment.damage())
            yield from (f"{name}: {fault}" for fault in faults)
            if faults:
                yield f"{name}: segment {record.id} holds the tracks {_spans(alive & set(ids))}"
            for i, track_id in enumerate(ids):
                faults = list(_fingerprint(track_id, segment.fingerprint(i)))
                yield from (f"{name}: {fault}" for fault in faults)
        tails = []
        for number, tail in self._tails(backend_id):
            if isinstance(tail, str):
                yield f"{name}: tail {number}: {tail}"
            else:
                tails.append(tail)
                damage = _fingerprint(tail.track_id, tail.fingerprint)
                yield from (f"{name}: {line}" for line in damage)
        seen += [tail.track_id for tail in tails]
        if len(tails) != manifest.n_tails:
            yield f"{name}: {len(tails)} tails where {manifest.n_tails} are counted"
        elif not np.array_equal(axis_of(tails).bases, [tail.base for tail in tails]):
            yield f"{name}: the tails do not follow each other on their axis"
        if len(set(seen)) != len(seen):
            yield f"{name}: tracks are in its index twice"
        for what, ids in (
            ("tracks are missing from its index", (alive | dead) - set(seen)),
            ("tracks in its index are neither stored nor removed", set(seen) - alive - dead),
            ("tracks are stored and removed", alive & dead),
        ):
            if ids:
                yield f"{name}: {what}: {_some(ids)}"

    def _tails(self, backend_id: int) -> Iterator[tuple[int, "Tail | str"]]:
        for key, value in self._catalogue.values("tails", records.backend_key(backend_id)):
            base = records.backend_track_of(key)[1]
            try:
                yield base, Tail.unpack(records.unseal(TABLES["tails"] + key, value, "it"))
            except StoreError as error:
                yield base, str(error)


def _fingerprint(track_id: int, sealed: bytes | memoryview) -> Iterator[str]:
    """Read a packed fingerprint."""
    try:
        packing.unpack(records.unseal(records.track_key(track_id), sealed, "its fingerprint"))
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


def _spans(ids: set[int]) -> str:
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
