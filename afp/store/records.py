"""How the catalogue's records look as bytes: keys, sealed values, nothing that executes."""

import json
import struct
import zlib
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from afp.errors import StoreError

_CRC = struct.Struct("<I")
_TRACK = struct.Struct(">Q")
_BACKEND = struct.Struct(">H")
_BACKEND_TRACK = struct.Struct(">HQ")
_FILE = struct.Struct("<qqq")

# What mends a store: one that can be read in part, and one that cannot.
REPLACE = "`afp check --repair`, then `afp index` the music again: it takes what is missing"
ANEW = "move the store away and index anew"


class DamagedStoreError(StoreError):
    """Part of a store is not what was written."""


def seal(key: bytes, payload: bytes) -> bytes:
    """Put a CRC-32 of key and payload in front of the payload."""
    return _CRC.pack(zlib.crc32(payload, zlib.crc32(key))) + payload


def unseal(key: bytes, value: bytes | memoryview, what: str, remedy: str = REPLACE) -> memoryview:
    """Return the payload of a sealed value.

    Raises
    ------
    DamagedStoreError
        When the checksum does not fit.
    """
    payload = memoryview(value)[_CRC.size :]
    if len(value) < _CRC.size or zlib.crc32(payload, zlib.crc32(key)) != _CRC.unpack_from(value)[0]:
        raise DamagedStoreError(f"{what} fails its checksum", hint=remedy)
    return payload


def to_json(value: Any) -> bytes:
    """Encode a record as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def from_json(payload: memoryview) -> Any:
    """Decode a record that passed its checksum."""
    return json.loads(bytes(payload))


def track_key(track_id: int) -> bytes:
    """Return the key of a track: big-endian, so that keys sort like ids."""
    return _TRACK.pack(track_id)


def track_of(key: bytes) -> int:
    """Return the track id that `track_key` packed."""
    return int(_TRACK.unpack(key)[0])


def backend_key(backend_id: int) -> bytes:
    """Return the key of what there is once a backend."""
    return _BACKEND.pack(backend_id)


def backend_track_key(backend_id: int, track_id: int) -> bytes:
    """Return the key of what there is once a backend and track (or axis position)."""
    return _BACKEND_TRACK.pack(backend_id, track_id)


def backend_track_of(key: bytes) -> tuple[int, int]:
    """Return what `backend_track_key` packed."""
    backend_id, track_id = _BACKEND_TRACK.unpack(key)
    return backend_id, track_id


def path_bytes(path: str) -> bytes:
    """Return a path as bytes; undecodable bytes come back as they were on disk."""
    return path.encode("utf-8", "surrogateescape")


def path_key(path: str) -> bytes:
    """Return the key of a path, 16 bytes however long the path is (LMDB's limit is 511)."""
    return blake2b(path_bytes(path), digest_size=16).digest()


def content_key(content_id: str) -> bytes:
    """Return the key of a content, 16 bytes whatever its id is."""
    return blake2b(content_id.encode(), digest_size=16).digest()


class PathEntry(NamedTuple):
    """What a file was when it was indexed: its track, size in bytes and mtime in nanoseconds."""

    track_id: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class KnownPath:
    """A file that the catalogue knows.

    Attributes
    ----------
    path : str
        Undecodable bytes as surrogate escapes.
    track_id : int
        The track that it holds.
    size : int
        In bytes.
    mtime_ns : int
        Modification time, in nanoseconds.
    """

    path: str
    track_id: int
    size: int
    mtime_ns: int

    def pack(self) -> bytes:
        """Return the entry as bytes."""
        return _FILE.pack(self.track_id, self.size, self.mtime_ns) + path_bytes(self.path)

    @property
    def state(self) -> PathEntry:
        """The entry without its path."""
        return PathEntry(self.track_id, self.size, self.mtime_ns)

    @classmethod
    def unpack(cls, payload: memoryview) -> "KnownPath":
        """Return the entry that `pack` wrote."""
        track_id, size, mtime_ns = _FILE.unpack_from(payload)
        path = bytes(payload[_FILE.size :]).decode("utf-8", "surrogateescape")
        return cls(path, track_id, size, mtime_ns)


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, remembered so that it is not tried again unchanged.

    Attributes
    ----------
    path : str
        Undecodable bytes as surrogate escapes.
    size : int
        In bytes.
    mtime_ns : int
        Modification time, in nanoseconds.
    reason : str
        One line.
    """

    path: str
    size: int
    mtime_ns: int
    reason: str

    def pack(self) -> bytes:
        """Return the failure as bytes."""
        path = path_bytes(self.path)
        reason = self.reason.encode("utf-8", "backslashreplace")
        return _FILE.pack(len(path), self.size, self.mtime_ns) + path + reason

    @classmethod
    def unpack(cls, payload: memoryview) -> "Failure":
        """Return the failure that `pack` wrote."""
        length, size, mtime_ns = _FILE.unpack_from(payload)
        text = bytes(payload[_FILE.size :])
        return cls(
            text[:length].decode("utf-8", "surrogateescape"), size, mtime_ns, text[length:].decode()
        )


@dataclass(slots=True)
class TrackRecord:
    """A track as the catalogue holds it: its files are entries of their own.

    Attributes
    ----------
    paths : list of str
        Hexadecimal `path_key` of each file that holds this track, the one seen last first.
    backends : list of int
        Ids of the backends that have its fingerprint.
    """

    content_id: str
    duration_seconds: float
    title: str | None
    artist: str | None
    album: str | None
    partial: str | None
    paths: list[str] = field(default_factory=list)
    backends: list[int] = field(default_factory=list)

    def pack(self) -> bytes:
        """Return the record as bytes."""
        return to_json([getattr(self, name) for name in self.__slots__])

    @classmethod
    def unpack(cls, payload: memoryview) -> "TrackRecord":
        """Return the record that `pack` wrote."""
        return cls(*from_json(payload))


@dataclass(frozen=True, slots=True)
class BackendRecord:
    """A backend that the store holds an index for.

    Attributes
    ----------
    id : int
        Its number in this store's keys.
    name : str
        What ``-b`` takes.
    version : int
        Of the backend's algorithm.
    parameters : dict
        JSON values; the index is bound to them.
    hop_seconds : float
        Length of a frame step.
    """

    id: int
    name: str
    version: int
    parameters: dict[str, Any]
    hop_seconds: float

    def pack(self) -> bytes:
        """Return the record as bytes."""
        return to_json([getattr(self, name) for name in self.__slots__])

    @classmethod
    def unpack(cls, payload: memoryview) -> "BackendRecord":
        """Return the record that `pack` wrote."""
        return cls(*from_json(payload)[: len(cls.__slots__)])  # some have a null behind

    def require_same(
        self, wanted: "BackendRecord", remedy: str = "use another store (--db), or those values"
    ) -> None:
        """Refuse a backend that the index is not bound to.

        Raises
        ------
        StoreError
            When version, parameters or hop differ; with both values.
        """
        if self.version != wanted.version:
            raise StoreError(
                f"the index of {self.name!r} is of version {self.version}, this is "
                f"version {wanted.version}",
                hint=remedy,
            )
        if self.parameters != wanted.parameters or self.hop_seconds != wanted.hop_seconds:
            ours = {**self.parameters, "hop_seconds": self.hop_seconds}
            theirs = {**wanted.parameters, "hop_seconds": wanted.hop_seconds}
            differing = [
                f"{key} {ours.get(key)!r}, not {theirs.get(key)!r}"
                for key in sorted({*ours, *theirs})
                if ours.get(key) != theirs.get(key)
            ]
            raise StoreError(
                f"the index of {self.name!r} was built with {'; '.join(differing)}", hint=remedy
            )
