"""Time axes: the tracks of a segment laid end to end."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.fingerprint import U32
from afp.index import GAP_FRAMES, TimeAxis

LAST_STOP = (1 << 32) - GAP_FRAMES  # so that what lies behind a track has a position, too


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """What a segment stores of its time axis.

    Attributes
    ----------
    track_ids : ndarray of int64, shape (t,)
        The tracks, in the order of their bases.
    bases : ndarray of uint32, shape (t,)
        Position of each track's first frame; a gap of `GAP_FRAMES` before each.
    n_frames : ndarray of uint32, shape (t,)
        Lengths in hops.
    counts : ndarray of uint32, shape (t,)
        Postings of each track.
    sizes : ndarray of uint32, shape (t,)
        Of each track's packed fingerprint, in bytes.
    """

    track_ids: npt.NDArray[np.int64]
    bases: U32
    n_frames: U32
    counts: U32
    sizes: U32
    _order: npt.NDArray[np.intp] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ascending = bool(np.all(self.track_ids[1:] > self.track_ids[:-1]))
        object.__setattr__(self, "_order", None if ascending else np.argsort(self.track_ids))

    @classmethod
    def lay(
        cls,
        track_ids: Sequence[int],
        n_frames: Sequence[int],
        counts: Sequence[int],
        sizes: Sequence[int],
    ) -> "Axis":
        """Lay tracks end to end, from `GAP_FRAMES` on.

        Raises
        ------
        StoreError
            When they are too long for one axis together.
        """
        lengths = np.asarray(n_frames, np.int64)
        stop = axis_stop(len(lengths), int(lengths.sum()))
        if stop > LAST_STOP:
            raise StoreError(
                f"{len(lengths)} tracks of {stop} frames together are too long for one time axis, "
                f"which ends at {LAST_STOP}",
                hint="add fewer at a time, or cut the files in pieces",
            )
        ends = np.cumsum(lengths + GAP_FRAMES) if len(lengths) else np.zeros(0, np.int64)
        return cls(
            np.asarray(track_ids, np.int64),
            (ends - lengths).astype(np.uint32),
            lengths.astype(np.uint32),
            np.asarray(counts, np.uint32),
            np.asarray(sizes, np.uint32),
        )

    @property
    def stop(self) -> int:
        """First position behind the last track."""
        return axis_stop(len(self.n_frames), int(self.n_frames.sum(dtype=np.int64)))

    def find(self, track_id: int) -> int | None:
        """Return which of the tracks has this id, or None."""
        at = int(np.searchsorted(self.track_ids, track_id, sorter=self._order))
        if at == len(self.track_ids):
            return None
        i = at if self._order is None else int(self._order[at])
        return i if self.track_ids[i] == track_id else None

    def alive(self, dead: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which tracks are not among the removed ones (sorted ids)."""
        if not len(dead):
            return np.ones(len(self.track_ids), np.bool_)
        return ~np.isin(self.track_ids, dead)

    def view(self, dead: npt.NDArray[np.int64]) -> TimeAxis:
        """Return the axis as backends see it."""
        return TimeAxis(self.bases, self.track_ids, self.n_frames, self.alive(dead))


def axis_stop(n_tracks: int, n_frames: int) -> int:
    """Return the length of an axis of so many tracks and frames."""
    return n_frames + n_tracks * GAP_FRAMES
