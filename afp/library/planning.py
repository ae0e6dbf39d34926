"""What an indexing run has to do: which files, and which backends for each."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from afp.audio import AudioFile, walk
from afp.backends import Backend, Parameter
from afp.errors import InputError
from afp.library.choice import backends_to_index, other_backends
from afp.library.report import FileOutcome, Status
from afp.store import Failure, PathEntry, Snapshot, Store, WriterLock


@dataclass(frozen=True, slots=True)
class Job:
    """A file to decode.

    Attributes
    ----------
    file : AudioFile
        The file.
    backends : tuple of str
        The backends to fingerprint it with.
    content_id : str or None
        What the store has for the file, which has not changed since.
    held : tuple of str
        The backends that the store has for that content. Should the file decode to another one
        now (by a newer decoder), it is fingerprinted with these as well, so that none is lost.
    """

    file: AudioFile
    backends: tuple[str, ...]
    content_id: str | None = None
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """An indexing run to be.

    Attributes
    ----------
    chosen : list of Backend
        What new tracks are fingerprinted with.
    others : list of Backend
        What else the store has and is here.
    jobs : list of Job
        The largest file first: the last to finish keeps others waiting.
    """

    chosen: list[Backend]
    others: list[Backend]
    jobs: list[Job]


def plan(
    path: Path,
    paths: Iterable[str | Path],
    *,
    names: Sequence[str],
    parameters: Mapping[str, Parameter] | None,
    retry_failed: bool,
    lock: WriterLock | None,
    tell: Callable[[FileOutcome], None],
) -> Plan:
    """Find the files that need work, and tell of those that do not; see `afp.library.index`.

    Without a lock there is no store yet.
    """

    def missing(path: str, error: InputError) -> None:
        reason = str(error).removeprefix(f"{path}: ")
        tell(FileOutcome(AudioFile(path, 0, 0), Status.FAILED, error=reason))

    jobs = []
    with ExitStack() as opened:
        snapshot = None
        if lock is not None:
            store = Store.open(path, write=True, lock=lock)
            snapshot = opened.enter_context(opened.enter_context(store).snapshot())
        records = {} if snapshot is None else snapshot.backends
        chosen = backends_to_index(records, names, parameters)
        others = other_backends(records, chosen)
        wanted = tuple(backend.name for backend in chosen)
        available = (*wanted, *(backend.name for backend in others))
        for file in walk(map(os.path.abspath, paths), on_error=missing):
            if snapshot is None:
                jobs.append(Job(file, wanted))
                continue
            step = _step(snapshot, file, wanted, available, retry_failed=retry_failed)
            if isinstance(step, Job):
                jobs.append(step)
            else:
                tell(step)
    jobs.sort(key=lambda job: -job.file.size)
    return Plan(chosen, others, jobs)


def _step(
    snapshot: Snapshot,
    file: AudioFile,
    wanted: tuple[str, ...],
    available: tuple[str, ...],
    *,
    retry_failed: bool,
) -> Job | FileOutcome:
    """Decide what to do with a file."""
    entry, failure = snapshot.path_entry(file.path), snapshot.failure(file.path)
    track = None if entry is None else snapshot.track(entry.track_id)
    if entry is not None and track is not None and _is_unchanged(file, entry):
        lacking = tuple(name for name in wanted if name not in track.backends)
        if lacking or (retry_failed and track.partial):
            return Job(file, lacking, track.content_id, track.backends)
        return FileOutcome(file, Status.SKIPPED)
    if failure is not None and _is_unchanged(file, failure) and not retry_failed:
        return FileOutcome(file, Status.SKIPPED, error=failure.reason)
    held = () if track is None else track.backends
    also = (name for name in held if name in available and name not in wanted)
    return Job(file, (*wanted, *also))


def _is_unchanged(file: AudioFile, then: PathEntry | Failure) -> bool:
    return (file.size, file.mtime_ns) == (then.size, then.mtime_ns)
