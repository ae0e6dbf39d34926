"""Segment files: immutable sorted postings, mapped into memory and read without a copy.

Layout, each part aligned to 64 bytes: header; track_ids int64[t]; bases, n_frames, counts
uint32[t]; directory uint32[2**bits + 1]; remainders uint16[n] or uint32[n]; positions uint32[n];
checksums uint32, the CRC-32 of each `BLOCK` bytes before them. The manifest in the catalogue holds
the CRC-32 of the head (header and axis) and of the checksums.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.store.axis import Axis
from afp.store.postings import (
    NARROW_BITS,
    U64,
    Run,
    directory_bits,
    expand,
    pair,
    remainder_type,
    slots,
    sort,
)
from afp.store.records import DAMAGED

MAGIC = b"AFPSEGM\x01"
BLOCK = 1 << 18
_HEADER = struct.Struct("<8sIIQQ")  # magic, bits, unused, n_tracks, n_postings
_CHUNK_POSTINGS = 1 << 20  # of a merge's step, what bounds its memory


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
    head_crc: int
    checksums_crc: int
    selectivity: float

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parts of a segment file begin, in bytes."""

    track_ids: int
    bases: int
    n_frames: int
    counts: int
    head_end: int
    directory: int
    remainders: int
    positions: int
    checksums: int
    end: int

    @classmethod
    def of(cls, bits: int, n_tracks: int, n_postings: int) -> "_Layout":
        offsets, at = [], 64
        wide = np.dtype(remainder_type(bits)).itemsize
        for size in (8 * n_tracks, 4 * n_tracks, 4 * n_tracks, 4 * n_tracks, 0):
            offsets.append(at)
            at = -(-(at + size) // 64) * 64
        for size in (4 * ((1 << bits) + 1), wide * n_postings, 4 * n_postings):
            offsets.append(at)
            at = -(-(at + size) // 64) * 64
        return cls(*offsets, at, at + 4 * -(-at // BLOCK))  # type: ignore[call-arg]


class Source(Protocol):
    """Postings that go into a segment."""

    @property
    def axis(self) -> Axis:
        """The tracks that the postings belong to."""

    def keys_between(self, first: int, last: int, bits: int) -> U64:
        """Return the sort keys whose mixed hash's leading `bits` are in ``first <= x < last``.

        In the order of hash and position.
        """


@dataclass(frozen=True, slots=True, eq=False)
class SortedKeys:
    """A source in memory: keys in the order of hash and position."""

    axis: Axis
    keys: U64

    def keys_between(self, first: int, last: int, bits: int) -> U64:
        """Return a slice of the keys."""
        edges = [min(edge << (64 - bits), (1 << 64) - 1) for edge in (first, last)]
        a, b = np.searchsorted(self.keys, np.array(edges, np.uint64))
        return self.keys[a : len(self.keys) if last == 1 << bits else b]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """An open segment file; its arrays keep the mapping alive, also when the file is deleted."""

    record: SegmentRecord
    axis: Axis
    run: Run
    buffer: mmap.mmap

    @classmethod
    def open(cls, folder: Path, record: SegmentRecord) -> "Segment":
        """Map a segment.

        Raises
        ------
        FileNotFoundError
            When a merge has replaced it since its manifest was read.
        StoreError
            When the file is not what the manifest says.
        """
        path = segment_path(folder, record.id)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != record.n_bytes:
                raise _damage(path, f"has {size} bytes instead of {record.n_bytes}")
            buffer = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        magic, bits, _, n_tracks, n_postings = _HEADER.unpack_from(buffer)
        if (magic, n_tracks, n_postings) != (MAGIC, record.n_tracks, record.n_postings):
            raise _damage(path, "has a damaged header")
        at = _Layout.of(bits, n_tracks, n_postings)
        if at.end != size or zlib.crc32(memoryview(buffer)[: at.head_end]) != record.head_crc:
            raise _damage(path, "has a damaged head")

        def array(kind: npt.DTypeLike, n: int, offset: int) -> npt.NDArray[Any]:
            return np.frombuffer(buffer, kind, n, offset)

        axis = Axis(
            array(np.int64, n_tracks, at.track_ids),
            array(np.uint32, n_tracks, at.bases),
            array(np.uint32, n_tracks, at.n_frames),
            array(np.uint32, n_tracks, at.counts),
        )
        run = Run(
            bits,
            array(np.uint32, (1 << bits) + 1, at.directory),
            array(remainder_type(bits), n_postings, at.remainders),
            array(np.uint32, n_postings, at.positions),
        )
        return cls(record, axis, run, buffer)

    def keys_between(self, first: int, last: int, bits: int) -> U64:
        """Return the sort keys of a range of leading bits."""
        run = self.run
        if run.bits < NARROW_BITS:
            keys = pair(run.remainders.astype(np.uint32), run.positions)
            return SortedKeys(self.axis, keys).keys_between(first, last, bits)
        a, b = first << (run.bits - bits), last << (run.bits - bits)
        edges = run.directory[a : b + 1]
        if np.any(edges[1:] < edges[:-1]) or edges[-1] > len(run.positions):
            raise StoreError(f"segment {self.record.id} has a damaged directory", hint=DAMAGED)
        keys = np.empty(int(edges[-1]) - int(edges[0]), np.uint64)
        expand(run.directory, run.remainders, run.positions, run.bits, a, b, keys)
        return keys

    def damage(self) -> Iterator[str]:
        """Compare every checksum and the parts with each other; yield what is wrong."""
        view = memoryview(self.buffer)
        start = _Layout.of(self.run.bits, self.record.n_tracks, self.record.n_postings).checksums
        table = view[start:]
        name = f"segment {self.record.id}"
        if zlib.crc32(table) != self.record.checksums_crc:
            yield f"{name}: the table of checksums is damaged"
            return
        for block, expected in enumerate(np.frombuffer(table, np.uint32)):
            if zlib.crc32(view[block * BLOCK : min((block + 1) * BLOCK, start)]) != expected:
                yield f"{name}: bytes {block * BLOCK} and following fail their checksum"
        directory = self.run.directory
        if np.any(directory[1:] < directory[:-1]) or directory[-1] != self.record.n_postings:
            yield f"{name}: its directory is not in order"
        if int(self.axis.counts.sum(dtype=np.int64)) != self.record.n_postings:
            yield f"{name}: its axis counts other postings than it has"


def segment_path(folder: Path, segment_id: int) -> Path:
    """Return where a segment's file is."""
    return folder / f"{segment_id:08d}.segment"


def _damage(path: Path, what: str) -> StoreError:
    return StoreError(f"{path} {what}", hint=DAMAGED)


def write_segment(
    folder: Path, segment_id: int, sources: Sequence[Source], dead: npt.NDArray[np.int64]
) -> SegmentRecord | None:
    """Merge sources into a new segment file, in bounded memory, without the removed tracks.

    The file is complete and on disk under its name when this returns.

    Parameters
    ----------
    folder : Path
        Of the segments.
    segment_id : int
        Not in use.
    sources : sequence of Source
        In the order of their tracks on the new axis.
    dead : ndarray of int64
        Ids of removed tracks, sorted.

    Returns
    -------
    SegmentRecord or None
        None, and no file, when no track is left.
    """
    keeps = [source.axis.alive(dead) for source in sources]

    def kept(name: str) -> npt.NDArray[Any]:
        parts = zip(sources, keeps, strict=True)
        return np.concatenate([getattr(source.axis, name)[keep] for source, keep in parts])

    axis = Axis.lay(kept("track_ids"), kept("n_frames"), kept("counts"))  # type: ignore[arg-type]
    if not len(axis.track_ids):
        return None
    n = int(axis.counts.sum(dtype=np.int64))
    bits = directory_bits(n)
    at = _Layout.of(bits, len(axis.track_ids), n)
    final = segment_path(folder, segment_id)
    draft = final.with_suffix(".draft")
    try:
        with draft.open("wb+") as file:
            file.write(_HEADER.pack(MAGIC, bits, 0, len(axis.track_ids), n))
            for name in ("track_ids", "bases", "n_frames", "counts"):
                _put(file, getattr(at, name), getattr(axis, name))
            square_sum = _write_postings(file, at, bits, n, _merged(sources, keeps, axis, n, bits))
            file.truncate(at.checksums)
            file.flush()
            head_crc, checksums = _checksums(file, at)
            _put(file, at.checksums, checksums)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(final)
        sync_folder(folder)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return SegmentRecord(
        id=segment_id,
        n_tracks=len(axis.track_ids),
        n_postings=n,
        n_frames=int(axis.n_frames.sum(dtype=np.int64)),
        n_bytes=at.end,
        head_crc=head_crc,
        checksums_crc=zlib.crc32(checksums.tobytes()),
        selectivity=square_sum / n**2 if n else 0.0,
    )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(file: BinaryIO, offset: int, array: npt.NDArray[Any]) -> None:
    file.seek(offset)
    file.write(np.ascontiguousarray(array).data)


def _merged(
    sources: Sequence[Source],
    keeps: Sequence[npt.NDArray[np.bool_]],
    axis: Axis,
    n: int,
    bits: int,
) -> Iterator[tuple[int, int, U64]]:
    """Yield ``(first slot, last slot, sorted keys on the new axis)``, step by step."""
    step_bits = min(max((n // _CHUNK_POSTINGS).bit_length(), 1), bits)
    for step in range(1 << step_bits):
        parts, track = [], 0
        for source, keep in zip(sources, keeps, strict=True):
            n_kept = int(np.count_nonzero(keep))
            bases = axis.bases[track : track + n_kept].astype(np.int64)
            track += n_kept
            if n_kept:
                keys = source.keys_between(step, step + 1, step_bits)
                parts.append(_moved(keys, source.axis.bases, keep, bases))
        width = bits - step_bits
        keys = parts[0] if len(parts) == 1 else sort(np.concatenate(parts))
        yield step << width, (step + 1) << width, keys


def _moved(
    keys: U64,
    old: npt.NDArray[np.uint32],
    keep: npt.NDArray[np.bool_],
    bases: npt.NDArray[np.int64],
) -> U64:
    """Move keys to the bases that the kept tracks have on another axis; drop the others."""
    if keep.all():  # both axes are laid alike, so that all tracks move by the same distance
        return keys + np.uint64((int(bases[0]) - int(old[0])) % (1 << 64))
    track = np.searchsorted(old, keys.astype(np.uint32), side="right") - 1
    distance = np.zeros(len(old), np.int64)
    distance[keep] = bases - old[keep]
    keys, track = keys[keep[track]], track[keep[track]]
    moved: U64 = keys + distance[track].astype(np.uint64)  # modulo 2**64, so back works as well
    return moved


def _write_postings(
    file: BinaryIO, at: _Layout, bits: int, n: int, steps: Iterable[tuple[int, int, U64]]
) -> float:
    """Write directory, remainders and positions; return the sum of squared list lengths."""
    kind = remainder_type(bits)
    done, square_sum = 0, 0.0
    for first, last, keys in steps:
        mixed = (keys >> np.uint64(32)).astype(np.uint32)
        edges = (slots(mixed, bits, first, last) + done).astype(np.uint32)
        _put(file, at.directory + 4 * first, edges)
        _put(file, at.remainders + np.dtype(kind).itemsize * done, mixed.astype(kind))
        _put(file, at.positions + 4 * done, keys.astype(np.uint32))
        ends = np.flatnonzero(np.diff(mixed, append=~mixed[-1:]))
        square_sum += float(np.square(np.diff(ends, prepend=-1), dtype=np.float64).sum())
        done += len(keys)
    if done != n:
        raise StoreError(f"a merge found {done} postings where {n} are counted", hint=DAMAGED)
    _put(file, at.directory + 4 * (1 << bits), np.array([n], np.uint32))
    return square_sum


def _checksums(file: BinaryIO, at: _Layout) -> tuple[int, npt.NDArray[np.uint32]]:
    """Return the checksum of the head and those of all blocks."""
    handle = file.fileno()
    head = zlib.crc32(os.pread(handle, at.head_end, 0))
    blocks = [
        zlib.crc32(os.pread(handle, min(BLOCK, at.checksums - start), start))
        for start in range(0, at.checksums, BLOCK)
    ]
    return head, np.array(blocks, np.uint32)
