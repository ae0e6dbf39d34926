"""Segment files: immutable sorted postings, mapped into memory and read without a copy.

Layout, each part aligned to 64 bytes: header; track_ids int64[t]; bases, n_frames, counts, sizes
uint32[t]; directory uint32[2**bits + 1]; remainders uint16[n] or uint32[n]; positions uint32[n];
the tracks' packed fingerprints, each sealed, end to end; checksums uint32, the CRC-32 of each
`BLOCK` bytes before them. The manifest in the catalogue holds the CRC-32 of the head (header and
axis) and of the checksums.
"""

import errno
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.store.axis import Axis
from afp.store.postings import (
    NARROW_BITS,
    U64,
    Run,
    expand,
    keys_between,
    pair,
    remainder_type,
)
from afp.store.records import REPLACE, DamagedStoreError

MAGIC = b"AFPSEGM\x02"
BLOCK = 1 << 18
# magic, bits, unused, n_tracks, n_postings, n_fingerprint_bytes
HEADER = struct.Struct("<8sIIQQQ")
MOST_BITS = 32  # of a hash
BYTES_A_POSTING = 128  # of fingerprints, which a merge copies in the time of one posting
_RESTORE = f"restore it from a backup; without one, {REPLACE}"


class DamagedSegmentError(StoreError):
    """A segment that must not be merged, as its damage would pass for sound from then on.

    Parameters
    ----------
    segment_id : int
        The segment.
    fault : str
        What is wrong with it.
    hint : str
        What mends it.
    """

    def __init__(self, segment_id: int, fault: str, hint: str = REPLACE) -> None:
        super().__init__(
            f"{fault}, so that it cannot be merged",
            hint=hint,
        )
        self.segment_id = segment_id


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A segment as its backend's manifest names it.

    Attributes
    ----------
    id : int
        Never reused; names the file.
    n_tracks, n_postings, n_frames : int
        What is in it, removed tracks included.
    n_bytes : int
        Of the file.
    n_fingerprint_bytes : int
        Of the packed fingerprints in it.
    head_crc, checksums_crc : int
        CRC-32 of the head and of the table of checksums.
    selectivity : float
        Sum over hashes of p², p being a hash's share of the segment's postings.
    """

    id: int
    n_tracks: int
    n_postings: int
    n_frames: int
    n_bytes: int
    n_fingerprint_bytes: int
    head_crc: int
    checksums_crc: int
    selectivity: float

    @property
    def weight(self) -> int:
        """What to merge it costs, in postings."""
        return self.n_postings + self.n_fingerprint_bytes // BYTES_A_POSTING

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a segment file begin, in bytes."""

    track_ids: int
    bases: int
    n_frames: int
    counts: int
    sizes: int
    head_end: int
    directory: int
    remainders: int
    positions: int
    fingerprints: int
    checksums: int
    end: int

    @classmethod
    def of(cls, bits: int, n_tracks: int, n_postings: int, n_fingerprint_bytes: int) -> "Layout":
        """Lay out a file of these sizes."""
        offsets, at = [], 64
        wide = np.dtype(remainder_type(bits)).itemsize
        for size in (8 * n_tracks, *[4 * n_tracks] * 4, 0):
            offsets.append(at)
            at = -(-(at + size) // 64) * 64
        directory = 4 * ((1 << bits) + 1)
        for size in (directory, wide * n_postings, 4 * n_postings, n_fingerprint_bytes):
            offsets.append(at)
            at = -(-(at + size) // 64) * 64
        return cls(*offsets, at, at + 4 * -(-at // BLOCK))  # type: ignore[call-arg]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """An open segment file; its arrays keep the mapping alive, also when the file is deleted."""

    record: SegmentRecord
    axis: Axis
    run: Run
    edges: npt.NDArray[np.int64]  # of the fingerprints in the file, one more than tracks
    buffer: mmap.mmap

    @classmethod
    def open(cls, folder: Path, record: SegmentRecord) -> "Segment":
        """Map a segment.

        Raises
        ------
        StoreError
            When the file is not what the manifest says, or cannot be read; because of a
            `FileNotFoundError` also when a merge has replaced it since its manifest was read.
        """
        path = segment_path(folder, record.id)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != record.n_bytes:
                    raise _damage(path, f"has {size} bytes instead of {record.n_bytes}")
                buffer = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise _damage(path, "is missing") from error
        except OSError as error:
            # What a broken disk has lost can be left out, unlike what may not be read.
            kind = DamagedStoreError if error.errno == errno.EIO else StoreError
            raise kind(
                f"{path} cannot be read: {error.strerror or error}",
                hint="every command needs this segment: let yourself read it, or " + _RESTORE,
            ) from error
        magic, bits, _, n_tracks, n_postings, n_fingerprint_bytes = HEADER.unpack_from(buffer)
        expected = (MAGIC, record.n_tracks, record.n_postings)
        if (magic, n_tracks, n_postings) != expected or bits > MOST_BITS:
            raise _damage(path, "has a damaged header")
        at = Layout.of(bits, n_tracks, n_postings, n_fingerprint_bytes)
        if at.end != size or zlib.crc32(memoryview(buffer)[: at.head_end]) != record.head_crc:
            raise _damage(path, "has a damaged head")

        def array(kind: npt.DTypeLike, n: int, offset: int) -> npt.NDArray[Any]:
            return np.frombuffer(buffer, kind, n, offset)

        axis = Axis(
            array(np.int64, n_tracks, at.track_ids),
            array(np.uint32, n_tracks, at.bases),
            array(np.uint32, n_tracks, at.n_frames),
            array(np.uint32, n_tracks, at.counts),
            array(np.uint32, n_tracks, at.sizes),
        )
        run = Run(
            bits,
            array(np.uint32, (1 << bits) + 1, at.directory),
            array(remainder_type(bits), n_postings, at.remainders),
            array(np.uint32, n_postings, at.positions),
        )
        ends = np.cumsum(axis.sizes, dtype=np.int64)
        edges = at.fingerprints + np.concatenate([np.zeros(1, np.int64), ends])
        return cls(record, axis, run, edges, buffer)

    def fingerprint(self, i: int) -> memoryview:
        """Return the packed and sealed fingerprint of the i-th track."""
        return memoryview(self.buffer)[self.edges[i] : self.edges[i + 1]]

    def packed(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return the whole file as bytes, and where in it the packed fingerprints are."""
        return np.frombuffer(self.buffer, np.uint8), self.edges

    def fingerprints(self, keep: npt.NDArray[np.bool_]) -> Iterator[memoryview]:
        """Return the packed fingerprints of the tracks where `keep` is true, in long pieces."""
        view = memoryview(self.buffer)
        changes = np.flatnonzero(np.diff(keep, prepend=False, append=False))
        for start, stop in changes.reshape(-1, 2).tolist():
            yield view[self.edges[start] : self.edges[stop]]

    def keys_between(self, first: int, last: int, bits: int) -> U64:
        """Return the sort keys of a range of leading bits."""
        run = self.run
        if run.bits < NARROW_BITS:
            keys = pair(run.remainders.astype(np.uint32), run.positions)
            return keys_between(keys, first, last, bits)
        a, b = first << (run.bits - bits), last << (run.bits - bits)
        edges = run.directory[a : b + 1]
        if np.any(edges[1:] < edges[:-1]) or edges[-1] > len(run.positions):
            raise StoreError(f"segment {self.record.id} has a damaged directory", hint=REPLACE)
        keys = np.empty(int(edges[-1]) - int(edges[0]), np.uint64)
        expand(run.directory, run.remainders, run.positions, run.bits, a, b, keys)
        return keys

    @property
    def layout(self) -> Layout:
        """Where its parts are."""
        record = self.record
        sizes = (record.n_tracks, record.n_postings, record.n_fingerprint_bytes)
        return Layout.of(self.run.bits, *sizes)

    def damaged_blocks(self) -> Iterator[int]:
        """Yield where the blocks begin that fail their checksums."""
        start = self.layout.checksums
        view = memoryview(self.buffer)
        for block, expected in enumerate(np.frombuffer(view[start:], np.uint32)):
            at = block * BLOCK
            if zlib.crc32(view[at : min(at + BLOCK, start)]) != expected:
                yield at

    def postings_are_whole(self) -> bool:
        """Tell whether all damage is among the fingerprints."""
        at = self.layout
        table = memoryview(self.buffer)[at.checksums :]
        return zlib.crc32(table) == self.record.checksums_crc and all(
            block >= at.fingerprints for block in self.damaged_blocks()
        )

    def damage(self) -> Iterator[str]:
        """Compare every checksum and the parts with each other; yield what is wrong."""
        record = self.record
        name = f"segment {record.id}"
        if zlib.crc32(memoryview(self.buffer)[self.layout.checksums :]) != record.checksums_crc:
            yield f"{name}: the table of checksums is damaged"
            return
        for block in self.damaged_blocks():
            yield f"{name}: bytes {block} and following fail their checksum"
        directory = self.run.directory
        if np.any(directory[1:] < directory[:-1]) or directory[-1] != record.n_postings:
            yield f"{name}: its directory is not in order"
        if int(self.axis.counts.sum(dtype=np.int64)) != record.n_postings:
            yield f"{name}: its axis counts other postings than it has"


def segment_path(folder: Path, segment_id: int) -> Path:
    """Return where a segment's file is."""
    return folder / f"{segment_id:08d}.segment"


def _damage(path: Path, what: str) -> StoreError:
    return DamagedStoreError(f"{path} {what}", hint=_RESTORE)
