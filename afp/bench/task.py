"""One run on its way: what all parts of it share."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from afp.bench.excerpts import Shelf
from afp.bench.grid import Grid
from afp.bench.worker import Job, Material, Result, start
from afp.distort import Sounds
from afp.errors import AfpError
from afp.library import Interruption
from afp.library.fusion import FUSED
from afp.library.workers import Crash, Pool

_MOST_CRASHES = 2  # of workers at one job

Workers = Pool[Job, Result | Crash]


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a run has come.

    Attributes
    ----------
    name : str
        What is being done.
    done, total : int
        Of files, or of queries.
    """

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that the user should know.

    Attributes
    ----------
    text : str
    """

    text: str


Observer = Callable[[Stage | Remark], None]


@dataclass(frozen=True, slots=True)
class Task:
    """A grid, and with what it is worked off.

    Attributes
    ----------
    grid : Grid
    work : Path
        Folder for what is not kept.
    n_workers : int
        Number of processes.
    tell : callable
        Told how far it is.
    interruption : Interruption or None
        Ends it early.
    """

    grid: Grid
    work: Path
    n_workers: int
    tell: Observer
    interruption: Interruption | None

    @property
    def stopped(self) -> int | None:
        """The signal that ends it early."""
        return self.interruption.signal if self.interruption else None

    @property
    def stores(self) -> Mapping[str, Path]:
        """The store of each backend; what is fused shares one."""
        fused = {FUSED, *self.grid.parts} if FUSED in self.grid.backends else set()
        return {
            name: self.grid.store or self.work / (FUSED if name in fused else name)
            for name in {**self.grid.indexed, **self.grid.backends}
        }

    def shelf(self, keys: Iterable[tuple[str, int]]) -> Shelf:
        """Return the shelf for excerpts of these kinds and numbers."""
        return Shelf.of(self.work / "excerpts", self.grid, keys)

    def workers(self, sounds: Sounds, shelf: Shelf) -> Workers:
        """Start processes; they are forked, so nothing of a store may be open."""
        material = Material(self.grid, sounds, shelf, self.stores)
        return Pool(start, (material,), n_workers=self.n_workers)

    def worked(self, pool: Workers, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Work jobs off until an interruption; yield them with their results."""
        waiting = iter(jobs)
        wake = (self.interruption.fileno(),) if self.interruption else ()
        crashes: Counter[int] = Counter()
        exhausted = False
        while not self.stopped:
            while pool.has_room and not exhausted:
                job = next(waiting, None)
                if job is None:
                    exhausted = True
                else:
                    pool.submit(job)
            if not pool.n_pending:
                return
            for job, result in pool.collect(wake=wake):
                if not isinstance(result, Crash):
                    yield job, result
                elif crashes[id(job)] < _MOST_CRASHES:
                    crashes[id(job)] += 1
                    pool.submit(job)
                else:
                    raise AfpError(
                        f"the benchmark cannot go on: {result}",
                        hint="when memory runs out, fewer processes help: -j 1",
                    )
