"""What a backend sees of a store: posting lists on time axes, evidence, tracks."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from afp.fingerprint import U32, Evidence, Track


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

    def track(self, track_id: int) -> Track:
        """Return the catalogue's entry of a track."""
