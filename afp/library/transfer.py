"""Move tracks with their fingerprints between stores: by a stream, or from store to store."""

import os
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from afp.backends import Backend
from afp.errors import InputError, StoreError, UsageError
from afp.library.choice import built_for_import, require_adoptable
from afp.library.interruption import Interruption
from afp.store import (
    BackendRecord,
    NewTrack,
    Snapshot,
    Store,
    StoredTrack,
    interchange,
    packing,
    read_tracks,
)
from afp.store.packing import StoredFingerprint

BATCH_TRACKS = 1024
BATCH_POSTINGS = 1 << 21
_READ_BYTES = 1 << 20
_SILENCE_SECONDS = 1.0


@dataclass(slots=True)
class TransferReport:
    """What an import or a merge has done so far.

    Attributes
    ----------
    n_tracks : int
        Tracks that there are to take, as far as that is known.
    added : int
        Tracks that were not in the store.
    extended : int
        Tracks that were, and have fingerprints of further backends now.
    known : int
        Tracks that had it all.
    n_postings : int
        Postings stored.
    renamed : list of (str, str)
        Paths at which the store has another track, and under which the new one is kept.
    wall_seconds : float
        How long it took.
    interrupted : int or None
        The signal that ended it before it was through.
    """

    n_tracks: int = 0
    added: int = 0
    extended: int = 0
    known: int = 0
    n_postings: int = 0
    renamed: list[tuple[str, str]] = field(default_factory=list)
    wall_seconds: float = 0.0
    interrupted: int | None = None

    @property
    def n_done(self) -> int:
        """Tracks that have been taken."""
        return self.added + self.extended + self.known


Observer = Callable[[TransferReport], None]


def export(
    snapshot: Snapshot,
    write: Callable[[bytes], object],
    *,
    track_ids: Sequence[int] | None = None,
    backends: Sequence[str] = (),
    observer: Callable[[int, int], None] = lambda n_done, n_tracks: None,
) -> list[str]:
    """Write tracks as a stream; see `afp.store.interchange`.

    Parameters
    ----------
    snapshot : Snapshot
        Of the store.
    write : callable
        Takes the stream, a line at a time.
    track_ids : sequence of int, optional
        Else all.
    backends : sequence of str
        Whose fingerprints to write, else those of all; tracks without any are left out.
    observer : callable
        Is told how many tracks are written, and how many there are.

    Returns
    -------
    list of str
        Why tracks were left out that are too long for a line.

    Raises
    ------
    UsageError
        When the store has no such backend.
    StoreError
        When the store is damaged. The stream has no end then, and whoever reads it notices.
    """
    for name in backends:
        snapshot.index(name)
    names = list(dict.fromkeys(backends)) or list(snapshot.backends)
    chosen = None if track_ids is None else set(track_ids)
    ids = [
        track.id
        for track in snapshot.tracks()
        if (chosen is None or track.id in chosen)
        and (not backends or not set(names).isdisjoint(track.backends))
    ]
    records = {name: snapshot.backends[name] for name in names}
    write(interchange.header_line(interchange.Header(len(ids), records)))
    n_written, left_out = 0, []
    for tracks in read_tracks(snapshot, ids, names):
        for track in tracks:
            try:
                line = interchange.track_line(track)
            except StoreError as error:
                left_out.append(str(error))
                continue
            write(line)
            n_written += 1
            observer(n_written, len(ids))
    write(interchange.end_line(n_written))
    return left_out


def import_tracks(
    path: Path,
    descriptor: int,
    name: str,
    *,
    report: TransferReport,
    backends: Sequence[str] = (),
    wait_seconds: float = 0.0,
    observer: Observer = lambda report: None,
    interruption: Interruption | None = None,
) -> None:
    """Add the tracks of a stream to a store, which is made where there is none.

    What the store has of a track stays: it is not added twice, and keeps its paths and tags.

    Parameters
    ----------
    path : Path
        The store's folder.
    descriptor : int
        Of the file that the stream is read from.
    name : str
        Of the stream, for messages.
    report : TransferReport
        Is brought up to date, whatever happens.
    backends : sequence of str
        Whose fingerprints to add, else those of all that the stream has.
    wait_seconds : float
        How long to wait for another writer to finish.
    observer : callable
        Is given the report after each transaction.
    interruption : Interruption, optional
        Ends the import early.

    Raises
    ------
    InputError
        When the stream is cut short, damaged, or no such stream; what came before is stored.
    UsageError
        When the stream has no such backend, or a backend is not here.
    StoreError
        When the store cannot be used, or was built otherwise.
    """
    started = time.monotonic()
    try:
        stream = interchange.TrackStream(_reader(descriptor, name, interruption), name)
        fitting = _fitting(path, stream.header, name, backends)
        stream.accepted = {each: _kind(backend) for each, (backend, _) in fitting.items()}
        with Store.open(path, write=True, wait_seconds=wait_seconds) as store:
            _register(store, (record for _, record in fitting.values()))
            report.n_tracks += stream.header.n_tracks
            receiver = _Receiver(store, report, observer)
            try:
                for track in stream:
                    receiver.take(track)
            finally:
                # What was read is sound, whatever comes behind it.
                receiver.commit()
            store.flush()
    except InputError:
        if interruption is None or not interruption.signal:
            raise
    finally:
        report.wall_seconds += time.monotonic() - started
        report.interrupted = interruption.signal if interruption else None


def merge(
    path: Path,
    others: Sequence[Path],
    *,
    report: TransferReport,
    wait_seconds: float = 0.0,
    observer: Observer = lambda report: None,
    interruption: Interruption | None = None,
) -> None:
    """Add the tracks of other stores, which are only read, to a store; made where there is none.

    What the store has of a track stays, as for `import_tracks`; so does what an earlier one of
    `others` has brought.

    Parameters
    ----------
    path : Path
        The store's folder.
    others : sequence of Path
        Those of the others.
    report, wait_seconds, observer, interruption
        As for `import_tracks`.

    Raises
    ------
    UsageError
        When a store is to be merged into itself.
    StoreError
        When one of the stores cannot be used, or was built otherwise than those before it: before
        anything is written.
    """
    started = time.monotonic()
    try:
        for other in others:
            if path.exists() and other.exists() and path.samefile(other):
                raise UsageError(
                    f"{other} is the store itself", hint="name others, or another one with --db"
                )
        with ExitStack() as opened:
            records = _records(path)
            snapshots = []
            for other in others:
                snapshot = opened.enter_context(opened.enter_context(Store.open(other)).snapshot())
                for name, theirs in snapshot.backends.items():
                    remedy = f"leave {other} out, or merge it into another store (--db)"
                    require_adoptable(records.setdefault(name, theirs), theirs, remedy)
                snapshots.append(snapshot)
                report.n_tracks += len(snapshot)
            store = opened.enter_context(Store.open(path, write=True, wait_seconds=wait_seconds))
            _register(store, records.values())
            receiver = _Receiver(store, report, observer)
            for snapshot in snapshots:
                for tracks in read_tracks(
                    snapshot, receiver.lacking(snapshot), list(snapshot.backends)
                ):
                    if interruption and interruption.signal:
                        break
                    receiver.receive(tracks)
            store.flush()
    finally:
        report.wall_seconds += time.monotonic() - started
        report.interrupted = interruption.signal if interruption else None


def _records(path: Path) -> dict[str, BackendRecord]:
    """Return the backends of a store, none where there is no store."""
    if not os.path.lexists(path):
        return {}
    with Store.open(path) as store:
        return store.backends()


def _register(store: Store, records: Iterable[BackendRecord]) -> None:
    for record in records:
        store.register(
            record.name,
            version=record.version,
            parameters=record.parameters,
            hop_seconds=record.hop_seconds,
        )


def _fitting(
    path: Path, header: interchange.Header, name: str, backends: Sequence[str]
) -> dict[str, tuple[Backend, BackendRecord]]:
    """Build the backends whose fingerprints are to be imported, with what the store has of them."""
    for backend in backends:
        if backend not in header.backends:
            held = ", ".join(sorted(header.backends)) or "none"
            raise UsageError(f"{name} has nothing of backend {backend!r}", hint=f"it has: {held}")
    ours = _records(path)
    remedy = f"import {name} into another store (--db), or make it anew with the values of this one"
    return {
        each: built_for_import(each, ours.get(each), header.backends[each], remedy)
        for each in backends or header.backends
    }


def _kind(backend: Backend) -> tuple[int, int]:
    """Tell of which kind all fingerprints of a backend are, by that of silence."""
    silence = np.zeros(round(_SILENCE_SECONDS * backend.sample_rate), np.float32)
    return packing.kind_of(packing.pack(backend.extract(silence)))


def _reader(descriptor: int, name: str, interruption: Interruption | None) -> Callable[[], bytes]:
    """Return a function that reads on, and finds no more once a signal has come."""
    wake = [] if interruption is None else [interruption.fileno()]

    def read() -> bytes:
        try:
            select.select([descriptor, *wake], [], [])
            if interruption and interruption.signal:
                return b""
            return os.read(descriptor, _READ_BYTES)
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}") from None

    return read


class _Receiver:
    """Adds tracks from elsewhere to a store, one transaction a batch."""

    def __init__(self, store: Store, report: TransferReport, observer: Observer) -> None:
        self._store = store
        self._report = report
        self._observer = observer
        self._batch: dict[str, StoredTrack] = {}
        self._n_postings = 0

    def lacking(self, snapshot: Snapshot) -> list[int]:
        """Return the tracks of another store that this one has not, or not all of."""
        found = []
        with self._store.snapshot() as here:
            for track in snapshot.tracks():
                known = here.track_by_content(track.content_id)
                if known is None or not set(track.backends) <= set(known.backends):
                    found.append(track.id)
        self._report.known += len(snapshot) - len(found)
        return found

    def take(self, track: StoredTrack) -> None:
        """Put a track into the batch."""
        if track.content_id in self._batch:
            self.commit()
        self._batch[track.content_id] = track
        self._n_postings += track.n_postings
        if len(self._batch) >= BATCH_TRACKS or self._n_postings >= BATCH_POSTINGS:
            self.commit()

    def commit(self) -> None:
        """Store the batch."""
        batch, self._batch, self._n_postings = self._batch, {}, 0
        if batch:
            self.receive(list(batch.values()))

    def receive(self, tracks: Sequence[StoredTrack]) -> None:
        """Store tracks of different contents."""
        items: list[NewTrack] = []
        added = extended = 0
        renamed: list[tuple[str, str]] = []
        with self._store.snapshot() as here:
            taken: set[str] = set()
            for track in tracks:
                known = here.track_by_content(track.content_id)
                if known is None:
                    items += _new(track, here, taken, renamed)
                    added += 1
                    continue
                lacking = {
                    name: fingerprint
                    for name, fingerprint in track.fingerprints.items()
                    if name not in known.backends
                }
                if lacking:
                    items.append(
                        NewTrack(
                            known.content_id,
                            known.path,
                            known.duration_seconds,
                            known.title,
                            known.artist,
                            known.album,
                            known.size,
                            known.mtime_ns,
                            known.partial,
                            lacking,
                        )
                    )
                    extended += 1
        self._store.add(items)
        report = self._report
        report.added += added
        report.extended += extended
        report.known += len(tracks) - added - extended
        report.renamed += renamed
        report.n_postings += sum(
            len(fingerprint.frames) for item in items for fingerprint in item.fingerprints.values()
        )
        self._observer(report)


def _new(
    track: StoredTrack, here: Snapshot, taken: set[str], renamed: list[tuple[str, str]]
) -> list[NewTrack]:
    """Return what adds a track that the store has not, with those of its paths that are free.

    A path leads to one track. When all of them lead to others here, it is kept under one that no
    file has, since the others must not go.
    """

    def is_free(path: str) -> bool:
        return path not in taken and here.path_entry(path) is None

    files = [file for file in track.files if is_free(file.path)]
    if not files:
        path = f"{track.files[0].path}#{track.content_id}"
        if not is_free(path):
            raise InputError(f"{path} leads to another track already", hint="afp rm it here")
        renamed.append((track.files[0].path, path))
        files = [replace(track.files[0], path=path)]
    taken.update(file.path for file in files)
    fingerprints: list[Mapping[str, StoredFingerprint]] = [{}] * len(files)
    fingerprints[0] = track.fingerprints
    return [
        NewTrack(
            track.content_id,
            file.path,
            track.duration_seconds,
            track.title,
            track.artist,
            track.album,
            file.size,
            file.mtime_ns,
            track.partial,
            prints,
        )
        # The path that is stored last comes first.
        for file, prints in reversed(list(zip(files, fingerprints, strict=True)))
    ]
