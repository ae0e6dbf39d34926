"""Put audio files into a store: worker processes extract, one process writes."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from afp.backends import Parameter
from afp.library.extractor import Extracted, Extractor, Refused
from afp.library.interruption import Interruption
from afp.library.planning import Job, Plan, plan
from afp.library.report import FileOutcome, IndexReport, Planned, Status
from afp.library.upkeep import is_gone
from afp.store import Failure, NewTrack, Snapshot, Store, WriterLock

if TYPE_CHECKING:
    from afp.library.workers import Crash, Pool

BATCH_TRACKS = 64
BATCH_SECONDS = 5.0

Observer = Callable[[Planned | FileOutcome], None]


def index(
    path: str | Path,
    paths: Iterable[str | Path],
    *,
    backends: Sequence[str] = (),
    parameters: Mapping[str, Parameter] | None = None,
    n_workers: int | None = None,
    retry_failed: bool = False,
    wait_seconds: float = 0.0,
    in_order: bool = False,
    observer: Observer = lambda event: None,
    interruption: Interruption | None = None,
) -> IndexReport:
    """Fingerprint audio files and folders of them into a store.

    A file that the store knows, by path, size and modification time, costs one stat call.
    A file that cannot be decoded is remembered and left alone until it changes. One that fails
    for a reason that is not its own, such as a disk that cannot be read, ffmpeg that is not there
    or a fault in a backend, is tried again the next time.

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
        Try files again that failed before, or of which only a part could be decoded.
    wait_seconds : float
        How long to wait for another writer to finish.
    in_order : bool
        Store tracks in the order of their files rather than as they are finished: equal files
        give equal stores, of which ties between answers are a part.
    observer : callable
        Told once a `Planned`, then a `FileOutcome` for each file.
    interruption : Interruption, optional
        Ends the run early, with everything stored that is finished.

    Raises
    ------
    UsageError, StoreError
        See `backends_to_index` and `Store.open`.
    """
    from afp.library.workers import MOST_BYTES, PATIENCE_SECONDS, Pool, usable_cores

    started = time.monotonic()
    report = IndexReport()

    def tell(outcome: FileOutcome) -> None:
        report.count(outcome)
        observer(outcome)

    with ExitStack() as held:

        def reserve() -> WriterLock:
            return held.enter_context(Store.reserve(Path(path), wait_seconds=wait_seconds))

        def prepare() -> tuple[Plan, WriterLock | None]:
            # Held to the end of the run, so that no other writer comes between.
            there = os.path.exists(path)  # noqa: PTH110 - Path.exists raises where it may not look
            lock = reserve() if there else None
            work = plan(
                Path(path),
                paths,
                names=backends,
                parameters=parameters,
                retry_failed=retry_failed,
                lock=lock,
                tell=tell,
            )
            return work, reserve() if work.jobs and lock is None else lock

        prepared = interruption.unless_stopped(prepare) if interruption else prepare()
        if prepared is None:
            report.n_left = None
        elif not prepared[0].jobs:
            observer(_planned(prepared[0]))
        else:
            work, lock = prepared
            # The store is closed: nothing of LMDB may cross the fork of the workers.
            specifications = {
                backend.name: backend.parameters() for backend in (*work.chosen, *work.others)
            }
            n_workers = min(n_workers or usable_cores(), len(work.jobs))
            pool: Pool[Job, Extracted | Refused] = held.enter_context(
                Pool(
                    Extractor,
                    (specifications,),
                    n_workers=n_workers,
                    patience_seconds=PATIENCE_SECONDS,
                    most_bytes=MOST_BYTES,
                )
            )
            # Not before the fork: the observer may start a thread that draws.
            observer(_planned(work))
            store = held.enter_context(Store.open(Path(path), write=True, lock=lock))
            for backend in work.chosen:
                store.register(
                    backend.name,
                    version=backend.version,
                    parameters=backend.parameters(),
                    hop_seconds=backend.hop_seconds,
                )
            writer = _Writer(store, tell)
            report.n_left = _run(pool, work.jobs, writer, interruption, in_order=in_order)
            if not report.n_left:
                store.flush()
    report.interrupted = interruption.signal if interruption else None
    report.wall_seconds = time.monotonic() - started
    return report


def _planned(work: Plan) -> Planned:
    return Planned(
        n_files=len(work.jobs),
        n_bytes=sum(job.file.size for job in work.jobs),
        backends=tuple(backend.name for backend in work.chosen),
    )


class _Writer:
    """Stores what the workers have found, one transaction a batch."""

    def __init__(self, store: Store, tell: Callable[[FileOutcome], None]) -> None:
        self._store = store
        self._tell = tell
        self._extracted: list[tuple[Job, Extracted]] = []
        self._failed: list[tuple[Job, str]] = []
        self._since = 0.0

    @property
    def due_seconds(self) -> float | None:
        """How long the batch may still grow; None while it is empty."""
        n = len(self._extracted) + len(self._failed)
        if not n:
            return None
        if n >= BATCH_TRACKS:
            return 0.0
        return max(self._since + BATCH_SECONDS - time.monotonic(), 0.0)

    def take(self, job: Job, result: "Extracted | Refused | Crash") -> None:
        """Put what came of a file into the batch."""
        if isinstance(result, Extracted):
            self.add(job, result)
        elif isinstance(result, Refused):
            self.fail(job, result.reason, for_good=result.for_good)
        else:
            self.fail(job, str(result), for_good=result.is_a_fault)

    def add(self, job: Job, extracted: Extracted) -> None:
        """Put a file into the batch."""
        self._begin()
        self._extracted.append((job, extracted))

    def fail(self, job: Job, reason: str, *, for_good: bool) -> None:
        """Tell of a file that failed; remember it, with the batch, if it would fail again."""
        if for_good:
            self._begin()
            self._failed.append((job, reason))
        else:
            self._tell(FileOutcome(job.file, Status.FAILED, error=reason))

    def _begin(self) -> None:
        if self.due_seconds is None:
            self._since = time.monotonic()

    def commit(self) -> None:
        """Store the batch, then tell of it."""
        extracted, self._extracted = self._extracted, []
        failed, self._failed = self._failed, []
        outcomes = []
        if extracted:
            with self._store.snapshot() as before:
                statuses = list(_statuses(before, extracted))
            tracks = self._store.add([_new_track(*entry) for entry in extracted])
            self._store.forget_paths(
                old_path for status, old_path in statuses if status is Status.MOVED
            )
            outcomes = [
                FileOutcome(job.file, status, track)
                for (job, _), (status, _), track in zip(extracted, statuses, tracks, strict=True)
            ]
        self._store.record_failures(
            Failure(job.file.path, job.file.size, job.file.mtime_ns, reason)
            for job, reason in failed
        )
        outcomes += [FileOutcome(job.file, Status.FAILED, error=reason) for job, reason in failed]
        for outcome in outcomes:
            self._tell(outcome)


def _statuses(
    before: Snapshot, batch: Iterable[tuple[Job, Extracted]]
) -> Iterator[tuple[Status, str]]:
    """Tell what adding each file will mean, and the path of the track that it is already."""
    fresh: set[str] = set()
    moved: set[str] = set()
    for job, extracted in batch:
        known = before.track_by_content(extracted.content_id)
        at_path = before.track_by_path(job.file.path)
        if known is None:
            again = extracted.content_id in fresh
            yield Status.DUPLICATE if again else Status.ADDED, ""
            fresh.add(extracted.content_id)
        elif at_path is not None and at_path.id == known.id:
            yield Status.UPDATED, known.path
        elif known.path in moved or not is_gone(known.path):
            yield Status.DUPLICATE, known.path
        else:
            yield Status.MOVED, known.path
            moved.add(known.path)


def _new_track(job: Job, extracted: Extracted) -> NewTrack:
    return NewTrack(
        content_id=extracted.content_id,
        path=job.file.path,
        duration_seconds=extracted.duration_seconds,
        title=extracted.tags.title,
        artist=extracted.tags.artist,
        album=extracted.tags.album,
        size=extracted.file.size,
        mtime_ns=extracted.file.mtime_ns,
        partial=extracted.partial,
        fingerprints=extracted.fingerprints,
    )


def _run(
    pool: "Pool[Job, Extracted | Refused]",
    jobs: Iterable[Job],
    writer: _Writer,
    interruption: Interruption | None,
    *,
    in_order: bool,
) -> int:
    """Work the jobs off; return how many are left because of an interruption."""
    waiting = deque(jobs)
    order = deque(waiting if in_order else ())
    held: dict[str, tuple[Job, Extracted | Refused | Crash]] = {}  # by path, for their turn
    wake = () if interruption is None else (interruption.fileno(),)
    while (waiting or pool.n_pending) and not (interruption and interruption.signal):
        while waiting and pool.has_room:
            pool.submit(waiting.popleft())
        for job, result in pool.collect(timeout_seconds=writer.due_seconds, wake=wake):
            if not in_order:
                writer.take(job, result)
                continue
            held[job.file.path] = job, result
            while order and order[0].file.path in held:
                writer.take(*held.pop(order.popleft().file.path))
        if writer.due_seconds == 0.0:
            writer.commit()
    n_left = len(waiting) + pool.n_pending
    pool.close()
    for job, result in held.values():
        writer.take(job, result)
    writer.commit()
    return n_left
