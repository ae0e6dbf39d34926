"""Snapshots: a consistent view of a store, cheap to take again while nothing changes."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from afp.errors import StoreError, UsageError
from afp.fingerprint import Track
from afp.store import records
from afp.store.catalogue import Catalogue
from afp.store.environment import Environment
from afp.store.index_reader import Section, StoreIndexReader
from afp.store.manifest import Manifest, read_manifest
from afp.store.records import BackendRecord, DamagedStoreError, Failure, PathEntry
from afp.store.segment import Segment
from afp.store.tails import Tail, axis_of, end_to_end

if TYPE_CHECKING:
    import lmdb


def dead_tracks(catalogue: Catalogue, backend_id: int) -> npt.NDArray[np.int64]:
    """Return the ids of a backend's removed tracks that are not purged yet, sorted."""
    tombstones = catalogue.items("tombstones", records.backend_key(backend_id))
    return np.array([records.backend_track_of(key)[1] for key, _ in tombstones], np.int64)


def read_tails(catalogue: Catalogue, backend_id: int) -> list[Tail]:
    """Return a backend's tails in the order of their bases."""
    prefix = records.backend_key(backend_id)
    return [Tail.unpack(payload) for _, payload in catalogue.items("tails", prefix)]


class Views:
    """The open segments and decoded tails behind the snapshots of one store.

    Both never change once they are written, so that they are kept from one transaction to the
    next, and only what is new is read.
    """

    def __init__(self, folder: Any) -> None:
        self._folder = folder
        self._txn_id = -1
        self.segments: dict[int, Segment] = {}
        self._tails: dict[tuple[int, int], Any] = {}
        self.backends: dict[str, BackendRecord] = {}
        self.sections: dict[int, list[Section]] = {}

    def refresh(self, catalogue: Catalogue) -> None:
        """Bring the views up to a transaction.

        Raises
        ------
        StoreError
            When a part cannot be read; because of a `FileNotFoundError` also when a merge overtook
            the transaction.
        """
        txn_id = catalogue.txn.id()
        if txn_id == self._txn_id:
            return
        backends = catalogue.backends()
        segments: dict[int, Segment] = {}
        tails: dict[tuple[int, int], Any] = {}
        sections: dict[int, list[Section]] = {}
        for backend in backends.values():
            manifest = read_manifest(catalogue, backend.id)
            dead = dead_tracks(catalogue, backend.id)
            sections[backend.id] = []
            for record in manifest.segments:
                known = self.segments.get(record.id)
                segment = known or Segment.open(self._folder, record)
                segments[record.id] = segment
                sections[backend.id].append(
                    Section.of(
                        segment.axis, [segment.run], segment.fingerprint, segment.packed, dead
                    )
                )
            found = self._read_tails(catalogue, backend.id, manifest, tails)
            if found:
                packed = [tail.fingerprint for tail, _ in found]
                axis = axis_of([tail for tail, _ in found])
                sections[backend.id].append(
                    Section.of(
                        axis,
                        [run for _, run in found],
                        packed.__getitem__,
                        partial(end_to_end, packed),
                        dead,
                    )
                )
        self.backends, self.sections = backends, sections
        self.segments, self._tails, self._txn_id = segments, tails, txn_id

    def _read_tails(
        self,
        catalogue: Catalogue,
        backend_id: int,
        manifest: Manifest,
        tails: dict[tuple[int, int], Any],
    ) -> list[Any]:
        if not manifest.n_tails:
            return []
        found = []
        for tail in read_tails(catalogue, backend_id):
            # A track is in one tail at most, ever, so that its id names the tail.
            key = (backend_id, tail.track_id)
            known = self._tails.get(key)
            tails[key] = known if known is not None else (tail, tail.run())
            found.append(tails[key])
        if len(found) != manifest.n_tails:
            raise DamagedStoreError(
                f"the index has {len(found)} tails where {manifest.n_tails} are counted",
                hint=records.REPLACE,
            )
        return found


class Snapshot:
    """A store at one moment; a context manager. Keep none open for long: the file would grow.

    Attributes
    ----------
    catalogue : Catalogue
        On this snapshot's transaction.
    backends : dict of str to BackendRecord
        The backends that the store holds.
    segments : dict of int to Segment
        The open segments of all indexes, by id.
    """

    def __init__(
        self, environment: Environment, txn: "lmdb.Transaction[Any]", views: Views
    ) -> None:
        self._environment = environment
        self._txn: lmdb.Transaction[Any] | None = txn
        self.catalogue = Catalogue(txn)
        self.backends = views.backends
        self.sections = views.sections
        self.segments = views.segments
        self._names = {backend.id: name for name, backend in self.backends.items()}

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the transaction."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
            self._environment.release()

    def require_open(self) -> None:
        """Refuse to go on once the snapshot is closed."""
        if self._txn is None:
            raise StoreError("this snapshot is closed", hint="take another one")

    def __len__(self) -> int:
        """Return the number of tracks."""
        self.require_open()
        return self.catalogue.count("tracks")

    def tracks(self) -> Iterator[Track]:
        """Iterate over all tracks by id."""
        self.require_open()
        self._environment.require_sound()
        for key, payload in self.catalogue.items("tracks"):
            record = records.TrackRecord.unpack(payload)
            yield self.catalogue.describe(records.track_of(key), record, self._names)

    def track(self, track_id: int) -> Track:
        """Return a track.

        Raises
        ------
        StoreError
            When there is no such track.
        """
        self.require_open()
        return self.catalogue.track(track_id, self._names)

    def find_track(self, track_id: int) -> Track | None:
        """Return a track, or None where no track has this id, whatever its size and sign."""
        self.require_open()
        record = self.catalogue.record(track_id)
        return None if record is None else self.catalogue.describe(track_id, record, self._names)

    def track_by_path(self, path: str) -> Track | None:
        """Return the track that a file holds, with this path as its own, or None."""
        self.require_open()
        entry = self.catalogue.path_entry(records.path_key(path))
        return None if entry is None else self.track(entry.track_id)

    def track_by_content(self, content_id: str) -> Track | None:
        """Return the track that holds a content, or None."""
        self.require_open()
        track_id = self.catalogue.by_content(content_id)
        return None if track_id is None else self.track(track_id)

    def path_entry(self, path: str) -> PathEntry | None:
        """Return what is known of a file, or None; one look-up."""
        self.require_open()
        entry = self.catalogue.path_entry(records.path_key(path))
        return None if entry is None else entry.state

    def paths(self) -> dict[str, PathEntry]:
        """Return what is known of every file, by path."""
        self.require_open()
        self._environment.require_sound()
        return {entry.path: entry.state for entry in self.catalogue.paths()}

    def failure(self, path: str) -> Failure | None:
        """Return why a file could not be indexed, or None; one look-up."""
        self.require_open()
        return self.catalogue.failure(records.path_key(path))

    def failures(self) -> list[Failure]:
        """Return the files that could not be indexed."""
        self.require_open()
        self._environment.require_sound()
        return list(self.catalogue.failures())

    def index(self, backend: str) -> StoreIndexReader:
        """Return a backend's index.

        Raises
        ------
        UsageError
            When the store holds no index of that backend.
        """
        self.require_open()
        if backend not in self.backends:
            held = ", ".join(sorted(self.backends)) or "none yet"
            raise UsageError(
                f"the store holds no index of backend {backend!r}",
                hint=f"it holds: {held}; `afp index -b {backend}` adds one",
            )
        return StoreIndexReader(self, backend, self.sections[self.backends[backend].id])

    def free_bytes(self) -> int:
        """Return the size of the catalogue's pages that are not in use."""
        self.require_open()
        return self._environment.free_bytes()
