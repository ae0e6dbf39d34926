"""The folder of a run: its rows as they come, so that a rerun goes on from there."""

import fcntl
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from afp.bench.rows import About, Row, line, read_rows, write_rows
from afp.errors import UsageError

ROWS = "rows.jsonl"
_PART = "rows.part.jsonl"
_GRID = "grid.json"
_WORK = "work"


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
        What was noted when all was indexed.
    rows : list of Row
        What an earlier run has left.
    finished : bool
        Whether that is everything.

    Raises
    ------
    UsageError
        When the folder holds another run, or is in use.
    """

    def __init__(self, folder: Path, grid: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = (folder / _GRID).open("a+", encoding="utf-8")
        try:
            self._claim(json.loads(json.dumps(grid)))
            self.about: About | None = None
            self.rows: list[Row] = []
            self.finished = (folder / ROWS).exists()
            if self.finished:
                self.about, self.rows = read_rows(folder / ROWS)
            elif (folder / _PART).exists():
                self.about, self.rows = read_rows(folder / _PART, allow_cut=True)
                self._write_part(self.about, self.rows)  # without what was cut
            elif self.work.exists():
                # Killed before all was indexed: what that has cost is not known.
                shutil.rmtree(self.work)
        except BaseException:
            self._file.close()
            raise

    def _claim(self, grid: dict[str, Any]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"{self._folder}: another run is writing there",
                hint="wait for it, or name another folder with --out",
            ) from None
        self._file.seek(0)
        text = self._file.read()
        if not text and not (self._folder / ROWS).exists():
            self._file.write(json.dumps(grid, indent=1) + "\n")
            self._file.flush()
            return
        try:
            found = json.loads(text)
        except ValueError:
            found = {}
        if different := [name for name in grid if found.get(name, ...) != grid[name]]:
            raise UsageError(
                f"{self._folder}: holds a run that differs in {', '.join(different)}",
                hint="name another folder with --out, or remove this one",
            )

    @property
    def work(self) -> Path:
        """Folder for what is not kept: stores, excerpts."""
        return self._folder / _WORK

    def _write_part(self, about: About, rows: Iterable[Row]) -> None:
        write_rows(self._folder / _PART, about, rows)

    def begin(self, about: About) -> None:
        """Note what the run is, before its first row."""
        self.about = about
        self._write_part(about, ())

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows."""
        rows = list(rows)
        self.rows += rows
        with (self._folder / _PART).open("a", encoding="utf-8") as file:
            file.write("".join(map(line, rows)))

    def finish(self, rows: Iterable[Row]) -> None:
        """Write all rows in their final order, and drop what is not kept."""
        assert self.about is not None
        write_rows(self._folder / ROWS, self.about, rows)
        (self._folder / _PART).unlink()
        shutil.rmtree(self.work)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
