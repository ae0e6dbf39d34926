"""Put audio files into a store: worker processes extract, one process writes."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from afp.audio import AudioFile, ContentHash, Tags, decode, read_tags, walk
from afp.backends import Backend, Parameter, create
from afp.errors import AfpError, InputError
from afp.fingerprint import Fingerprint, Track
from afp.library.choice import backends_to_index
from afp.library.interruption import Interruption
from afp.library.streaming import Extraction
from afp.store import NewTrack, Store

BATCH_TRACKS = 32
BATCH_SECONDS = 2.0


class Status(StrEnum):
    """What became of a file."""

    ADDED = "added"
    MOVED = "moved"
    DUPLICATE = "duplicate"
    UPDATED = "updated"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file, told when it is safe in the store.

    Attributes
    ----------
    file : AudioFile
        The file.
    status : Status
        ``added``: new audio. ``moved``: known audio whose file was somewhere else.
        ``duplicate``: known audio whose other file is still there. ``updated``: known audio in
        a known file; new tags, or one more backend. ``skipped``: unchanged since it was stored
        or since it failed. ``failed``: could not be decoded.
    track : Track or None
        The track in the store.
    error : str or None
        Why it failed, now or (``skipped``) in an earlier run.
    """

    file: AudioFile
    status: Status
    track: Track | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a run is about to do.

    Attributes
    ----------
    n_files : int
        Number of files to decode.
    n_bytes : int
        Their size together.
    backends : tuple of str
        The backends they will be fingerprinted with.
    """

    n_files: int
    n_bytes: int
    backends: tuple[str, ...]


Observer = Callable[[Planned | FileOutcome], None]


@dataclass(slots=True)
class IndexReport:
    """What a run has done.

    Attributes
    ----------
    counts : dict of Status to int
        Number of files.
    failures : list of FileOutcome
        The files that failed in this run.
    partial : list of Track
        Tracks of which only the first part could be decoded.
    failed_before : int
        How many of the skipped files failed in an earlier run.
    audio_seconds : float
        Length of what was decoded and stored.
    wall_seconds : float
        How long it took.
    interrupted : int or None
        The signal that ended the run before it was through.
    n_left : int
        Files that were not looked at for that reason.
    """

    counts: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    failures: list[FileOutcome] = field(default_factory=list)
    partial: list[Track] = field(default_factory=list)
    failed_before: int = 0
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0
    interrupted: int | None = None
    n_left: int = 0

    def count(self, outcome: FileOutcome) -> None:
        """Add one file."""
        self.counts[outcome.status] += 1
        if outcome.status is Status.FAILED:
            self.failures.append(outcome)
        elif outcome.status is Status.SKIPPED:
            self.failed_before += outcome.error is not None
        elif outcome.track is not None:
            self.audio_seconds += outcome.track.duration_seconds
            if outcome.track.partial:
                self.partial.append(outcome.track)


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
    observer: Observer = lambda event: None,
    interruption: Interruption | None = None,
) -> IndexReport:
    """Fingerprint audio files and folders of them into a store.

    A file that the store knows, by path, size and modification time, costs one stat call.
    A file that cannot be decoded is remembered and left alone until it changes.

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
    chosen, jobs = _plan(Path(path), paths, backends, parameters, retry_failed, tell)
    observer(
        Planned(
            n_files=len(jobs),
            n_bytes=sum(job.file.size for job in jobs),
            backends=tuple(backend.name for backend in chosen),
        )
    )
    if jobs:
        specifications = {backend.name: backend.parameters() for backend in chosen}
        n_workers = min(n_workers or usable_cores(), len(jobs))
        with (
            Pool[_Job, _Extracted | str](
                _Extractor, (specifications,), n_workers=n_workers
            ) as pool,
            Store.open(Path(path), write=True) as store,
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
    names: Sequence[str],
    parameters: Mapping[str, Parameter] | None,
    retry_failed: bool,
    tell: Callable[[FileOutcome], None],
) -> tuple[list[Backend], list[_Job]]:
    """Find the files that need work, the largest first: the last to finish keeps others waiting."""
    known: Mapping[str, tuple[int, int, int]] = {}
    failures: dict[str, tuple[int, int, str]] = {}
    lacking: dict[int, tuple[str, ...]] = {}
    if Store.exists(path):
        with Store.open(path) as store, store.snapshot() as snapshot:
            chosen = backends_to_index(store.backends(), names, parameters)
            wanted = tuple(backend.name for backend in chosen)
            known = snapshot.paths()
            failures = {f.path: (f.size, f.mtime_ns, f.reason) for f in store.failures()}
            for track in snapshot.tracks():
                missing = tuple(name for name in wanted if name not in track.backends)
                if missing:
                    lacking[track.id] = missing
    else:
        chosen = backends_to_index({}, names, parameters)
        wanted = tuple(backend.name for backend in chosen)
    jobs = []
    for file in walk(paths):
        state = (file.size, file.mtime_ns)
        track_id, *seen = known.get(file.path, (None, None, None))
        *failed, reason = failures.get(file.path, (None, None, None))
        if track_id is not None and tuple(seen) == state:
            if track_id in lacking:
                jobs.append(_Job(file, lacking[track_id]))
            else:
                tell(FileOutcome(file, Status.SKIPPED))
        elif tuple(failed) == state and not retry_failed:
            tell(FileOutcome(file, Status.SKIPPED, error=reason))
        else:
            jobs.append(_Job(file, wanted))
    jobs.sort(key=lambda job: -job.file.size)
    return chosen, jobs


class _Extractor:
    """What a worker does with a file."""

    def __init__(self, specifications: Mapping[str, Mapping[str, Parameter]]) -> None:
        self._backends = {
            name: create(name, **parameters) for name, parameters in specifications.items()
        }

    def __call__(self, job: _Job) -> "_Extracted | str":
        try:
            return self._extract(job)
        except AfpError as error:
            return str(error)
        except Exception as error:
            # One file that a decoder or a backend chokes on must not end the run.
            return f"{type(error).__name__}: {error}"

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
        if not decoder.duration_seconds:
            raise InputError(f"{path}: there is no audio in it")
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

    def fail(self, job: _Job, reason: str) -> None:
        """Remember a file that could not be decoded."""
        file = job.file
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
            statuses = []
            fresh = set()
            for job, extracted in self._batch:
                known = before.track_by_content(extracted.content_id)
                at_path = before.track_by_path(job.file.path)
                if known is None:
                    again = extracted.content_id in fresh
                    statuses.append(Status.DUPLICATE if again else Status.ADDED)
                    fresh.add(extracted.content_id)
                elif at_path is not None and at_path.id == known.id:
                    statuses.append(Status.UPDATED)
                elif Path(known.path).exists():
                    statuses.append(Status.DUPLICATE)
                else:
                    statuses.append(Status.MOVED)
                    self._store.forget_path(known.path)
        tracks = self._store.add([_new_track(*entry) for entry in self._batch])
        for (job, _), status, track in zip(self._batch, statuses, tracks, strict=True):
            self._store.clear_failure(job.file.path)
            self._tell(FileOutcome(job.file, status, track))
        self._batch.clear()


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
    pool: "Pool[_Job, _Extracted | str]",
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
            else:
                writer.fail(job, str(result))
        if writer.due_seconds == 0.0:
            writer.commit()
    n_left = len(waiting) + pool.n_pending
    pool.close()
    writer.commit()
    return n_left
