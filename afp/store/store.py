"""The store: a catalogue in LMDB beside immutable segment files, one writer, any readers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from afp.errors import StoreError
from afp.fingerprint import Track
from afp.store import records
from afp.store.catalogue import INDEX_TABLES, Catalogue
from afp.store.environment import Environment, data_path, generations, translated
from afp.store.folder import (
    ATTEMPTS,
    SEGMENTS,
    create,
    open_newest,
    prepare_folder,
    require_format,
    sweep,
)
from afp.store.index_writer import Batch, IndexWriter, check_fingerprint
from afp.store.lock import WriterLock
from afp.store.manifest import Manifest, write_segments, write_tail_state
from afp.store.new_track import NewTrack, enter
from afp.store.records import BackendRecord, DamagedStoreError, Failure
from afp.store.segment import DamagedSegmentError, SegmentRecord, segment_path
from afp.store.segment_writer import sync_folder
from afp.store.snapshot import Snapshot, Views

if TYPE_CHECKING:
    import lmdb

    from afp.store.stats import StoreStats

FREE_BYTES = 1 << 17  # what free pages may take in any case
FREE_SHARE = 5  # or a fifth of their file
WORKING_FREE_BYTES = 1 << 25  # what they may take during a run in any case, or half of their file

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Compaction:
    """Size of a store, in bytes, before and after `Store.compact`."""

    bytes_before: int
    bytes_after: int


class Store:
    """A store of tracks, fingerprints and indexes in one folder; a context manager.

    Use `Store.open`. Every change is one transaction: it is there as a whole when the call
    returns, also after ``kill -9``, or not at all.
    """

    def __init__(self, folder: Path, environment: Environment, lock: WriterLock | None) -> None:
        self.folder = folder
        self._environment = environment
        self._lock = lock
        self._views = Views(folder / SEGMENTS)
        self._damaged: set[int] = set()  # segments that merges leave out
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        write: bool = False,
        wait_seconds: float = 0.0,
        lock: WriterLock | None = None,
    ) -> "Store":
        """Open a store.

        Parameters
        ----------
        path : Path
            Its folder.
        write : bool
            Be the writer, of which there is one; make the store where there is none.
        wait_seconds : float
            How long to wait for another writer to finish; whom for is told as a warning.
        lock : WriterLock, optional
            What `reserve` has returned, to write without waiting.

        Raises
        ------
        StoreError
            When there is no store, another writer has it, or the system refuses. When a newer afp
            has written it, or it is damaged: for reading, with the first look into it.
        """
        if not write:
            return cls(path, open_newest(path), None)
        lock = lock.share() if lock else cls.reserve(path, wait_seconds=wait_seconds)
        try:
            create(path)
            environment = open_newest(path)
            store = cls(path, environment, lock)
            try:
                environment.require_sound()  # a writer may change any page
                store.look(partial(sweep, path))
            except BaseException:
                environment.release()
                raise
            return store
        except BaseException:
            lock.release()
            raise

    @staticmethod
    def reserve(path: Path, *, wait_seconds: float = 0.0) -> WriterLock:
        """Keep other writers out; return what keeps them out until it is released.

        Unlike an open store it may be held while the process forks. Its folder is made.

        Raises
        ------
        StoreError
            When another writer has the store, or the system refuses.
        """
        with translated(path):
            prepare_folder(path)
            return WriterLock(path, wait_seconds=wait_seconds)

    def close(self) -> None:
        """Let go of the store; snapshots that are open keep working."""
        if not self._closed:
            self._closed = True
            self._environment.release()
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Reading

    def snapshot(self) -> Snapshot:
        """Return a consistent view of the store as it is now; close it soon."""
        self._require_open()
        for _ in range(ATTEMPTS):
            if self._environment.replaced():
                environment = open_newest(self.folder)
                self._environment.release()
                self._environment = environment
                self._views = Views(self._segments)
            self._environment.require_sound(INDEX_TABLES)
            txn = self._environment.read()
            try:
                catalogue = Catalogue(txn)
                require_format(catalogue, self.folder)
                with translated(self.folder):
                    self._views.refresh(catalogue)
                return Snapshot(self._environment.share(), txn, self._views)
            except StoreError as error:
                txn.abort()
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                missing = error  # a merge was faster, unless it stays missing
            except BaseException:
                txn.abort()
                raise
        raise missing

    def look(self, look: Callable[[Catalogue], _T]) -> _T:
        """Look into the catalogue as it is now, without opening the indexes."""
        self._require_open()
        self._environment.require_sound(INDEX_TABLES)
        txn = self._environment.read()
        try:
            catalogue = Catalogue(txn)
            require_format(catalogue, self.folder)
            return look(catalogue)
        finally:
            txn.abort()

    def backends(self) -> dict[str, BackendRecord]:
        """Return the registered backends by name."""
        with self.snapshot() as snapshot:
            return dict(snapshot.backends)

    def failures(self) -> list[Failure]:
        """Return the files that could not be indexed."""
        with self.snapshot() as snapshot:
            return snapshot.failures()

    def check(self) -> list[str]:
        """Compare every checksum and every cross-reference; return what is wrong, a line each.

        In a process of its own, which damage may kill as LMDB follows it anywhere.
        """
        from afp.store.check_process import check_apart

        self._require_open()
        return check_apart(self.folder)

    def page_damage(self) -> list[str]:
        """Return what is wrong with the pages of the catalogue, which nothing can mend."""
        self._require_open()
        return self._environment.damage()

    def stats(self) -> "StoreStats":
        """Return sizes and counts."""
        from afp.store.stats import stats

        with self.snapshot() as snapshot:
            return stats(snapshot, self.n_bytes())

    def n_bytes(self) -> int:
        """Return the size of all files of the store, in bytes."""
        with translated(self.folder):
            total = self._environment.n_bytes()
            for file in self._segments.iterdir():
                with suppress(FileNotFoundError):  # a merge may delete it meanwhile
                    total += file.stat().st_size
            return total

    # Writing

    def register(
        self, name: str, *, version: int, parameters: Mapping[str, Any], hop_seconds: float
    ) -> None:
        """Bind the index of a backend to its version and parameters.

        Raises
        ------
        StoreError
            When the index is bound to others already.
        """

        def change(catalogue: Catalogue) -> None:
            known = catalogue.backends()
            wanted = BackendRecord(
                len(known) + 1, name, version, json.loads(json.dumps(parameters)), hop_seconds
            )
            if name in known:
                known[name].require_same(wanted)
            else:
                catalogue.put("backends", records.backend_key(wanted.id), wanted.pack())
                write_segments(catalogue, wanted.id, Manifest())
                write_tail_state(catalogue, wanted.id, Manifest())

        self._change(change)

    def add(self, items: Sequence[NewTrack]) -> list[Track]:
        """Store tracks with their fingerprints in one transaction.

        A track whose content is known keeps its id and the fingerprints that it has; its tags and
        path become the new ones, and fingerprints of further backends are added.

        Returns
        -------
        list of Track
            One an item, in order.
        """

        def change(catalogue: Catalogue) -> tuple[list[Track], list[IndexWriter]]:
            backends = catalogue.backends()
            names = {backend.id: name for name, backend in backends.items()}
            batches: dict[int, Batch] = {}
            tracks = []
            for item in items:
                track_id, record = enter(catalogue, item, backends, batches)
                tracks.append(catalogue.describe(track_id, record, names))
            indexes = [IndexWriter(self._segments, catalogue, i) for i in batches]
            for index in indexes:
                index.add(batches[index.backend_id])
            return tracks, indexes

        for item in items:
            for name, fingerprint in item.fingerprints.items():
                check_fingerprint(fingerprint, f"{item.path}: {name}")
        tracks, indexes = self._change(change)
        for index in indexes:
            self._maintain(index.backend_id, index.manifest)
        # A reader that stays keeps the pages of its snapshot from being used again, so that the
        # file would grow with all that is written: it keeps the old file, and we go on in another.
        self._give_back(WORKING_FREE_BYTES, 2)
        return tracks

    def update(self, track: Track) -> None:
        """Change a track's tags, and point its path (with size and mtime) to it.

        Its other paths stay; a path that held another track leaves that one.
        """
        self._change(lambda catalogue: catalogue.update(track))

    def remove(self, track_ids: Sequence[int]) -> int:
        """Remove tracks; return how many there were. Their ids are never used again."""

        def change(catalogue: Catalogue) -> int:
            found = [i for i in dict.fromkeys(track_ids) if catalogue.record(i) is not None]
            for track_id in found:
                catalogue.remove(track_id)
            return len(found)

        return self._change(change)

    def forget_paths(self, paths: Iterable[str]) -> int:
        """Forget files, and that they failed, in one transaction.

        Returns
        -------
        int
            How many tracks were removed, as they lost their last path.
        """
        keys = list(dict.fromkeys(records.path_key(path) for path in paths))

        def change(catalogue: Catalogue) -> int:
            removed = 0
            for key in keys:
                catalogue.delete("failures", key)
                entry = catalogue.path_entry(key)
                removed += entry is not None and catalogue.detach(key, entry.track_id)
            return removed

        return self._change(change) if keys else 0

    def record_failures(self, failures: Iterable[Failure]) -> None:
        """Remember files that could not be indexed, and why, in one transaction."""
        packed = {records.path_key(failure.path): failure.pack() for failure in failures}

        def change(catalogue: Catalogue) -> None:
            for key, payload in packed.items():
                catalogue.put("failures", key, payload)

        if packed:
            self._change(change)

    def repair(self) -> list[str]:
        """Drop what is damaged, so that indexing the music again puts it back.

        Returns
        -------
        list of str
            What was done, a line each.

        Raises
        ------
        StoreError
            When more is damaged than can be dropped.
        """
        from afp.store.repair import repair

        self._require_open()
        for fault in self.page_damage():
            raise DamagedStoreError(f"{self.folder}: {fault}", hint=records.ANEW)
        done = self._change(lambda catalogue: repair(catalogue, self._segments))
        self._views = Views(self._segments)
        self._damaged.clear()
        self.look(partial(sweep, self.folder))
        return done

    def flush(self) -> None:
        """Turn tails into segments and merge what is due: the end of an indexing run.

        Free pages are given back when there are many, so that each was worth its rewriting.
        """
        for backend in self.look(Catalogue.backends).values():
            manifest = self._change_index(backend.id, IndexWriter.flush_tails)
            while (due := manifest.due_merge_at_rest(self._damaged)) is not None:
                manifest = self._merge(backend.id, manifest, due)
            self._maintain(backend.id, manifest)
        self._give_back(FREE_BYTES, FREE_SHARE)

    def compact(self) -> Compaction:
        """Merge each index into one segment, purge removed tracks, give free pages back.

        Readers that have the store open go on with what they see, and find the compacted one with
        their next snapshot.

        Raises
        ------
        StoreError
            When the catalogue is damaged, or a segment to be merged: its index stays as it is.
        """
        from afp.store.check_process import check_apart

        self._require_open()
        for fault in check_apart(self.folder, catalogue_only=True):
            raise DamagedStoreError(
                f"{fault}, so that it cannot be compacted", hint=records.REPLACE
            )
        before = self.n_bytes()
        for backend in self.look(Catalogue.backends).values():
            self._change_index(backend.id, IndexWriter.merge_all)
        self._rewrite_catalogue()
        return Compaction(before, self.n_bytes())

    @property
    def _segments(self) -> Path:
        return self.folder / SEGMENTS

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"the store at {self.folder} is closed", hint="open it again")

    def _give_back(self, floor_bytes: int, share: int) -> None:
        """Rewrite the catalogue when its free pages take more than a share of its file."""
        free_bytes = self._environment.free_bytes()
        if free_bytes > max(floor_bytes, self._environment.n_bytes() // share):
            self._rewrite_catalogue()

    def _rewrite_catalogue(self) -> None:
        """Put a data file without free pages in the place of this one."""
        path = data_path(self.folder, generations(self.folder)[-1] + 1)
        try:
            self._environment.rewrite(path)
            with translated(self.folder):
                sync_folder(self.folder)
            environment = open_newest(self.folder)
        except BaseException:
            if path.exists():
                self.close()  # what went into the old file from here on would be lost
            raise
        self._environment.release()
        self._environment = environment
        self._views = Views(self._segments)
        self.look(partial(sweep, self.folder))

    def _change(self, change: Callable[[Catalogue], _T]) -> _T:
        self._require_open()
        if self._lock is None:
            raise StoreError(f"{self.folder} is open for reading", hint="open it with write=True")
        environment = self._environment

        def run(txn: "lmdb.Transaction[Any]") -> _T:
            return change(Catalogue(txn))

        return environment.write(run)

    def _change_index(
        self, backend_id: int, change: Callable[[IndexWriter], list[SegmentRecord]]
    ) -> Manifest:
        """Change an index in a transaction of its own, then delete the segments it replaced."""

        def run(catalogue: Catalogue) -> tuple[IndexWriter, list[SegmentRecord]]:
            index = IndexWriter(self._segments, catalogue, backend_id)
            return index, change(index)

        index, replaced = self._change(run)
        if replaced:  # else a power cut might bring back the manifest that names them
            self._environment.sync()
        with translated(self.folder):
            for record in replaced:
                segment_path(self._segments, record.id).unlink(missing_ok=True)
        return index.manifest

    def _maintain(self, backend_id: int, manifest: Manifest) -> None:
        """Flush the tails and merge the segments of an index while that is due."""
        while True:
            if manifest.tails_due:
                manifest = self._change_index(backend_id, IndexWriter.flush_tails)
            elif (due := manifest.due_merge(self._damaged)) is not None:
                manifest = self._merge(backend_id, manifest, due)
            else:
                return

    def _merge(self, backend_id: int, manifest: Manifest, span: tuple[int, int]) -> Manifest:
        """Merge a stretch of segments, or remember which one is damaged and leave it out.

        So that it blocks neither adding nor the merging of others; `check` and `compact` tell.
        """
        try:
            return self._change_index(backend_id, partial(IndexWriter.merge, span=span))
        except DamagedSegmentError as error:
            self._damaged.add(error.segment_id)
            return manifest
