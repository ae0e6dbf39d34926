"""One backend's index on one snapshot: what backends look hashes up in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.fingerprint import U32, Evidence, Track
from afp.index import Hits, TimeAxis
from afp.store.axis import Axis
from afp.store.postings import Run, gather, mix
from afp.store.records import DAMAGED

if TYPE_CHECKING:
    from afp.store.snapshot import Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """Runs of postings that share a time axis: those of a segment, or all tails."""

    axis: TimeAxis
    stop: int
    runs: Sequence[Run]

    @classmethod
    def of(cls, axis: Axis, runs: Sequence[Run], dead: npt.NDArray[np.int64]) -> "Section":
        """Put an axis and runs together, with the removed tracks marked."""
        return cls(axis.view(dead), axis.stop, runs)


class SectionLists:
    """The posting lists of some hashes in every section, located but not yet read."""

    def __init__(self, sections: Sequence[Section], hashes: U32) -> None:
        mixed = mix(hashes)
        self._sections = sections
        self._located = [[run.locate(mixed) for run in section.runs] for section in sections]
        counts = np.zeros(len(mixed), np.uint64)
        for located in self._located:
            for _, of_run in located:
                counts += of_run
        self._counts = np.minimum(counts, np.iinfo(np.uint32).max).astype(np.uint32)

    @property
    def counts(self) -> U32:
        """Number of postings of each hash, over all sections."""
        return self._counts

    def gather(self, keep: npt.NDArray[np.bool_]) -> list[Hits]:
        """Read the lists of the hashes where `keep` is true; one `Hits` a section."""
        kept = np.flatnonzero(keep).astype(np.uint32)
        return [
            self._gather_section(section, located, kept)
            for section, located in zip(self._sections, self._located, strict=True)
        ]

    def _gather_section(
        self, section: Section, located: Sequence[tuple[U32, U32]], kept: U32
    ) -> Hits:
        sizes = [int(counts[kept].sum(dtype=np.int64)) for _, counts in located]
        rows, positions = np.empty(sum(sizes), np.uint32), np.empty(sum(sizes), np.uint32)
        at = 0
        for run, (starts, counts), size in zip(section.runs, located, sizes, strict=True):
            if not size:
                continue
            part = slice(at, at + size)
            if gather(run.positions, starts, counts, kept, rows[part], positions[part]) >= (
                section.stop
            ):
                raise StoreError("a segment holds positions behind its last track", hint=DAMAGED)
            at += size
        return Hits(rows, positions, section.axis)


class StoreIndexReader:
    """One backend's index on one snapshot of a store (an `afp.index.IndexReader`)."""

    def __init__(self, snapshot: "Snapshot", backend_id: int, sections: Sequence[Section]) -> None:
        self._snapshot = snapshot
        self._backend_id = backend_id
        self._sections = sections
        axes = [section.axis for section in sections]
        self.n_tracks = sum(int(np.count_nonzero(axis.alive)) for axis in axes)
        self.n_frames = sum(int(axis.n_frames[axis.alive].sum(dtype=np.int64)) for axis in axes)
        self.n_postings = sum(len(run.positions) for section in sections for run in section.runs)

    def lookup(self, hashes: U32) -> SectionLists:
        """Locate the posting lists of ``hashes`` (m,)."""
        return SectionLists(self._sections, np.ascontiguousarray(hashes, np.uint32))

    def evidence(self, track_id: int) -> Evidence:
        """Return what the backend stored of a track for verification.

        Raises
        ------
        StoreError
            When the stored bytes fail their checksum, or nothing is stored.
        """
        return self._snapshot.evidence(self._backend_id, track_id)

    def track(self, track_id: int) -> Track:
        """Return the catalogue's entry of a track."""
        return self._snapshot.track(track_id)
