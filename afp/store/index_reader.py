"""One backend's index on one snapshot: what backends look hashes up in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError
from afp.fingerprint import I64, U32, Evidence, Track
from afp.index import EmbeddingBlock, Embeddings, Hits, TimeAxis
from afp.store import embeddings, packing, records
from afp.store.axis import Axis
from afp.store.postings import Run, gather, mix
from afp.store.records import REPLACE

if TYPE_CHECKING:
    from afp.store.snapshot import Snapshot


Packed = tuple[npt.NDArray[np.uint8], I64]

_CACHED_VALUES = 1 << 22  # of evidence that stays unpacked: 32 MiB, a minute of music takes 16 KiB


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """What shares a time axis: a segment, or all tails.

    Attributes
    ----------
    axis : TimeAxis
        As backends see it, with the removed tracks marked.
    stop : int
        Length of the axis.
    runs : sequence of Run
        The postings.
    find : callable
        Tells which of the axis' tracks has an id, or None.
    fingerprint : callable
        Returns the packed and sealed fingerprint of the i-th track of the axis.
    packed : callable
        Returns memory that holds all of these end to end, and their edges in it.
    """

    axis: TimeAxis
    stop: int
    runs: Sequence[Run]
    find: Callable[[int], int | None]
    fingerprint: Callable[[int], bytes | memoryview]
    packed: Callable[[], Packed]

    @classmethod
    def of(
        cls,
        axis: Axis,
        runs: Sequence[Run],
        fingerprint: Callable[[int], bytes | memoryview],
        packed: Callable[[], Packed],
        dead: npt.NDArray[np.int64],
    ) -> "Section":
        """Put an axis and what is on it together, with the removed tracks marked."""
        return cls(axis.view(dead), axis.stop, runs, axis.find, fingerprint, packed)


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
        # One array, as NumPy asks for large pages from 4 MiB on: others cost more than to gather.
        rows, positions = np.empty((2, sum(sizes)), np.uint32)
        at = 0
        for run, (starts, counts), size in zip(section.runs, located, sizes, strict=True):
            if not size:
                continue
            part = slice(at, at + size)
            if gather(run.positions, starts, counts, kept, rows[part], positions[part]) >= (
                section.stop
            ):
                raise StoreError("a segment holds positions behind its last track", hint=REPLACE)
            at += size
        return Hits(rows, positions, section.axis)


class StoreIndexReader:
    """One backend's index on one snapshot of a store (an `afp.index.IndexReader`)."""

    def __init__(self, snapshot: "Snapshot", backend: str, sections: Sequence[Section]) -> None:
        self._snapshot = snapshot
        self._backend = backend
        self._sections = sections
        self._cached: dict[int, Evidence] = {}  # the one used last comes last
        self._n_cached = 0
        self._blocks: list[EmbeddingBlock] | None = None
        axes = [section.axis for section in sections]
        self.n_tracks = sum(int(np.count_nonzero(axis.alive)) for axis in axes)
        self.n_frames = sum(int(axis.n_frames[axis.alive].sum(dtype=np.int64)) for axis in axes)
        self.n_postings = sum(len(run.positions) for section in sections for run in section.runs)

    def lookup(self, hashes: U32) -> SectionLists:
        """Locate the posting lists of ``hashes`` (m,)."""
        return SectionLists(self._sections, np.ascontiguousarray(hashes, np.uint32))

    def evidence(self, track_id: int) -> Evidence:
        """Return what the backend stored of a track for verification.

        The evidence used last stays unpacked, as queries ask for the same tracks again and again.

        Raises
        ------
        StoreError
            When the stored bytes fail their checksum, or nothing is stored.
        """
        self._snapshot.require_open()
        evidence = self._cached.pop(track_id, None)
        if evidence is None:
            evidence = self._unpack(track_id)
            self._n_cached += len(evidence.frames)
        self._cached[track_id] = evidence
        while self._n_cached > _CACHED_VALUES:
            oldest = next(iter(self._cached))
            self._n_cached -= len(self._cached.pop(oldest).frames)
        return evidence

    def embeddings(self, track_id: int) -> Embeddings:
        """Return the embeddings of a track.

        Raises
        ------
        StoreError
            When the stored bytes fail their checksum, or nothing is stored.
        """
        self._snapshot.require_open()
        return embeddings.unpack(self._payload(track_id))[0]

    def embedding_blocks(self) -> Sequence[EmbeddingBlock]:
        """Return the embeddings of all live tracks, without a copy or a look at their checksums."""
        self._snapshot.require_open()
        if self._blocks is None:
            self._blocks = [
                embeddings.block(*section.packed(), section.axis.track_ids, section.axis.alive)
                for section in self._sections
            ]
        return self._blocks

    def _unpack(self, track_id: int) -> Evidence:
        return packing.unpack(self._payload(track_id))[0]

    def _payload(self, track_id: int) -> memoryview:
        for section in self._sections:
            i = section.find(track_id)
            if i is not None and section.axis.alive[i]:
                what = f"the fingerprint of track {track_id}"
                key = records.track_key(track_id)
                sealed = section.fingerprint(i)
                return records.unseal(key, sealed, what)
        raise StoreError(
            f"track {track_id} has no fingerprint of {self._backend!r}",
            hint=f"`afp index -b {self._backend}` adds it",
        )

    def track(self, track_id: int) -> Track:
        """Return the catalogue's entry of a track."""
        return self._snapshot.track(track_id)
