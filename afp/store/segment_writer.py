"""Writing segment files: sources of postings and fingerprints, merged in bounded memory."""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.store.axis import Axis
from afp.store.postings import U64, directory_bits, keys_between, remainder_type, slots, sort
from afp.store.records import REPLACE
from afp.store.segment import BLOCK, HEADER, MAGIC, Layout, SegmentRecord, segment_path

_CHUNK_POSTINGS = 1 << 20  # of a merge's step, what bounds its memory


class Source(Protocol):
    """Postings and fingerprints that go into a segment."""

    @property
    def axis(self) -> Axis:
        """The tracks that the postings belong to."""

    def keys_between(self, first: int, last: int, bits: int) -> U64:
        """Return the sort keys whose mixed hash's leading `bits` are in ``first <= x < last``.

        In the order of hash and position.
        """

    def fingerprints(self, keep: npt.NDArray[np.bool_]) -> Iterable[bytes | memoryview]:
        """Return the packed fingerprints of the tracks where `keep` is true, in pieces."""


@dataclass(frozen=True, slots=True, eq=False)
class SortedKeys:
    """A source in memory: keys in the order of hash and position, a fingerprint a track."""

    axis: Axis
    keys: U64
    packed: Sequence[bytes]

    def keys_between(self, first: int, last: int, bits: int) -> U64:
        """Return a slice of the keys."""
        return keys_between(self.keys, first, last, bits)

    def fingerprints(self, keep: npt.NDArray[np.bool_]) -> Iterable[bytes]:
        """Return the packed fingerprints of the kept tracks."""
        return compress(self.packed, keep)


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

    columns: list[Any] = [kept(name) for name in ("track_ids", "n_frames", "counts", "sizes")]
    axis = Axis.lay(*columns)
    if not len(axis.track_ids):
        return None
    n = int(axis.counts.sum(dtype=np.int64))
    bits = directory_bits(n)
    n_fingerprint_bytes = int(axis.sizes.sum(dtype=np.int64))
    at = Layout.of(bits, len(axis.track_ids), n, n_fingerprint_bytes)
    final = segment_path(folder, segment_id)
    draft = final.with_suffix(".draft")
    try:
        with draft.open("wb+") as file:
            file.write(HEADER.pack(MAGIC, bits, 0, len(axis.track_ids), n, n_fingerprint_bytes))
            for name in ("track_ids", "bases", "n_frames", "counts", "sizes"):
                _put(file, getattr(at, name), getattr(axis, name))
            square_sum = _write_postings(file, at, bits, n, _merged(sources, keeps, axis, n, bits))
            file.seek(at.fingerprints)
            for source, keep in zip(sources, keeps, strict=True):
                file.writelines(source.fingerprints(keep))
            if file.tell() != at.fingerprints + n_fingerprint_bytes:
                raise StoreError("a merge found fingerprints of other sizes", hint=REPLACE)
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
        n_fingerprint_bytes=n_fingerprint_bytes,
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
    file: BinaryIO, at: Layout, bits: int, n: int, steps: Iterable[tuple[int, int, U64]]
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
        raise StoreError(f"a merge found {done} postings where {n} are counted", hint=REPLACE)
    _put(file, at.directory + 4 * (1 << bits), np.array([n], np.uint32))
    return square_sum


def _checksums(file: BinaryIO, at: Layout) -> tuple[int, npt.NDArray[np.uint32]]:
    """Return the checksum of the head and those of all blocks."""
    handle = file.fileno()
    head = zlib.crc32(os.pread(handle, at.head_end, 0))
    blocks = [
        zlib.crc32(os.pread(handle, min(BLOCK, at.checksums - start), start))
        for start in range(0, at.checksums, BLOCK)
    ]
    return head, np.array(blocks, np.uint32)
