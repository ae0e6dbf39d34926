"""What a worker does with a file: decode it once, fingerprint it with several backends."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from afp.audio import ContentHash, Tags, decode, read_tags
from afp.backends import Backend, Parameter, create
from afp.errors import InputError
from afp.fingerprint import Fingerprint
from afp.library.planning import Job
from afp.library.streaming import Extraction
from afp.library.workers import tell_progress


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file on its way into the store."""

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
            return Refused(reason, for_good=_is_about_the_content(error))
        except MemoryError:
            return Refused("takes more memory than there is for it", for_good=False)
        except Exception as error:
            # A fault of ours, or of the moment: it must not end the run, nor count against the
            # file for ever.
            return Refused(f"{type(error).__name__}: {error}", for_good=False)

    def _extract(self, job: Job) -> Extracted | Refused:
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


def _is_about_the_content(error: InputError) -> bool:
    """Tell a file that holds no audio from one that could not be read, or not without ffmpeg."""
    return not isinstance(error.__cause__, OSError) and shutil.which("ffmpeg") is not None
