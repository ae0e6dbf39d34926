"""The catalogue on one transaction: tracks, contents, paths, failures, backends, manifests."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from afp.errors import StoreError
from afp.fingerprint import Track
from afp.store import records
from afp.store.environment import translated
from afp.store.records import BackendRecord, DamagedStoreError, Failure, KnownPath, TrackRecord

if TYPE_CHECKING:
    import lmdb

NEXT_TRACK = b"next_track_id"
_NAME = "the catalogue"

# LMDB's main table holds them all, told apart by the first byte of the key: a commit writes fewer
# pages than with a table of LMDB's own for each, and opening one needs no transaction. In this
# order what every commit changes lies side by side: the last tracks, the counters, the tails.
TABLES = {
    "content": b"a",
    "paths": b"b",
    "failures": b"c",
    "tombstones": b"d",
    "tracks": b"f",
    "header": b"g",  # in every format, so that others are recognised
    "backends": b"h",
    "tails": b"i",
    "manifests": b"j",
}
# What a store is; the other tables can do without a record.
_VITAL = ("header", "backends", "manifests")
# What an answer depends on without asking for it by its key. A track that cannot be found by its
# id is an error.
INDEX_TABLES = frozenset(
    TABLES[name] for name in ("header", "backends", "manifests", "tails", "tombstones")
)


def _unsealed(table: str, key: bytes, value: memoryview) -> memoryview:
    remedy = records.ANEW if table in _VITAL else records.REPLACE
    return records.unseal(key, value, f"a record of {table!r}", remedy)


class Catalogue:
    """Reads, and within a write transaction changes, the catalogue.

    Whatever it reads has passed its checksum, or raises `StoreError`.
    """

    def __init__(self, txn: "lmdb.Transaction[Any]") -> None:
        self.txn = txn

    # Sealed values

    def get(self, table: str, key: bytes) -> memoryview | None:
        """Return a payload, or None where the key is missing."""
        key = TABLES[table] + key
        with translated(_NAME):
            value = self.txn.get(key)
        return None if value is None else _unsealed(table, key, value)

    def put(self, table: str, key: bytes, payload: bytes) -> None:
        """Write a payload under a checksum."""
        key = TABLES[table] + key
        self.txn.put(key, records.seal(key, payload))

    def delete(self, table: str, key: bytes) -> bool:
        """Delete a record; tell whether it was there."""
        return bool(self.txn.delete(TABLES[table] + key))

    def values(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, memoryview]]:
        """Iterate over the keys that begin with `prefix`, and their sealed values, in order."""
        start = TABLES[table] + prefix
        with translated(_NAME):
            cursor = self.txn.cursor()
            found = cursor.set_range(start)
        with cursor:
            while found:
                key = bytes(cursor.key())
                if not key.startswith(start):
                    return
                yield key[1:], cursor.value()
                with translated(_NAME):
                    found = cursor.next()

    def items(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, memoryview]]:
        """Iterate over the keys that begin with `prefix`, and their payloads, in order."""
        for key, value in self.values(table, prefix):
            yield key, _unsealed(table, TABLES[table] + key, value)

    def count(self, table: str) -> int:
        """Return the number of records."""
        with translated(_NAME), self.txn.cursor() as cursor:
            found = cursor.set_range(TABLES[table])
            keys = cursor.iternext(keys=True, values=False) if found else iter(())
            return sum(1 for _ in takewhile(lambda key: key[:1] == TABLES[table], keys))

    def counter(self, name: bytes) -> int:
        """Return a counter of the header."""
        payload = self.get("header", name)
        return 1 if payload is None else int.from_bytes(payload, "little")

    def take_number(self, name: bytes) -> int:
        """Return a counter of the header and advance it: numbers are never handed out twice."""
        number = self.counter(name)
        self.put("header", name, (number + 1).to_bytes(8, "little"))
        return number

    # Backends

    def backends(self) -> dict[str, BackendRecord]:
        """Return the registered backends by name."""
        found = (BackendRecord.unpack(payload) for _, payload in self.items("backends"))
        return {backend.name: backend for backend in found}

    # Tracks

    def record(self, track_id: int) -> TrackRecord | None:
        """Return a track's record, or None."""
        if not 0 <= track_id < 1 << 64:  # no key is like that
            return None
        payload = self.get("tracks", records.track_key(track_id))
        return None if payload is None else TrackRecord.unpack(payload)

    def require(self, track_id: int) -> TrackRecord:
        """Return a track's record.

        Raises
        ------
        StoreError
            When there is no such track.
        """
        record = self.record(track_id)
        if record is None:
            raise StoreError(f"there is no track {track_id}", hint="`afp ls` lists the tracks")
        return record

    def track(self, track_id: int, names: dict[int, str]) -> Track:
        """Return a track as the rest of afp sees it; `names` are the backends' by id."""
        return self.describe(track_id, self.require(track_id), names)

    def describe(self, track_id: int, record: TrackRecord, names: dict[int, str]) -> Track:
        """Put a track's record and its newest file together."""
        file = self.path_entry(bytes.fromhex(record.paths[0]))
        if file is None:
            raise DamagedStoreError(f"track {track_id} has lost its path", hint=records.REPLACE)
        return Track(
            id=track_id,
            content_id=record.content_id,
            path=file.path,
            duration_seconds=record.duration_seconds,
            title=record.title,
            artist=record.artist,
            album=record.album,
            size=file.size,
            mtime_ns=file.mtime_ns,
            partial=record.partial,
            backends=tuple(sorted(names[backend_id] for backend_id in record.backends)),
        )

    def put_record(self, track_id: int, record: TrackRecord) -> None:
        """Write a track's record."""
        self.put("tracks", records.track_key(track_id), record.pack())

    def by_content(self, content_id: str) -> int | None:
        """Return the track that holds a content, or None."""
        payload = self.get("content", records.content_key(content_id))
        return None if payload is None else records.track_of(bytes(payload))

    def remove(self, track_id: int) -> None:
        """Remove a track with its paths; a tombstone marks it in each index that holds it."""
        record = self.require(track_id)
        for path in record.paths:
            self.delete("paths", bytes.fromhex(path))
        for backend_id in record.backends:
            self.put("tombstones", records.backend_track_key(backend_id, track_id), b"")
        self.delete("content", records.content_key(record.content_id))
        self.delete("tracks", records.track_key(track_id))

    # Paths

    def path_entry(self, key: bytes) -> KnownPath | None:
        """Return what is known of a path, by its key, or None."""
        payload = self.get("paths", key)
        return None if payload is None else KnownPath.unpack(payload)

    def paths(self) -> Iterator[KnownPath]:
        """Iterate over all paths."""
        for _, payload in self.items("paths"):
            yield KnownPath.unpack(payload)

    def point(self, entry: KnownPath, record: TrackRecord) -> None:
        """Point a path to a track, first among its paths; `record` is changed, not written.

        A track that loses its last path by this is removed.
        """
        key = records.path_key(entry.path)
        known = self.path_entry(key)
        if known is not None and known.track_id != entry.track_id:
            self.detach(key, known.track_id)
        self.put("paths", key, entry.pack())
        record.paths = [key.hex(), *(path for path in record.paths if path != key.hex())]
        self.delete("failures", key)

    def detach(self, key: bytes, track_id: int) -> bool:
        """Forget a path of a track; tell whether the track was removed with its last path."""
        record = self.require(track_id)
        record.paths.remove(key.hex())
        if not record.paths:
            record.paths.append(key.hex())
            self.remove(track_id)
            return True
        self.delete("paths", key)
        self.put_record(track_id, record)
        return False

    def failure(self, key: bytes) -> Failure | None:
        """Return the failure of a path, by its key, or None."""
        payload = self.get("failures", key)
        return None if payload is None else Failure.unpack(payload)

    def failures(self) -> Iterator[Failure]:
        """Iterate over the files that could not be indexed."""
        for _, payload in self.items("failures"):
            yield Failure.unpack(payload)

    def update(self, track: Track) -> None:
        """Write a track's tags, and point its path to it."""
        record = replace(
            self.require(track.id),
            title=track.title,
            artist=track.artist,
            album=track.album,
            duration_seconds=track.duration_seconds,
            partial=track.partial,
        )
        self.point(KnownPath(track.path, track.id, track.size, track.mtime_ns), record)
        self.put_record(track.id, record)
