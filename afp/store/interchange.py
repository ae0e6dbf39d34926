"""The interchange format: tracks and fingerprints as JSON Lines, from store to store.

A stream has a header, a line a track, and an end, each one JSON object on a line of ASCII that
begins with a checksum: ``{"crc32":"89abcdef",`` and the CRC-32 of what follows up to the newline.

- header: ``format`` ("afp tracks"), ``version``, ``tracks`` (how many are to come), ``backends``:
  by name their ``version``, ``parameters`` and ``hop_seconds``.
- track: ``content_id``, ``seconds``, ``title``, ``artist``, ``album``, ``partial``; ``files``:
  path, size in bytes and mtime in nanoseconds of each, the one seen last first, undecodable bytes
  of paths as lone surrogates; ``fingerprints``: by backend ``packed``, what verification compares,
  and ``postings``, both in base64 and packed as `afp.store.packing` does. Backends whose postings
  are all that there is have no second one.
- end: ``end``, how many tracks there were. Without it a stream is cut short.

Hashes are the backend's own: neither numbers of tracks nor anything else of a store's layout is in
a stream. It may come from a stranger: nothing in it is taken on trust, and no line, nor what it
unpacks to, takes more than a bounded amount of memory.
"""

import json
import math
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from afp.errors import InputError, StoreError
from afp.fingerprint import U32, Fingerprint
from afp.store import embeddings, packing, records
from afp.store.forward import StoredFile, StoredTrack
from afp.store.packing import StoredFingerprint
from afp.store.records import BackendRecord

VERSION = 1
MOST_LINE_BYTES = 1 << 27
MOST_VALUES = 1 << 24  # frames, postings or values of a track: two days of the densest backend
MOST_SECONDS = 1e8
MOST_TEXT = 1 << 16  # characters
_MOST_FILES = 1 << 12
_NAME = "afp tracks"
_CHECKSUM = re.compile(rb'\{"crc32":"([0-9a-f]{8})",')
_ANEW = "get the stream anew: afp export"
_INT64 = range(-(1 << 63), 1 << 63)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Header:
    """What a stream begins with.

    Attributes
    ----------
    n_tracks : int
        How many are to come.
    backends : mapping of str to BackendRecord
        What the fingerprints are made with; their ids mean nothing.
    """

    n_tracks: int
    backends: Mapping[str, BackendRecord]


def header_line(header: Header) -> bytes:
    """Return the first line of a stream."""
    return _line(
        {
            "format": _NAME,
            "version": VERSION,
            "tracks": header.n_tracks,
            "backends": {
                name: {
                    "version": backend.version,
                    "parameters": backend.parameters,
                    "hop_seconds": backend.hop_seconds,
                }
                for name, backend in header.backends.items()
            },
        }
    )


def track_line(track: StoredTrack) -> bytes:
    """Return the line of a track.

    Raises
    ------
    StoreError
        When it is too long for a line.
    """
    packed = {}
    for name, fingerprint in track.fingerprints.items():
        packed[name] = {"packed": b64encode(fingerprint.payload).decode()}
        if not packing.is_of_postings(fingerprint.payload):
            postings = Fingerprint(fingerprint.n_frames, fingerprint.frames, fingerprint.hashes)
            packed[name]["postings"] = b64encode(packing.pack(postings)).decode()
    line = _line(
        {
            "content_id": track.content_id,
            "seconds": track.duration_seconds,
            "title": track.title,
            "artist": track.artist,
            "album": track.album,
            "partial": track.partial,
            "files": [[file.path, file.size, file.mtime_ns] for file in track.files],
            "fingerprints": packed,
        }
    )
    longest = max((each.n_frames for each in track.fingerprints.values()), default=0)
    if len(line) > MOST_LINE_BYTES or longest >= MOST_VALUES:
        raise StoreError(
            f"{track.files[0].path} is too long for a line of a stream",
            hint="cut the file in pieces; or use afp merge, which takes tracks of any length",
        )
    return line


def end_line(n_tracks: int) -> bytes:
    """Return the last line of a stream."""
    return _line({"end": n_tracks})


def _line(value: Mapping[str, Any]) -> bytes:
    rest = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()[1:]
    return b'{"crc32":"%08x",%b\n' % (zlib.crc32(rest), rest)


class TrackStream:
    """Reads a stream; iterate over its tracks.

    Parameters
    ----------
    read : callable
        Returns the next bytes of the stream, as many as there are, and none at its end.
    name : str
        Of the stream, for messages.

    Attributes
    ----------
    header : Header
        What the stream begins with.
    accepted : mapping of str to tuple of int
        The backends whose fingerprints are read, and of which kind they have to be
        (`afp.store.packing.kind_of`); none, unless it is set.

    Raises
    ------
    InputError
        When the stream, or a line, is not what `afp export` wrote; with the number of the line.
    """

    def __init__(self, read: Callable[[], bytes], name: str) -> None:
        self._name = name
        self._n_lines = 0
        self._lines = self._split(read)
        self.header = self._parsed(_header)
        self.accepted: Mapping[str, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[StoredTrack]:
        n_tracks = 0
        while True:
            found = self._parsed(self._track_or_end)
            if isinstance(found, StoredTrack):
                n_tracks += 1
                yield found
                continue
            if found != n_tracks:
                raise self._error(f"the stream had {found} tracks, and {n_tracks} have come")
            if next(self._lines, None) is not None:
                raise self._error("there is something behind the end of the stream")
            return

    def _track_or_end(self, value: dict[str, Any]) -> StoredTrack | int:
        if "end" in value:
            return _int(_fields(value, "end")["end"], "end", range(1 << 63))
        return _track(value, self.header.backends.keys(), self.accepted)

    def _parsed(self, parse: Callable[[dict[str, Any]], _T]) -> _T:
        line = next(self._lines, None)
        self._n_lines += 1
        if line is None:
            raise self._error("the stream is cut short: it has no end")
        try:
            return parse(_value(line))
        except (ValueError, RecursionError, StoreError) as error:
            raise self._error(str(error)) from None

    def _error(self, what: str) -> InputError:
        return InputError(f"{self._name}: line {self._n_lines}: {what}", hint=_ANEW)

    def _split(self, read: Callable[[], bytes]) -> Iterator[bytes]:
        """Yield the lines, newlines included, never more than a bounded part of one."""
        rest = bytearray()
        while piece := read():
            start = 0
            while stop := piece.find(b"\n", start) + 1:
                rest += piece[start:stop]
                yield bytes(rest)
                rest.clear()
                start = stop
            rest += piece[start:]
            if len(rest) > MOST_LINE_BYTES:
                self._n_lines += 1
                raise self._error(f"it is longer than {MOST_LINE_BYTES} bytes")
        if rest:
            yield bytes(rest)


def _value(line: bytes) -> dict[str, Any]:
    """Return the object of a line whose checksum fits."""
    checksum = _CHECKSUM.match(line)
    if checksum is None:
        raise ValueError("it is none that afp export wrote")
    if not line.endswith(b"}\n"):
        raise ValueError("it is cut short")
    rest = memoryview(line)[checksum.end() : -1]
    if zlib.crc32(rest) != int(checksum[1], 16):
        raise ValueError("its checksum does not fit")
    value: dict[str, Any] = json.loads(line, parse_constant=_no_constant)
    del value["crc32"]
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _header(value: dict[str, Any]) -> Header:
    if value.get("format") != _NAME:
        raise ValueError("it is not the header of a stream that afp export wrote")
    version = _int(value.get("version"), "version", range(1 << 31))
    if version != VERSION:
        raise ValueError(
            f"the stream is of version {version}, and this afp reads version {VERSION}"
        )
    fields = _fields(value, "format", "version", "tracks", "backends")
    backends = _mapping(fields["backends"], "backends")
    return Header(
        _int(fields["tracks"], "tracks", range(1 << 63)),
        {_text(name, "the name of a backend"): _backend(name, backends[name]) for name in backends},
    )


def _backend(name: str, value: Any) -> BackendRecord:
    fields = _fields(_mapping(value, name), "version", "parameters", "hop_seconds")
    parameters = _mapping(fields["parameters"], "parameters")
    for key, parameter in parameters.items():
        if isinstance(parameter, str):
            _text(parameter, key)
        elif not isinstance(parameter, int | float):
            raise ValueError(f"parameter {key!r} is no number and no text")
    return BackendRecord(
        0,
        name,
        _int(fields["version"], "version", range(1 << 31)),
        parameters,
        _number(fields["hop_seconds"], "hop_seconds"),
    )


def _track(
    value: dict[str, Any], known: Collection[str], accepted: Mapping[str, tuple[int, int]]
) -> StoredTrack:
    texts = ("title", "artist", "album", "partial")
    fields = _fields(value, "content_id", "seconds", *texts, "files", "fingerprints")
    content_id = _text(fields["content_id"], "content_id")
    if not re.fullmatch("[0-9a-f]{1,64}", content_id):
        raise ValueError("content_id is no hash")
    seconds = _number(fields["seconds"], "seconds")
    title, artist, album, partial = (
        None if fields[name] is None else _text(fields[name], name) for name in texts
    )
    if not isinstance(fields["files"], list) or not 0 < len(fields["files"]) <= _MOST_FILES:
        raise ValueError(f"files is no list of 1 to {_MOST_FILES} files")
    fingerprints = {}
    for name, packed in _mapping(fields["fingerprints"], "fingerprints").items():
        if name not in known:
            raise ValueError(f"the header has no backend {name!r}")
        if name in accepted:
            fingerprints[name] = _fingerprint(_mapping(packed, name), name)
            if packing.kind_of(fingerprints[name].payload) != accepted[name]:
                raise ValueError(f"it has a fingerprint that is not of the kind of {name!r}")
    files = [_file(file) for file in fields["files"]]
    return StoredTrack(content_id, seconds, title, artist, album, partial, files, fingerprints)


def _file(value: Any) -> StoredFile:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("a file is not [path, size, mtime_ns]")
    path = _text(value[0], "a path")
    if not path or "\0" in path:
        raise ValueError("a path is none")
    return StoredFile(
        path, _int(value[1], "a size", range(1 << 63)), _int(value[2], "a time", _INT64)
    )


def _fingerprint(value: dict[str, Any], name: str) -> StoredFingerprint:
    payload = _bytes(value.get("packed"), f"{name}: packed")
    n_frames = _require_sound(payload, name)
    has_own = packing.is_of_postings(payload)
    _fields(value, *(("packed",) if has_own else ("packed", "postings")))
    packed = payload if has_own else _bytes(value["postings"], f"{name}: postings")
    if not packing.is_of_postings(packed):
        raise ValueError(f"{name}: its postings are none")
    postings, _ = packing.unpack(memoryview(packed), most=MOST_VALUES)
    _require_ascending(postings.frames, f"{name}: postings")
    last = int(postings.frames[-1]) + 1 if len(postings.frames) else 0
    return StoredFingerprint(max(n_frames, last), postings.frames, postings.values, payload)


def _require_sound(payload: bytes, name: str) -> int:
    """Unpack a fingerprint; return how many frames it takes at least."""
    if payload[:1] == bytes([embeddings.KIND]):
        found, n_frames = embeddings.unpack(memoryview(payload))
        if not 0 < found.scale < math.inf:
            raise ValueError(f"{name}: its embeddings have the scale {found.scale}")
        n_rows = len(found.codes)
    else:
        evidence, n_frames = packing.unpack(memoryview(payload), most=MOST_VALUES)
        _require_ascending(evidence.frames, name)
        n_rows = 0
    n_frames = max(n_frames, n_rows)
    if n_frames >= MOST_VALUES:
        raise ValueError(f"{name}: it has {n_frames} frames, that is too many")
    return n_frames


def _require_ascending(frames: U32, what: str) -> None:
    if np.any(frames[1:] < frames[:-1]) or (len(frames) and frames[-1] >= MOST_VALUES):
        raise ValueError(f"{what}: its frames are out of order, or too many")


def _fields(value: dict[str, Any], *names: str) -> dict[str, Any]:
    if value.keys() != set(names):
        odd = sorted(value.keys() ^ set(names))[0][:99]
        raise ValueError(f"{odd!r} is missing" if odd in names else f"{odd!r} is not known")
    return value


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return value


def _text(value: Any, what: str) -> str:
    """Return a text, the lone surrogates in it as they come back from a store."""
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise ValueError(f"{what} is no text, or too long")
    return records.path_bytes(value).decode("utf-8", "surrogateescape")


def _int(value: Any, what: str, within: range) -> int:
    if type(value) is not int or value not in within:
        raise ValueError(f"{what} is no whole number, or out of bounds")
    return value


def _number(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= MOST_SECONDS:
        raise ValueError(f"{what} is no number, or out of bounds")
    return value  # type: ignore[no-any-return]


def _bytes(value: Any, what: str) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{what} is no text")
    return b64decode(value, validate=True)
