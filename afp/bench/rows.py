"""One row a query: what was asked, what was answered. Scores are made from rows alone."""

from dataclasses import dataclass, field
from typing import Any

PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Answer:
    """A track that was found, whatever its `p_false`.

    Attributes
    ----------
    track : str
        Content id of the track: one recording in several files is one track.
    path : str
        A file of it.
    start : float
        Where in the track the query begins, in seconds.
    score, p_false, speed : float
        See `afp.fingerprint.Match`.
    """

    track: str
    path: str
    start: float
    score: float
    p_false: float
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Truth:
    """The right answer.

    Attributes
    ----------
    track : str
        Content id.
    start : float
        Where in the track the query begins, in seconds.
    speed : float
        1.02 where the query plays 2 % faster than the track.
    """

    track: str
    start: float
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One query to one backend.

    Attributes
    ----------
    backend : str
        Name of the backend.
    version : int
        Its version.
    parameters : dict
        Its parameters.
    condition : str
        The distortion in canonical words, such as ``noise:snr=0``: one cell of the grid.
    distortion : str
        Its name without severities, such as ``noise``.
    severity : dict
        Its severities, such as ``{"snr": 0.0}``; a range as the text ``"0..10"``.
    seconds : float
        Length of the query.
    kind : str
        `PRESENT`, or of what the query is that no track answers: ``music``, ``speech`` …
    number : int
        Of the query in its cell. Queries of the same kind, number and seed are of the same
        excerpt in every cell.
    seed : int
        Of the run.
    source : str
        Path of the file that the excerpt is from; empty for synthetic sound.
    truth : Truth or None
        None where the right answer is no answer.
    answers : tuple of Answer
        The best first, at most ten, whatever their `p_false`, one for each track.
    drawn : dict
        What chance chose for this query: severities out of ranges, files of noise and rooms.
    error : str or None
        Why the query could not be answered.
    distort_ms, query_ms, query_cpu_ms : float
        Time for distorting the excerpt, and for answering the query (wall and CPU).
    """

    backend: str
    version: int
    parameters: dict[str, Any]
    condition: str
    distortion: str
    severity: dict[str, float | str]
    seconds: float
    kind: str
    number: int
    seed: int
    source: str
    truth: Truth | None
    answers: tuple[Answer, ...] = ()
    drawn: dict[str, float | str] = field(default_factory=dict)
    error: str | None = None
    distort_ms: float = 0.0
    query_ms: float = 0.0
    query_cpu_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class About:
    """What a run was: the first line of its rows.

    Attributes
    ----------
    afp, date, command : str
        Version, day, and the command line.
    machine : dict
        Processor, cores, system, versions of what matters.
    seed : int
        Of the run.
    max_p : float
        Default threshold of `p_false` at that version.
    tracks, absent_tracks : int
        Indexed, and kept out.
    seconds : float
        Audio indexed.
    backends : dict of str to dict
        By backend: ``version``, ``parameters``, ``bytes_per_second`` of audio (everything
        counted), ``index_cpu_seconds`` and ``index_wall_seconds`` (0 where a present store
        was used).
    """

    afp: str
    date: str
    command: str
    machine: dict[str, Any]
    seed: int
    max_p: float
    tracks: int
    absent_tracks: int
    seconds: float
    backends: dict[str, dict[str, Any]]
