"""What a worker does with a file: decode it once, fingerprint it with several backends."""

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from afp.audio import AudioFile, ContentHash, Tags, decode, read_tags
from afp.backends import Backend, Parameter, create
from afp.errors import InputError
from afp.fingerprint import Fingerprint
from afp.library.planning import Job
from afp.library.streaming import Extraction
from afp.library.workers import tell_progress


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file on its way into the store.

    Attributes
    ----------
    file : AudioFile
        As it was while it was decoded, which may be long after it was found.
    content_id, duration_seconds, tags, partial, fingerprints
        As in `NewTrack`.
    """

    file: AudioFile
    content_id: str
    duration_seconds: float
    tags: Tags
    partial: str | None
    fingerprints: Mapping[str, Fingerprint]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is nothing to store.

    Attributes
    ----------
    reason : str
        One line.
    for_good : bool
        Whether it would be so again as long as the file does not change.
    """

    reason: str
    for_good: bool


class Extractor:
    """Turns jobs into what is to be stored.

    Parameters
    ----------
    specifications : mapping of str to mapping
        The parameters of each backend that jobs may need.
    """

    def __init__(self, specifications: Mapping[str, Mapping[str, Parameter]]) -> None:
        self._specifications = specifications
        self._backends: dict[str, Backend] = {}

    def __call__(self, job: Job) -> Extracted | Refused:
        """Do a job; whatever goes wrong is in what it returns."""
        try:
            return self._extract(job)
        except InputError as error:
            reason = str(error).removeprefix(f"{job.file.path}: ")
            return Refused(reason, for_good=_is_about_the_content(error, job.file))
        except MemoryError:
            return Refused("takes more memory than there is for it", for_good=False)
        except Exception as error:
            # A fault of ours, or of the moment: it must not end the run, nor count against the
            # file for ever.
            return Refused(f"{type(error).__name__}: {error}", for_good=False)

    def _extract(self, job: Job) -> Extracted | Refused:
        before = _state(job.file)
        extracted = self._decoded(replace(job, file=before.file))
        # What is stored under a name is what the file holds, never what it held or half of each.
        if _state(job.file) != before:
            return Refused("it was changed while it was read", for_good=False)
        return extracted

    def _decoded(self, job: Job) -> Extracted | Refused:
        extracted = self._decode(job, job.backends)
        if job.content_id in (None, extracted.content_id):
            return extracted
        for name in job.held:
            if name not in self._specifications:
                return Refused(
                    f"decodes to other audio than when it was stored, and backend {name!r}, "
                    "which fingerprinted it then, cannot be used here",
                    for_good=False,
                )
        return self._decode(job, dict.fromkeys((*job.held, *job.backends)))

    def _decode(self, job: Job, names: Iterable[str]) -> Extracted:
        path = Path(job.file.path)
        content = ContentHash()
        with decode(path) as decoder:
            extraction = Extraction(map(self._backend, names), decoder.sample_rate)
            for block in decoder:
                content.update(block)
                extraction.feed(block)
                tell_progress()
        return Extracted(
            file=job.file,
            content_id=content.hexdigest(),
            duration_seconds=decoder.duration_seconds,
            tags=read_tags(path),
            partial=decoder.partial,
            fingerprints=extraction.finish(),
        )

    def _backend(self, name: str) -> Backend:
        if name not in self._backends:
            self._backends[name] = create(name, **self._specifications[name])
        return self._backends[name]


class _State(NamedTuple):
    """What tells a file from what it was, or from another that has taken its place."""

    file: AudioFile
    inode: int


def _state(file: AudioFile) -> _State:
    try:
        status = os.stat(file.path)  # noqa: PTH116 - a path is a str in all of this
    except OSError:
        return _State(file, 0)
    if not stat.S_ISREG(status.st_mode):  # writing to a pipe changes its date
        return _State(file, 0)
    return _State(AudioFile(file.path, status.st_size, status.st_mtime_ns), status.st_ino)


def _is_about_the_content(error: InputError, file: AudioFile) -> bool:
    """Tell a file that holds no audio from one that could not be read, or not without ffmpeg."""
    if isinstance(error.__cause__, OSError):
        return False
    return file.size == 0 or shutil.which("ffmpeg") is not None
