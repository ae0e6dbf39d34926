"""What a backend sees of a store: posting lists on time axes, evidence, embeddings, tracks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from afp.fingerprint import F64, I64, U32, Evidence, Track


@dataclass(frozen=True, slots=True, eq=False)
class TimeAxis:
    """The tracks of one segment, laid end to end with a gap behind each.

    The gap (`GAP_FRAMES`) is longer than any query window, so ``position − query_frame`` names
    a track and an offset in one integer, also when the query starts before the track does.

    Attributes
    ----------
    bases : ndarray of uint32, shape (t,)
        Position of each track's first frame, increasing; the first is at least `GAP_FRAMES`.
    track_ids : ndarray of int64, shape (t,)
        The tracks.
    n_frames : ndarray of uint32, shape (t,)
        Their lengths in hops.
    alive : ndarray of bool, shape (t,)
        False for tracks that were removed and are not purged yet.
    """

    bases: U32
    track_ids: npt.NDArray[np.int64]
    n_frames: U32
    alive: npt.NDArray[np.bool_]


GAP_FRAMES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Postings of one segment that share a hash with the query.

    Attributes
    ----------
    rows : ndarray of uint32, shape (k,)
        Which of the query's hashes, as an index into the array that was looked up.
    positions : ndarray of uint32, shape (k,)
        Positions on `axis`.
    axis : TimeAxis
        The segment's time axis. Hits of removed tracks are not filtered out.
    """

    rows: U32
    positions: U32
    axis: TimeAxis


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The embeddings that a store holds of a track.

    Attributes
    ----------
    codes : ndarray of int8, shape (n, d)
        Row k is that of frame k, all zeros where there is none.
    scale : float
        A vector is its codes times this.
    """

    codes: npt.NDArray[np.int8]
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingBlock:
    """The embeddings of all live tracks of one segment, where they lie in memory.

    Attributes
    ----------
    codes : ndarray of int8, shape (n_bytes,)
        Holds them, among other bytes; read-only.
    starts : ndarray of int64, shape (t,)
        Where in `codes` each track's first row begins; the others follow.
    counts : ndarray of int64, shape (t,)
        Rows of each track, one a frame; all zeros where a frame has no embedding.
    scales : ndarray of float64, shape (t,)
        A vector of a track is its codes times this.
    track_ids : ndarray of int64, shape (t,)
        The tracks.
    dimensions : int
        Codes in a row.
    """

    codes: npt.NDArray[np.int8]
    starts: I64
    counts: I64
    scales: F64
    track_ids: I64
    dimensions: int


class PostingLists(Protocol):
    """The posting lists of some hashes, located but not yet read."""

    @property
    def counts(self) -> U32:
        """Number of postings of each hash, shape (m,), over all segments."""

    def gather(self, keep: npt.NDArray[np.bool_]) -> list[Hits]:
        """Read the lists of the hashes where ``keep`` (m,) is true; one `Hits` a segment."""


class IndexReader(Protocol):
    """One backend's index on one snapshot of a store."""

    @property
    def n_tracks(self) -> int:
        """Number of live tracks."""

    @property
    def n_frames(self) -> int:
        """Length of all live tracks together, in hops."""

    @property
    def n_postings(self) -> int:
        """Number of postings, those of removed tracks that are not purged yet included."""

    def lookup(self, hashes: U32) -> PostingLists:
        """Locate the posting lists of ``hashes`` (m,)."""

    def evidence(self, track_id: int) -> Evidence:
        """Return what the backend stored of a track for verification.

        Raises
        ------
        StoreError
            When the stored bytes fail their checksum.
        """

    def embeddings(self, track_id: int) -> Embeddings:
        """Return the embeddings of a track.

        Raises
        ------
        StoreError
            When the stored bytes fail their checksum.
        """

    def embedding_blocks(self) -> Sequence[EmbeddingBlock]:
        """Return the embeddings of all live tracks, without a copy or a look at their checksums."""

    def track(self, track_id: int) -> Track:
        """Return the catalogue's entry of a track."""
