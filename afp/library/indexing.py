"""Put audio files into a store: worker processes extract, one process writes."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from afp.audio import AudioFile, ContentHash, Tags, decode, read_tags, walk
from afp.backends import Backend, Parameter, create
from afp.errors import AfpError, InputError
from afp.fingerprint import Fingerprint
from afp.library.choice import backends_to_index
from afp.library.interruption import Interruption
from afp.library.report import FileOutcome, IndexReport, Planned, Status
from afp.library.streaming import Extraction
from afp.store import Failure, NewTrack, PathEntry, Snapshot, Store

if TYPE_CHECKING:
    from afp.library.workers import Pool

BATCH_TRACKS = 64
BATCH_SECONDS = 5.0

Observer = Callable[[Planned | FileOutcome], None]


@dataclass(frozen=True, slots=True)
class _Job:
    file: AudioFile
    backends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Extracted:
    content_id: str
    duration_seconds: float
    tags: Tags
    partial: str | None
    fingerprints: Mapping[str, Fingerprint]


def index(
    path: str | Path,
    paths: Iterable[str | Path],
    *,
    backends: Sequence[str] = (),
    parameters: Mapping[str, Parameter] | None = None,
    n_workers: int | None = None,
    retry_failed: bool = False,
    wait_seconds: float = 0.0,
    observer: Observer = lambda event: None,
    interruption: Interruption | None = None,
) -> IndexReport:
    """Fingerprint audio files and folders of them into a store.

    A file that the store knows, by path, size and modification time, costs one stat call.
    A file that cannot be decoded is remembered and left alone until it changes. One that fails
    for a reason that is not its own, such as a fault in a backend, is tried again the next time.

    Parameters
    ----------
    path : path
        Directory of the store; made when it is not there.
    paths : iterable of path
        Files, and folders to walk.
    backends : sequence of str
        Else all that the store has, else ``shazam``.
    parameters : mapping of str to parameter, optional
        Of the backend, for a new store; a store goes on with those it was made with.
    n_workers : int, optional
        Number of worker processes; else as many as there are usable cores.
    retry_failed : bool
        Try files again that failed before.
    wait_seconds : float
        How long to wait for another writer to finish.
    observer : callable
        Told once a `Planned`, then a `FileOutcome` for each file.
    interruption : Interruption, optional
        Ends the run early, with everything stored that is finished.

    Raises
    ------
    UsageError, StoreError
        See `backends_to_index` and `Store.open`.
    """
    from afp.library.workers import Pool, usable_cores

    started = time.monotonic()
    report = IndexReport()

    def tell(outcome: FileOutcome) -> None:
        report.count(outcome)
        observer(outcome)

    # The store is closed again before the workers are forked: nothing of LMDB may cross a fork.
    chosen, jobs = _plan(
        Path(path),
        paths,
        names=backends,
        parameters=parameters,
        retry_failed=retry_failed,
        wait_seconds=wait_seconds,
        tell=tell,
        interruption=interruption,
    )
    observer(
        Planned(
            n_files=len(jobs),
            n_bytes=sum(job.file.size for job in jobs),
            backends=tuple(backend.name for backend in chosen),
        )
    )
    if jobs and not (interruption and interruption.signal):
        specifications = {backend.name: backend.parameters() for backend in chosen}
        n_workers = min(n_workers or usable_cores(), len(jobs))
        with (
            Pool[_Job, _Extracted | _Refused](
                _Extractor, (specifications,), n_workers=n_workers
            ) as pool,
            Store.open(Path(path), write=True, wait_seconds=wait_seconds) as store,
        ):
            for backend in chosen:
                store.register(
                    backend.name,
                    version=backend.version,
                    parameters=backend.parameters(),
                    hop_seconds=backend.hop_seconds,
                )
            writer = _Writer(store, tell)
            report.n_left = _run(pool, jobs, writer, interruption)
            store.flush()
    report.interrupted = interruption.signal if interruption else None
    report.wall_seconds = time.monotonic() - started
    return report


def _plan(
    path: Path,
    paths: Iterable[str | Path],
    *,
    names: Sequence[str],
    parameters: Mapping[str, Parameter] | None,
    retry_failed: bool,
    wait_seconds: float,
    tell: Callable[[FileOutcome], None],
    interruption: Interruption | None,
) -> tuple[list[Backend], list[_Job]]:
    """Find the files that need work, the largest first: the last to finish keeps others waiting."""

    def missing(path: str, error: InputError) -> None:
        reason = str(error).removeprefix(f"{path}: ")
        tell(FileOutcome(AudioFile(path, 0, 0), Status.FAILED, error=reason))

    known: Mapping[str, PathEntry] = {}
    failures: dict[str, Failure] = {}
    lacking: dict[int, tuple[str, ...]] = {}
    if path.exists():
        # For writing, so that another writer is noticed before the work rather than after it.
        with Store.open(path, write=True, wait_seconds=wait_seconds) as store:
            chosen = backends_to_index(store.backends(), names, parameters)
            wanted = tuple(backend.name for backend in chosen)
            with store.snapshot() as snapshot:
                known = snapshot.paths()
                failures = {failure.path: failure for failure in snapshot.failures()}
                for track in snapshot.tracks():
                    if absent := tuple(name for name in wanted if name not in track.backends):
                        lacking[track.id] = absent
    else:
        chosen = backends_to_index({}, names, parameters)
        wanted = tuple(backend.name for backend in chosen)
    jobs = []
    for file in walk(map(os.path.abspath, paths), on_error=missing):
        if interruption and interruption.signal:
            break
        entry, failure = known.get(file.path), failures.get(file.path)
        if entry is not None and _is_unchanged(file, entry):
            if entry.track_id in lacking:
                jobs.append(_Job(file, lacking[entry.track_id]))
            else:
                tell(FileOutcome(file, Status.SKIPPED))
        elif failure is not None and _is_unchanged(file, failure) and not retry_failed:
            tell(FileOutcome(file, Status.SKIPPED, error=failure.reason))
        else:
            jobs.append(_Job(file, wanted))
    jobs.sort(key=lambda job: -job.file.size)
    return chosen, jobs


def _is_unchanged(file: AudioFile, then: PathEntry | Failure) -> bool:
    return (file.size, file.mtime_ns) == (then.size, then.mtime_ns)


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str
    for_good: bool  # as long as the file does not change


class _Extractor:
    """What a worker does with a file."""

    def __init__(self, specifications: Mapping[str, Mapping[str, Parameter]]) -> None:
        self._backends = {
            name: create(name, **parameters) for name, parameters in specifications.items()
        }

    def __call__(self, job: _Job) -> _Extracted | _Refused:
        try:
            return self._extract(job)
        except AfpError as error:
            return _Refused(str(error).removeprefix(f"{job.file.path}: "), for_good=True)
        except Exception as error:
            # A fault of ours, or of the moment (no memory): it must not end the run, nor count
            # against the file for ever.
            return _Refused(f"{type(error).__name__}: {error}", for_good=False)

    def _extract(self, job: _Job) -> _Extracted:
        path = Path(job.file.path)
        content = ContentHash()
        with decode(path) as decoder:
            extraction = Extraction(
                [self._backends[name] for name in job.backends], decoder.sample_rate
            )
            for block in decoder:
                content.update(block)
                extraction.feed(block)
        return _Extracted(
            content_id=content.hexdigest(),
            duration_seconds=decoder.duration_seconds,
            tags=read_tags(path),
            partial=decoder.partial,
            fingerprints=extraction.finish(),
        )


class _Writer:
    """Adds what the workers have extracted, one transaction a batch."""

    def __init__(self, store: Store, tell: Callable[[FileOutcome], None]) -> None:
        self._store = store
        self._tell = tell
        self._batch: list[tuple[_Job, _Extracted]] = []
        self._since = 0.0

    @property
    def due_seconds(self) -> float | None:
        """How long the batch may still grow; None while it is empty."""
        if not self._batch:
            return None
        if len(self._batch) >= BATCH_TRACKS:
            return 0.0
        return max(self._since + BATCH_SECONDS - time.monotonic(), 0.0)

    def fail(self, job: _Job, reason: str, *, for_good: bool) -> None:
        """Tell of a file that failed, and remember it if it would fail again."""
        file = job.file
        if for_good:
            self._store.record_failure(file.path, file.size, file.mtime_ns, reason)
        self._tell(FileOutcome(file, Status.FAILED, error=reason))

    def add(self, job: _Job, extracted: _Extracted) -> None:
        """Put a file into the batch."""
        if not self._batch:
            self._since = time.monotonic()
        self._batch.append((job, extracted))

    def commit(self) -> None:
        """Store the batch."""
        if not self._batch:
            return
        with self._store.snapshot() as before:
            statuses = list(self._statuses(before))
        tracks = self._store.add([_new_track(*entry) for entry in self._batch])
        for (job, _), (status, old_path), track in zip(self._batch, statuses, tracks, strict=True):
            if status is Status.MOVED:
                self._store.forget_path(old_path)
            self._tell(FileOutcome(job.file, status, track))
        self._batch.clear()

    def _statuses(self, before: Snapshot) -> Iterator[tuple[Status, str]]:
        """Tell what adding each file will mean, and the path of the track that it is already."""
        fresh: set[str] = set()
        for job, extracted in self._batch:
            known = before.track_by_content(extracted.content_id)
            at_path = before.track_by_path(job.file.path)
            if known is None:
                again = extracted.content_id in fresh
                yield Status.DUPLICATE if again else Status.ADDED, ""
                fresh.add(extracted.content_id)
            elif at_path is not None and at_path.id == known.id:
                yield Status.UPDATED, known.path
            elif Path(known.path).exists():
                yield Status.DUPLICATE, known.path
            else:
                yield Status.MOVED, known.path


def _new_track(job: _Job, extracted: _Extracted) -> NewTrack:
    return NewTrack(
        content_id=extracted.content_id,
        path=job.file.path,
        duration_seconds=extracted.duration_seconds,
        title=extracted.tags.title,
        artist=extracted.tags.artist,
        album=extracted.tags.album,
        size=job.file.size,
        mtime_ns=job.file.mtime_ns,
        partial=extracted.partial,
        fingerprints=extracted.fingerprints,
    )


def _run(
    pool: "Pool[_Job, _Extracted | _Refused]",
    jobs: Iterable[_Job],
    writer: _Writer,
    interruption: Interruption | None,
) -> int:
    """Work the jobs off; return how many are left because of an interruption."""
    waiting = deque(jobs)
    wake = () if interruption is None else (interruption.fileno(),)
    while (waiting or pool.n_pending) and not (interruption and interruption.signal):
        while waiting and pool.has_room:
            pool.submit(waiting.popleft())
        for job, result in pool.collect(timeout_seconds=writer.due_seconds, wake=wake):
            if isinstance(result, _Extracted):
                writer.add(job, result)
            elif isinstance(result, _Refused):
                writer.fail(job, result.reason, for_good=result.for_good)
            else:
                writer.fail(job, str(result), for_good=True)
        if writer.due_seconds == 0.0:
            writer.commit()
    n_left = len(waiting) + pool.n_pending
    pool.close()
    writer.commit()
    return n_left
