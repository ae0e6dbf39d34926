"""Embeddings as bytes: one int8 row a frame, read from a mapped segment without a copy.

A packed fingerprint is sealed, so that its header begins behind a checksum of 4 bytes; the codes
begin `CODES_AT` bytes from there, and the whole takes a multiple of as many: codes stay aligned
wherever such fingerprints lie end to end from an aligned place on.
"""

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.fingerprint import I64, Fingerprint
from afp.index import EmbeddingBlock, Embeddings
from afp.store.records import REPLACE

KIND = 2  # the first byte, as in `afp.store.packing`
CODES_AT = 64
LARGEST = 127  # code

_SEAL = 4
_HEADER = np.dtype(
    {
        "names": ["kind", "n_frames", "n", "d", "scale"],
        "formats": ["u1", "<u4", "<u4", "<u4", "<f4"],
        "offsets": [0, 4, 8, 12, 16],
    }
)


def pack(fingerprint: Fingerprint) -> bytes:
    """Pack the vectors of a fingerprint as codes of 8 bits with one scale.

    Rows are frames from the first on; one without a vector is all zeros.
    """
    vectors, frames = fingerprint.vectors, fingerprint.frames
    assert vectors is not None
    n = int(frames[-1]) + 1 if len(frames) else 0
    largest = float(np.abs(vectors).max(initial=0.0))
    scale = np.float32((largest or 1.0) / LARGEST)
    codes = np.zeros((n, vectors.shape[1]), np.int8)
    codes[frames] = np.rint(vectors / scale)
    header = np.zeros(1, _HEADER)
    header["kind"], header["n_frames"], header["n"] = KIND, fingerprint.n_frames, n
    header["d"], header["scale"] = vectors.shape[1], scale
    head = header.tobytes().ljust(CODES_AT - _SEAL, b"\0")
    return head + codes.tobytes() + bytes(-codes.size % CODES_AT)


def unpack(payload: memoryview) -> tuple[Embeddings, int]:
    """Return embeddings, whose codes share the payload's memory, and the length in hops.

    Raises
    ------
    StoreError
        When the bytes are no packed embeddings.
    """
    at = CODES_AT - _SEAL
    if len(payload) < at or payload[0] != KIND:
        raise StoreError("a fingerprint that is to be of embeddings is not", hint=REPLACE)
    header = np.frombuffer(payload, _HEADER, 1)[0]
    n, d = int(header["n"]), int(header["d"])
    if len(payload) != at + n * d + -(n * d) % CODES_AT:
        raise StoreError("embeddings cannot be unpacked: they are cut short", hint=REPLACE)
    codes = np.frombuffer(payload, np.int8, n * d, at).reshape(n, d)
    return Embeddings(codes, float(header["scale"])), int(header["n_frames"])


def block(
    memory: npt.NDArray[np.uint8], edges: I64, track_ids: I64, alive: npt.NDArray[np.bool_]
) -> EmbeddingBlock:
    """Find the codes of sealed fingerprints that lie end to end.

    Parameters
    ----------
    memory : ndarray of uint8, shape (n_bytes,)
        Holds them.
    edges : ndarray of int64, shape (t + 1,)
        Where each begins, and the end of the last.
    track_ids, alive : ndarray of int64 and bool, shape (t,)
        Their tracks, and which of them count.

    Raises
    ------
    StoreError
        When one is not of embeddings, or they are not of the same dimensions.
    """
    starts, sizes = edges[:-1][alive], np.diff(edges)[alive]
    if np.any(sizes < CODES_AT):
        raise StoreError("an index holds fingerprints without embeddings", hint=REPLACE)
    places = starts[:, None] + (_SEAL + np.arange(_HEADER.itemsize))
    headers = memory[places].view(_HEADER).reshape(-1)
    counts = headers["n"].astype(np.int64)
    dimensions = int(headers["d"].max(initial=0))
    if np.any(headers["d"] != dimensions) and np.all(headers["kind"] == KIND):
        raise StoreError("an index holds embeddings of different dimensions", hint=REPLACE)
    fits = headers["kind"] == KIND
    if not np.all(fits & (CODES_AT + counts * dimensions <= sizes)):
        raise StoreError("an index holds embeddings that are damaged", hint=REPLACE)
    return EmbeddingBlock(
        memory.view(np.int8),
        starts + CODES_AT,
        counts,
        headers["scale"].astype(np.float64),
        np.ascontiguousarray(track_ids[alive]),
        dimensions,
    )
