"""One row a query: what was asked, what was answered. Scores are made from rows alone.

A file of rows is JSON Lines, gzipped where its name ends in ``.gz``: first what the run was,
``{"about": {…}}``, then a row a line. Its numbers are rounded: milliseconds to 0.1, seconds to
0.0001, `p_false` up to three digits, so that it stays on its side of every threshold of three.
"""

import glob
import gzip
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from afp.bench import fields
from afp.errors import InputError, UsageError

PRESENT = "present"
MUSIC = "music"  # that is not in the store
_T = TypeVar("_T")


class _Record:
    """What has fields that are kept as JSON."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, with numbers rounded."""
        return fields.written(self, _RULES[type(self).__name__])

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a JSON object.

        Raises
        ------
        ValueError
            When a field is missing or wrong.
        """
        return cls(**fields.read(value, _RULES[cls.__name__]))


@dataclass(frozen=True, slots=True)
class Answer(_Record):
    """A track that was found, whatever its `p_false`.

    Attributes
    ----------
    track : str
        Content id of the track: one recording in several files is one track.
    path : str
        A file of it, as `Row.source` is.
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
class Truth(_Record):
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
        `PRESENT`, or of what the query is that no track answers: `MUSIC`, ``speech`` …
    number : int
        Of the query among those of its kind. Queries of the same kind, number and seed are of
        the same excerpt, in every cell that has them.
    seed : int
        Of the run.
    source : str
        File that the excerpt is from, by its path below the folder that holds all music of the
        run; empty for synthetic sound.
    start : float
        Where in that file the excerpt starts, in seconds.
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
    start: float
    truth: Truth | None
    answers: tuple[Answer, ...] = ()
    drawn: dict[str, float | str] = field(default_factory=dict)
    error: str | None = None
    distort_ms: float = 0.0
    query_ms: float = 0.0
    query_cpu_ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, with numbers rounded."""
        return {
            **fields.written(self, _ROW),
            "truth": self.truth and self.truth.to_json(),
            "answers": [answer.to_json() for answer in self.answers],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a JSON object; see `Truth.from_json`."""
        row = cls(**fields.read(value, {**_ROW, "truth": _truth, "answers": _answers}))
        if (row.kind == PRESENT) != (row.truth is not None):
            raise ValueError(f"truth: {row.truth} is none for a query of kind {row.kind!r}")
        return row


@dataclass(frozen=True, slots=True)
class About(_Record):
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
    silent : int
        Excerpts that were drawn again because they were digitally silent.
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
    silent: int
    seconds: float
    backends: dict[str, dict[str, Any]]


def line(value: Row | About) -> str:
    """Format one line of a file of rows, its end included; of plain ASCII."""
    whole = {"about": value.to_json()} if isinstance(value, About) else value.to_json()
    return json.dumps(whole, separators=(",", ":"), allow_nan=False) + "\n"


def write_rows(path: Path, about: About, rows: Iterable[Row]) -> None:
    """Write a file of rows, whole or not at all; the same rows give the same bytes.

    Raises
    ------
    UsageError
        When it cannot be written.
    """
    values: Iterable[About | Row] = chain([about], rows)
    lines = (line(value).encode() for value in values)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        try:
            with draft.open("wb") as file:
                if path.suffix == ".gz":
                    with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                        packed.writelines(lines)
                else:
                    file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="name a file in a folder that may be written to",
        ) from error


def remove_drafts(path: Path) -> None:
    """Remove what a killed `write_rows` left of a file that nobody else writes now."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.draft"):
        draft.unlink(missing_ok=True)


def read_rows(path: Path, *, allow_cut: bool = False) -> tuple[About, list[Row]]:
    """Read a file of rows.

    Parameters
    ----------
    path : Path
        The file.
    allow_cut : bool
        Leave out a last line without its end, which a killed run leaves.

    Raises
    ------
    InputError
        When it cannot be read, or a line of it is wrong.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputError(
            f"{path} cannot be read: {reason or error}", hint="name a file of rows of `afp bench`"
        ) from error
    *lines, rest = content.split(b"\n")
    if rest and not (allow_cut and lines):
        raise InputError(
            f"{path}: line {len(lines) + 1}: it is cut short",
            hint="resume the run that wrote it, or delete that line",
        )
    if not lines:
        raise InputError(f"{path} is empty", hint="name a file of rows of `afp bench`")
    about = _read(path, 1, lines[0], _about)
    return about, [_read(path, number, text, _row) for number, text in enumerate(lines[1:], 2)]


def join(runs: Sequence[tuple[About, Sequence[Row]]]) -> tuple[About, list[Row]]:
    """Put the rows of several runs on the same music together, to score them as one.

    A backend that ran with several versions or parameters is told apart by them, as in
    ``shazam density=20``. The day and the machine are those of the first run.

    Raises
    ------
    UsageError
        When the runs cannot be compared: another seed, threshold or number of tracks.
    """
    (first, _), *others = runs
    for about, _ in others:
        for name in ("seed", "max_p", "tracks", "absent_tracks"):
            ours, theirs = getattr(first, name), getattr(about, name)
            if ours != theirs:
                raise UsageError(
                    f"the runs differ in {name}: {ours} and {theirs}", hint="score them apart"
                )
    every = [about.backends for about, _ in runs]
    backends: dict[str, dict[str, Any]] = {}
    joined: list[Row] = []
    for about, rows in runs:
        labels = {name: _label(name, facts, every) for name, facts in about.backends.items()}
        backends |= {labels[name]: facts for name, facts in about.backends.items()}
        joined += [replace(row, backend=labels.get(row.backend, row.backend)) for row in rows]
    commands = dict.fromkeys(about.command for about, _ in runs)
    return replace(first, command="; ".join(commands), backends=backends), joined


def _label(name: str, facts: dict[str, Any], every: Sequence[dict[str, dict[str, Any]]]) -> str:
    """Name a backend by what tells it from others of its name."""
    variants = [backends[name] for backends in every if name in backends]
    differing = [
        f"{key}={fields.brief(value)}"
        for key, value in facts["parameters"].items()
        if any(variant["parameters"].get(key) != value for variant in variants)
    ]
    if any(variant["version"] != facts["version"] for variant in variants):
        differing.insert(0, f"version {facts['version']}")
    return " ".join([name, *differing])


def _read(path: Path, number: int, text: bytes, read: Callable[[object], _T]) -> _T:
    try:
        return read(json.loads(text.decode(), parse_constant=_refuse, parse_float=_finite))
    except (ValueError, RecursionError) as error:
        no_json = isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError)
        wrong = "it is no JSON" if no_json else str(error)
        raise InputError(
            f"{path}: line {number}: {wrong}",
            hint="it takes the rows of one `afp bench`, each line as it was written",
        ) from error


def _about(value: object) -> About:
    if not isinstance(value, dict) or "about" not in value:
        raise ValueError("the first line does not tell 'about' the run")
    return About.from_json(value["about"])


def _row(value: object) -> Row:
    if isinstance(value, dict) and "about" in value:
        raise ValueError("another run begins; give the files of several runs apart")
    return Row.from_json(value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _truth(value: object) -> Truth | None:
    return None if value is None else Truth.from_json(value)


def _answers(value: object) -> tuple[Answer, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.40} is no list")
    return tuple(Answer.from_json(answer) for answer in value)


def _backends(value: object) -> dict[str, dict[str, Any]]:
    return {
        name: {**fields.json_object(facts), **fields.read(facts, _BACKEND)}
        for name, facts in fields.json_object(value).items()
    }


_ANSWER: fields.Rules = {
    "track": fields.text,
    "path": fields.text,
    "start": fields.seconds,
    "score": fields.score,
    "p_false": fields.p_false,
    "speed": fields.factor,
}
_TRUTH: fields.Rules = {"track": fields.text, "start": fields.seconds, "speed": fields.factor}
_ROW: fields.Rules = {
    "backend": fields.text,
    "version": fields.integer,
    "parameters": fields.json_object,
    "condition": fields.text,
    "distortion": fields.text,
    "severity": fields.settings,
    "seconds": fields.seconds,
    "kind": fields.text,
    "number": fields.integer,
    "seed": fields.integer,
    "source": fields.text,
    "start": fields.seconds,
    "drawn": fields.settings,
    "error": fields.optional_text,
    "distort_ms": fields.milliseconds,
    "query_ms": fields.milliseconds,
    "query_cpu_ms": fields.milliseconds,
}
_BACKEND: fields.Rules = {
    "version": fields.integer,
    "parameters": fields.json_object,
    "bytes_per_second": fields.number,
    "index_cpu_seconds": fields.seconds,
    "index_wall_seconds": fields.seconds,
}
_ABOUT: fields.Rules = {
    "afp": fields.text,
    "date": fields.text,
    "command": fields.text,
    "machine": fields.json_object,
    "seed": fields.integer,
    "max_p": fields.number,
    "tracks": fields.integer,
    "absent_tracks": fields.integer,
    "silent": fields.integer,
    "seconds": fields.seconds,
    "backends": _backends,
}
_RULES = {"Answer": _ANSWER, "Truth": _TRUTH, "About": _ABOUT}
