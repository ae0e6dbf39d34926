"""Run a grid: index, draw excerpts, distort them, query; one row a query."""

import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from afp import __version__
from afp.bench import unknown
from afp.bench.excerpts import Excerpt
from afp.bench.grid import Cell, Grid
from afp.bench.indexing import contents
from afp.bench.journal import Journal
from afp.bench.preparation import Ready, prepare
from afp.bench.prepared import Prepared, checksum
from afp.bench.rows import MUSIC, PRESENT, About, Row
from afp.bench.task import Observer, Remark, Stage, Task, Workers
from afp.bench.worker import Ask
from afp.distort import parse
from afp.errors import AfpError, UsageError
from afp.library import DEFAULT_MAX_P, Interruption
from afp.library.workers import usable_cores

_QUERIES_A_JOB = 8
(_CLEAN,) = parse("clean")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes
    ----------
    about : About or None
        None when it was interrupted before the first query.
    rows : list of Row
        In the order of the grid.
    n_left : int or None
        Queries left because of an interruption; None where that is not known yet.
    interrupted : int or None
        The signal that ended it.
    """

    about: About | None
    rows: list[Row] = field(default_factory=list)
    n_left: int | None = 0
    interrupted: int | None = None


def run(
    grid: Grid,
    *,
    out: Path | None = None,
    n_workers: int | None = None,
    command: str = "",
    observer: Observer = lambda event: None,
    interruption: Interruption | None = None,
) -> Outcome:
    """Run a grid, or what is left of it.

    Parameters
    ----------
    grid : Grid
    out : Path, optional
        Folder for the rows, ``rows.jsonl``; a run that was interrupted or killed goes on from
        what it finds there. Without it nothing is kept.
    n_workers : int, optional
        Number of processes; else as many as there are usable cores.
    command : str
        Noted in the rows.
    observer : callable
        Told how far it is, and what there is to remark.
    interruption : Interruption, optional
        Ends the run early.

    Raises
    ------
    UsageError
        When ``out`` holds another run, or is in use; for an unknown backend or parameter.
    InputError
        When there is no music that is long enough, or no recording in a folder of them.
    StoreError
        When a store cannot be used.
    """
    with ExitStack() as opened:
        if out is None:
            out = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="afp-bench-")))
        journal = opened.enter_context(Journal(out, grid.as_json()))
        if journal.finished:
            return Outcome(*journal.read())
        n_workers = n_workers or usable_cores()
        task = Task(grid, journal.work, n_workers, observer, interruption)
        return _Run(task, journal).outcome(command)


class _Run:
    def __init__(self, task: Task, journal: Journal) -> None:
        self._task, self._journal = task, journal

    def outcome(self, command: str) -> Outcome:
        """Do all that is left to do."""
        n_left = None
        prepared = self._prepared(command) if self._journal.about is None else self._resumed()
        if prepared is not None and not self._task.stopped:
            shelf = self._task.shelf(prepared.excerpts)
            with self._task.workers(prepared.sounds, shelf) as pool:
                n_left = self._query(pool, prepared)
        about, rows = self._journal.read()
        rows.sort(key=self._order())
        if n_left == 0:
            self._journal.finish(rows)
        return Outcome(about, rows, n_left, self._task.stopped)

    def _prepared(self, command: str) -> Prepared | None:
        ready = prepare(self._task)
        if ready is None:
            return None
        self._journal.begin(self._about(command, ready))
        return ready.prepared

    def _resumed(self) -> Prepared:
        """Go on with what an earlier run has made ready."""
        prepared = Prepared.load(self._task.work)
        if self._task.grid.store is not None:
            indexed = contents(self._task.grid.store)
            if checksum(indexed.content) != prepared.content:
                raise UsageError(
                    f"{self._task.grid.store}: has changed since the run began",
                    hint="name another folder with --out",
                )
        return prepared

    def _query(self, pool: Workers, prepared: Prepared) -> int:
        """Make all queries that are not made yet; return how many are left."""
        done = self._journal.done
        unknown_kinds = unknown.kinds(prepared.sounds) if self._task.grid.absent else ()
        jobs = list(self._asks(prepared.excerpts, unknown_kinds))
        total = len(done) + sum(len(job.queries) * len(job.backends) for job in jobs)
        if done:
            self._task.tell(Remark(f"{len(done):,} of {total:,} rows are there already"))
        self._task.tell(Stage("querying", len(done), total))
        for _, result in self._task.worked(pool, jobs):
            if isinstance(result, AfpError):
                raise result
            assert isinstance(result, list)
            self._journal.append(row for row in result if isinstance(row, Row))
            self._task.tell(Stage("querying", len(done), total))
        return total - len(done)

    def _asks(
        self,
        excerpts: Mapping[tuple[str, int], Excerpt],
        unknown_kinds: Iterable[str],
    ) -> Iterator[Ask]:
        """Yield the queries to make: some of every cell, then more, so that all grow alike."""
        grid = self._task.grid
        plans = [(cell, PRESENT, range(grid.queries)) for cell in grid.cells]
        if any(kind == MUSIC for kind, _ in excerpts):
            plans += [(cell, MUSIC, grid.absent_numbers(cell.distortion)) for cell in grid.cells]
        plans += [
            (Cell(_CLEAN, seconds), kind, range(i * grid.n_absent, (i + 1) * grid.n_absent))
            for i, seconds in enumerate(grid.seconds)
            for kind in unknown_kinds
        ]
        for first in range(0, max(len(numbers) for _, _, numbers in plans), _QUERIES_A_JOB):
            for cell, kind, numbers in plans:
                waiting: dict[tuple[str, ...], list[int]] = defaultdict(list)
                for number in numbers[first : first + _QUERIES_A_JOB]:
                    key = (cell.distortion.condition, cell.seconds, kind, number)
                    backends = tuple(
                        b for b in grid.backends if (b, *key) not in self._journal.done
                    )
                    waiting[backends].append(number)
                for backends, left in waiting.items():
                    if backends:
                        queries = tuple((number, excerpts.get((kind, number))) for number in left)
                        yield Ask(cell, kind, queries, backends)

    def _about(self, command: str, ready: Ready) -> About:
        return About(
            afp=__version__,
            date=time.strftime("%Y-%m-%d"),
            command=command,
            machine=machine() | {"processes": self._task.n_workers},
            seed=self._task.grid.seed,
            max_p=DEFAULT_MAX_P,
            tracks=len(ready.indexed.content),
            absent_tracks=ready.n_absent,
            silent=ready.n_silent,
            seconds=round(ready.indexed.seconds, 1),
            backends=ready.backends,
        )

    def _order(self) -> Callable[[Row], tuple[object, ...]]:
        """Return a key that sorts rows as the grid lists them."""
        grid = self._task.grid
        conditions = [distortion.condition for distortion in grid.distortions]
        if _CLEAN.condition not in conditions:
            conditions.append(_CLEAN.condition)
        backends = list(grid.backends)

        def key(row: Row) -> tuple[object, ...]:
            return (
                row.kind != PRESENT,
                row.kind != MUSIC,
                row.kind,
                conditions.index(row.condition),
                grid.seconds.index(row.seconds),
                row.number,
                backends.index(row.backend),
            )

        return key


def machine() -> dict[str, Any]:
    """Describe the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    return {
        "cpu": model,
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
