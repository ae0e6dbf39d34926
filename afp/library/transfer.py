"""Move tracks with their fingerprints between stores: by a stream, or from store to store."""

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from afp.backends import Backend
from afp.errors import InputError, StoreError, UsageError
from afp.library.choice import built_for_import, require_adoptable
from afp.library.interruption import Interruption
from afp.library.receiver import Observer, Receiver, TransferReport
from afp.library.upkeep import is_gone
from afp.store import (
    BackendRecord,
    Snapshot,
    Store,
    WriterLock,
    interchange,
    packing,
    read_tracks,
)
from afp.store.environment import generations

_READ_BYTES = 1 << 20
_SILENCE_SECONDS = 1.0


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
        with _receiving(path, wait_seconds, interruption) as store:
            _register(store, (record for _, record in fitting.values()))
            report.n_tracks += stream.header.n_tracks
            receiver = Receiver(store, report, observer)
            try:
                for track in stream:
                    receiver.take(track)
            finally:
                # What was read is sound, whatever comes behind it.
                receiver.commit()
            store.flush()
    except _SignalError:
        pass
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
        records = _records(path)
        for other in others:
            with Store.open(other) as opened:
                for name, theirs in opened.backends().items():
                    remedy = f"leave {other} out, or merge it into another store (--db)"
                    require_adoptable(records.setdefault(name, theirs), theirs, remedy)
        with _receiving(path, wait_seconds, interruption) as store, ExitStack() as held:
            snapshots = []
            for other in others:
                opened = held.enter_context(Store.open(other))
                snapshots.append(held.enter_context(opened.snapshot()))
                report.n_tracks += len(snapshots[-1])
            _register(store, records.values())
            receiver = Receiver(store, report, observer)
            for snapshot in snapshots:
                lacking = receiver.lacking(snapshot)
                for tracks in read_tracks(snapshot, lacking, list(snapshot.backends)):
                    receiver.receive(tracks)
                    if interruption and interruption.signal:
                        raise _SignalError
            store.flush()
    except _SignalError:
        pass
    finally:
        report.wall_seconds += time.monotonic() - started
        report.interrupted = interruption.signal if interruption else None


class _SignalError(Exception):
    """A signal came."""


@contextmanager
def _receiving(
    path: Path, wait_seconds: float, interruption: Interruption | None
) -> Iterator[Store]:
    """Open a store to write to it; a signal ends the wait for another writer.

    Raises
    ------
    _SignalError
        When one has come.
    """
    with ExitStack() as held:

        def reserve() -> WriterLock:
            return held.enter_context(Store.reserve(path, wait_seconds=wait_seconds))

        lock = interruption.unless_stopped(reserve) if interruption else reserve()
        if lock is None:
            raise _SignalError
        yield held.enter_context(Store.open(path, write=True, lock=lock))


def _records(path: Path) -> dict[str, BackendRecord]:
    """Return the backends of a store, none where there is no store yet."""
    if is_gone(os.fspath(path)):
        return {}
    with suppress(OSError):  # which opening it tells
        if not generations(path):
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
