"""What `afp.library.index` tells of its work."""

from dataclasses import dataclass, field
from enum import StrEnum

from afp.audio import AudioFile
from afp.fingerprint import Track


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


@dataclass(slots=True)
class IndexReport:
    """What a run has done.

    Attributes
    ----------
    counts : dict of Status to int
        Number of files.
    failures : list of FileOutcome
        The files that failed in this run.
    partial : list of FileOutcome
        The files of which only the first part could be decoded.
    failed_before : int
        How many of the skipped files failed in an earlier run.
    audio_seconds : float
        Length of what was decoded and stored.
    wall_seconds : float
        How long it took.
    interrupted : int or None
        The signal that ended the run before it was through.
    n_left : int or None
        Files that were not decoded for that reason; None when it came before all were found.
    """

    counts: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    failures: list[FileOutcome] = field(default_factory=list)
    partial: list[FileOutcome] = field(default_factory=list)
    failed_before: int = 0
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0
    interrupted: int | None = None
    n_left: int | None = 0

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
                self.partial.append(outcome)
