"""The folder of a run: its rows as they come, so that a rerun goes on from there."""

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from afp.bench.rows import About, Row, line, read_rows, remove_drafts, write_rows
from afp.errors import UsageError

ROWS = "rows.jsonl"
_PART = "rows.part.jsonl"
_GRID = "grid.json"
_WORK = "work"

_MARK = {"what": "the grid of a run of afp bench"}

Key = tuple[str, str, float, str, int]
"""Of a row: backend, condition, seconds, kind, number."""


class Journal:
    """A folder that belongs to one grid, and while it is open to one process.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    grid : dict
        What decides the rows, as JSON.

    Attributes
    ----------
    about : About or None
        What was noted before the first query; None when it has not come so far, or is finished.
    done : set of Key
        The rows that are there; empty when the run is finished.
    finished : bool
        Whether there are all rows.

    Raises
    ------
    UsageError
        When the folder holds another run, or something else, is in use or cannot be written.
    """

    def __init__(self, folder: Path, grid: dict[str, Any]) -> None:
        self._folder = folder
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._require_own()
            self._file = (folder / _GRID).open("a+", encoding="utf-8")
        try:
            with self._writing():
                self._lock()
                self._claim(json.loads(json.dumps(_MARK | grid)))
                for name in (ROWS, _PART):
                    remove_drafts(folder / name)
                self.about: About | None = None
                self.done: set[Key] = set()
                self.finished = (folder / ROWS).exists()
                if self.finished:
                    self._clear()  # a run that was killed at its very end
                elif (folder / _PART).exists():
                    about, rows = read_rows(folder / _PART, allow_cut=True)
                    self.begin(about, rows)  # without what was cut
                elif self.work.exists():
                    # Killed before the first query: what indexing has cost is not known.
                    shutil.rmtree(self.work)
                if not self.finished:
                    self.work.mkdir(exist_ok=True)
        except BaseException:
            self.close()
            raise

    def _require_own(self) -> None:
        """Refuse a folder with files of others where the run would put its own."""
        noted = self._folder / _GRID
        names = [name for name in (ROWS, _PART, _WORK) if (self._folder / name).exists()]
        if noted.exists() and not _is_grid(noted.read_bytes()):
            names = [_GRID]
        elif noted.exists():
            names = []
        if names:
            raise UsageError(
                f"{self._folder}: has {names[0]} in it, which is of no run that could go on",
                hint="name another folder with --out",
            )

    def _lock(self) -> None:
        try:
            # Not flock: workers would inherit it, and might outlive a parent that is killed.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UsageError(
                f"{self._folder}: another run is writing there",
                hint="wait for it, or name another folder with --out",
            ) from None

    def _claim(self, grid: dict[str, Any]) -> None:
        """Compare with the grid that is noted there; note this one where no rows are yet."""
        self._file.seek(0)
        try:
            found = json.loads(self._file.read())
        except ValueError:
            found = None
        if found == grid:
            return
        if any((self._folder / name).exists() for name in (ROWS, _PART)):
            known = found if isinstance(found, dict) else {}
            different = [name for name in grid if known.get(name, ...) != grid[name]]
            raise UsageError(
                f"{self._folder}: holds a run that differs in {', '.join(different)}",
                hint="name another folder with --out, or remove this one",
            )
        if self.work.exists():
            shutil.rmtree(self.work)
        self._file.truncate(0)
        self._file.write(json.dumps(grid, indent=1) + "\n")
        self._file.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"{self._folder}: cannot be written: {error.strerror or error}",
                hint="what is there stays; make room, or name another folder with --out",
            ) from error

    @property
    def work(self) -> Path:
        """Folder for what is not kept: stores, excerpts."""
        return self._folder / _WORK

    def read(self) -> tuple[About | None, list[Row]]:
        """Read what the run is, and the rows that are there."""
        if self.finished:
            return read_rows(self._folder / ROWS)
        return (None, []) if self.about is None else read_rows(self._folder / _PART)

    def begin(self, about: About, rows: Iterable[Row] = ()) -> None:
        """Note what the run is, and the rows that it starts with."""
        rows = list(rows)
        write_rows(self._folder / _PART, about, rows)
        self.about = about
        self.done = set(map(key, rows))

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows.

        Raises
        ------
        UsageError
            When they cannot be written.
        """
        rows = list(rows)
        with self._writing(), (self._folder / _PART).open("a", encoding="utf-8") as file:
            file.write("".join(map(line, rows)))
        self.done.update(map(key, rows))

    def finish(self, rows: Iterable[Row]) -> None:
        """Write all rows in their final order, and drop what is not kept."""
        assert self.about is not None
        write_rows(self._folder / ROWS, self.about, rows)
        self.finished = True
        self._clear()

    def _clear(self) -> None:
        (self._folder / _PART).unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def close(self) -> None:
        """Let others have the folder."""
        with self._writing():
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def key(row: Row) -> Key:
    """Return what tells a row from the others of a run."""
    return row.backend, row.condition, row.seconds, row.kind, row.number


def _is_grid(content: bytes) -> bool:
    """Tell what a run has noted from a file of the same name; a killed run may leave nothing."""
    try:
        noted = json.loads(content) if content else _MARK
    except ValueError:
        return False
    return isinstance(noted, dict) and _MARK.items() <= noted.items()
