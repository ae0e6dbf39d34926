"""Tails: what an index has of tracks that are in no segment yet, a value of the catalogue each.

The tails of a backend share one time axis, and are few: a reader looks into every one of them.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.fingerprint import I64, U32
from afp.store.axis import Axis
from afp.store.postings import NARROW_BITS, U64, Run, directory_bits, pair, slots, sort
from afp.store.records import REPLACE, DamagedStoreError
from afp.store.segment_writer import SortedKeys

_HEADER = struct.Struct("<QIII")  # track id, base, n_frames, n
_SHORT = 1 << 16
_COUNTS = np.dtype(("<u4", 256))  # of the mixed hashes that begin with each byte


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The postings and the fingerprint of one track.

    Attributes
    ----------
    track_id : int
        The track.
    base : int
        Position of its first frame on the axis of the tails.
    n_frames : int
        Its length in hops.
    mixed : ndarray of uint32, shape (n,)
        Mixed hashes, ascending.
    frames : ndarray of uint32, shape (n,)
        Frame of each, ascending within a hash.
    fingerprint : bytes
        Packed and sealed.
    """

    track_id: int
    base: int
    n_frames: int
    mixed: U32
    frames: U32
    fingerprint: bytes

    def pack(self) -> bytes:
        """Return the tail as bytes, 5 a posting (7 for tracks of more than 65,536 frames)."""
        short = self.n_frames <= _SHORT
        low = self.mixed.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]
        return b"".join(
            [
                _HEADER.pack(self.track_id, self.base, self.n_frames, len(self.mixed)),
                np.bincount(self.mixed >> np.uint32(24), minlength=256).astype("<u4").tobytes(),
                self.frames.astype("<u2" if short else "<u4").tobytes(),
                low.tobytes(),
                self.fingerprint,
            ]
        )

    @classmethod
    def unpack(cls, payload: memoryview) -> "Tail":
        """Return the tail that `pack` wrote.

        Raises
        ------
        StoreError
            When the bytes are no packed tail.
        """
        try:
            track_id, base, n_frames, n = _HEADER.unpack_from(payload)
            counts = np.frombuffer(payload, _COUNTS, 1, _HEADER.size)[0]
            at = _HEADER.size + _COUNTS.itemsize
            short = n_frames <= _SHORT
            frames = np.frombuffer(payload, "<u2" if short else "<u4", n, at).astype(np.uint32)
            at += (2 if short else 4) * n
            low = np.frombuffer(payload, np.uint8, 3 * n, at)
            bytes_of = np.empty((n, 4), np.uint8)
            bytes_of[:, :3] = low.reshape(n, 3)
            bytes_of[:, 3] = np.repeat(np.arange(256, dtype=np.uint8), counts)
        except (struct.error, ValueError) as error:
            raise DamagedStoreError(f"a tail cannot be unpacked: {error}", hint=REPLACE) from None
        mixed = bytes_of.view("<u4").reshape(n).astype(np.uint32, copy=False)
        return cls(track_id, base, n_frames, mixed, frames, bytes(payload[at + 3 * n :]))

    def run(self) -> Run:
        """Return the postings in the form that lookups want."""
        bits = min(directory_bits(len(self.mixed)), NARROW_BITS - 1)  # remainders are whole
        edges = slots(self.mixed, bits, 0, 1 << bits).astype(np.uint32)
        directory = np.append(edges, np.uint32(len(self.mixed)))
        return Run(bits, directory, self.mixed, self.frames + np.uint32(self.base))


def axis_of(tails: Sequence[Tail]) -> Axis:
    """Return the axis that tails, in the order of their bases, share."""
    return Axis.lay(
        [tail.track_id for tail in tails],
        [tail.n_frames for tail in tails],
        [len(tail.mixed) for tail in tails],
        [len(tail.fingerprint) for tail in tails],
    )


def source_of(tails: Sequence[Tail]) -> SortedKeys:
    """Return tails as one source of a segment."""
    keys: list[U64] = [pair(tail.mixed, tail.frames + np.uint32(tail.base)) for tail in tails]
    packed = [tail.fingerprint for tail in tails]
    return SortedKeys(axis_of(tails), sort(np.concatenate(keys)), packed)


def end_to_end(packed: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], I64]:
    """Join packed fingerprints; return them and where each begins, and the end of the last."""
    edges = np.cumsum([0, *map(len, packed)], dtype=np.int64)
    return np.frombuffer(b"".join(packed), np.uint8), edges
