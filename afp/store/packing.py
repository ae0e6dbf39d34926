"""Fingerprints as bytes: delta-coded frames, byte planes, deflate where it pays.

Values of which successive ones differ in few bits, such as sub-fingerprints, are stored as these
differences.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.fingerprint import U32, Evidence, Fingerprint
from afp.store import embeddings

# Kind, planes of frames, planes of values, how the values are coded, n_frames, n.
_HEADER = struct.Struct("<BBBBII")
_PLANE = struct.Struct("<I")
_EVIDENCE, _POSTINGS = 0, 1
_PLAIN, _DIFFERENCES = 0, 1
_WIDTH = 4  # planes of a value, at most
_LEVEL = 1  # higher levels find no more in planes without repeats, and take twice as long


@dataclass(frozen=True, slots=True, eq=False)
class StoredFingerprint:
    """A fingerprint as a store holds it, on its way into another one.

    Attributes
    ----------
    n_frames : int
        Length of the audio, in hops.
    frames, hashes : ndarray of uint32, shape (n,)
        The postings, by frame and mixed hash.
    payload : bytes
        What `pack` made of the rest.
    """

    n_frames: int
    frames: U32
    hashes: U32
    payload: bytes


Storable = Fingerprint | StoredFingerprint


def _planes(values: U32) -> list[bytes]:
    """Split into byte planes, lowest first, as few as hold the largest value."""
    width = (int(values.max()).bit_length() + 7) // 8 if len(values) else 0
    bytes_of = values.astype("<u4").view(np.uint8).reshape(-1, 4)
    return [np.ascontiguousarray(bytes_of[:, plane]).tobytes() for plane in range(width)]


def _joined(planes: list[bytes], n: int) -> U32:
    """Put byte planes together again."""
    bytes_of = np.zeros((n, 4), np.uint8)
    for plane, data in enumerate(planes):
        bytes_of[:, plane] = np.frombuffer(data, np.uint8)
    return bytes_of.view("<u4").reshape(-1).astype(np.uint32, copy=False)


def pack(fingerprint: Storable) -> bytes:
    """Pack what verification needs: evidence or embeddings, or the postings where there is none."""
    if isinstance(fingerprint, StoredFingerprint):
        return fingerprint.payload
    if fingerprint.vectors is not None:
        return embeddings.pack(fingerprint)
    evidence = fingerprint.evidence
    if evidence is not None:
        kind, frames, values = _EVIDENCE, evidence.frames, evidence.values
    else:
        assert fingerprint.hashes is not None
        kind, frames, values = _POSTINGS, fingerprint.frames, fingerprint.hashes
    steps = frames.copy()
    steps[1:] -= frames[:-1]
    differences = values.copy()
    differences[1:] ^= values[:-1]
    coding = _DIFFERENCES if 2 * _n_set(differences) < _n_set(values) else _PLAIN
    frame_planes = _planes(steps)
    value_planes = _planes(differences if coding == _DIFFERENCES else values)
    n_planes = len(frame_planes), len(value_planes)
    parts = [_HEADER.pack(kind, *n_planes, coding, fingerprint.n_frames, len(frames))]
    for i, plane in enumerate(frame_planes + value_planes):
        # Planes are short of bits, not of repeats: Huffman's code alone does most for differences,
        # and with runs for the others, as all steps of frames may be equal.
        differ = coding == _DIFFERENCES and i >= len(frame_planes)
        strategy = zlib.Z_HUFFMAN_ONLY if differ else zlib.Z_RLE
        deflate = zlib.compressobj(_LEVEL, strategy=strategy)
        deflated = deflate.compress(plane) + deflate.flush()
        # A plane as long as n is a plane as it is: most low bytes do not compress.
        kept = deflated if len(deflated) < 0.97 * len(plane) else plane
        parts += [_PLANE.pack(len(kept)), kept]
    return b"".join(parts)


def _n_set(values: U32) -> int:
    """Count the bits that are set."""
    bytes_of = np.ascontiguousarray(values).view(np.uint8)
    parts = (bytes_of[i : i + 65536] for i in range(0, len(bytes_of), 65536))
    return sum(int(np.count_nonzero(np.unpackbits(part).view(np.bool_))) for part in parts)


def require_sound(payload: memoryview) -> None:
    """Read a packed fingerprint of either kind.

    Raises
    ------
    StoreError
        When the bytes are none.
    """
    if payload[:1] == bytes([embeddings.KIND]):
        embeddings.unpack(payload)
    else:
        unpack(payload)


def kind_of(payload: bytes | memoryview) -> tuple[int, int]:
    """Tell what a sound packed fingerprint is of, and of how many dimensions; 0 without any.

    All fingerprints of an index are of one kind.
    """
    if payload[0] != embeddings.KIND:
        return payload[0], 0
    return embeddings.KIND, embeddings.unpack(memoryview(payload))[0].codes.shape[1]


def is_of_postings(payload: bytes | memoryview) -> bool:
    """Tell whether a packed fingerprint is that of a backend without evidence or embeddings."""
    return payload[:1] == bytes([_POSTINGS])


def unpack(payload: memoryview, *, most: int = 1 << 32) -> tuple[Evidence, int]:
    """Return the evidence (or the postings in its place) and the length in hops.

    Parameters
    ----------
    payload : memoryview
        What `pack` returned.
    most : int
        Values from which on they are refused, before there is memory taken for them.

    Raises
    ------
    StoreError
        When the bytes are no packed fingerprint.
    """
    try:
        kind, n_frame_planes, n_value_planes, coding, n_frames, n = _HEADER.unpack_from(payload)
        if kind not in (_EVIDENCE, _POSTINGS):
            raise ValueError(f"it is of a kind ({kind}) that is not known")
        if n >= most:
            raise ValueError(f"it has {n} values, and {most - 1} are the most")
        if max(n_frame_planes, n_value_planes) > _WIDTH:
            raise ValueError("its values are too wide")
        at = _HEADER.size
        planes: list[bytes] = []
        for _ in range(n_frame_planes + n_value_planes):
            (length,) = _PLANE.unpack_from(payload, at)
            at += _PLANE.size
            plane = payload[at : at + length]
            planes.append(bytes(plane) if length == n else _inflated(plane, n))
            at += length
        if at != len(payload):
            raise ValueError("its length is another")
        steps = _joined(planes[:n_frame_planes], n)
        values = _joined(planes[n_frame_planes:], n)
        if coding == _DIFFERENCES:
            np.bitwise_xor.accumulate(values, out=values)
        elif coding != _PLAIN:
            raise ValueError(f"values are coded in a way ({coding}) that is not known")
    except (struct.error, zlib.error, ValueError) as error:
        raise StoreError(f"a fingerprint cannot be unpacked: {error}") from None
    frames: npt.NDArray[np.uint32] = np.cumsum(steps, dtype=np.uint32)
    return Evidence(frames, values), n_frames


def _inflated(plane: memoryview, n: int) -> bytes:
    """Inflate a plane of n bytes, never to more."""
    inflate = zlib.decompressobj()
    found = inflate.decompress(plane, n + 1)
    if len(found) != n or not inflate.eof or inflate.unused_data:
        raise ValueError("a plane is not as long as it should be")
    return found
