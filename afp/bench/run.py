"""Run a grid: index, draw excerpts, distort them, query; one row a query."""

import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from afp import __version__
from afp.bench import unknown
from afp.bench.excerpts import Excerpt, Shelf, Source, draw, long_enough
from afp.bench.grid import RATE, Cell, Grid
from afp.bench.indexing import Indexed, build, contents, describe
from afp.bench.journal import Journal
from afp.bench.rows import PRESENT, About, Row
from afp.bench.worker import MUSIC, Ask, Cut, Job, Material, Measure, Result, start
from afp.distort import Recordings, Sounds, parse
from afp.errors import AfpError, InputError
from afp.library import DEFAULT_MAX_P, FileOutcome, Interruption, Planned
from afp.library.workers import Crash, Pool, usable_cores

_QUERIES_A_JOB = 8
_MOST_ATTEMPTS = 100
(_CLEAN,) = parse("clean")

_Key = tuple[str, str, float, str, int]  # of a row: backend, condition, seconds, kind, number


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
            return Outcome(journal.about, journal.rows)
        journal.work.mkdir(exist_ok=True)
        return _Run(grid, journal, n_workers or usable_cores(), observer, interruption).outcome(
            command
        )


class _Run:
    """One run on its way."""

    def __init__(
        self,
        grid: Grid,
        journal: Journal,
        n_workers: int,
        observer: Observer,
        interruption: Interruption | None,
    ) -> None:
        self._grid = grid
        self._journal = journal
        self._n_workers = n_workers
        self._tell = observer
        self._interruption = interruption
        self._stores = {name: grid.store or journal.work / name for name in grid.backends}

    @property
    def _stopped(self) -> int | None:
        return self._interruption.signal if self._interruption else None

    def outcome(self, command: str) -> Outcome:
        """Do all that is left to do."""
        kept, others = self._split()
        sounds = self._sounds()
        backends = self._indexed(kept)
        if self._stopped:
            return Outcome(self._journal.about, self._journal.rows, None, self._stopped)
        indexed = contents(next(iter(self._stores.values())))
        sources = {PRESENT: self._usable(indexed)}
        n_absent = self._grid.n_absent if others else 0
        shelf = Shelf.of(
            self._journal.work / "excerpts",
            self._grid,
            {PRESENT: self._grid.queries, MUSIC: n_absent},
        )
        material = Material(self._grid, sounds, shelf, self._stores)
        # Forked here, where nothing of a store is open.
        with Pool[Job, Result | Crash](start, (material,), n_workers=self._n_workers) as pool:
            if n_absent:
                sources[MUSIC] = self._absent(pool, others, indexed)
            excerpts = self._excerpts(pool, sources, shelf)
            if self._stopped:
                return Outcome(self._journal.about, self._journal.rows, None, self._stopped)
            if self._journal.about is None:
                about = self._about(command, indexed, len(sources.get(MUSIC, ())), backends)
                self._journal.begin(about)
            n_left = self._query(pool, excerpts, sounds)
        rows = sorted(self._journal.rows, key=self._order())
        if not n_left:
            self._journal.finish(rows)
        return Outcome(self._journal.about, rows, n_left, self._stopped)

    def _split(self) -> tuple[list[Path], list[Path]]:
        """Choose by chance which files to index and which to keep out."""
        music, share = self._grid.music, self._grid.absent
        if self._grid.store is not None:
            return [], list(music)
        if len(music) < 2:
            raise InputError(
                f"{len(music)} audio file to benchmark with" if music else "no audio files found",
                hint="name a folder with more music: afp bench ~/Music",
            )
        n_out = min(max(round(share * len(music)), 1), len(music) - 1) if share else 0
        order = self._grid.generator("split").permutation(len(music))
        chosen = set(order[:n_out].tolist())
        kept = [path for i, path in enumerate(music) if i not in chosen]
        return kept, [path for i, path in enumerate(music) if i in chosen]

    def _sounds(self) -> Sounds:
        """Decode the folders of recordings."""
        decoded = {}
        for name in ("noise", "rooms", "speech"):
            folder = getattr(self._grid, name)
            if folder is not None and not self._stopped:
                self._tell(Stage(f"reading {name}", 0, 1))
                into = self._journal.work / f"{name}.f32"
                decoded[name] = Recordings.decoded(folder, into, sample_rate=RATE)
        return Sounds(**decoded)

    def _indexed(self, kept: Sequence[Path]) -> dict[str, dict[str, Any]]:
        """Index for each backend, unless that is done; tell what it took."""
        if self._journal.about is not None:
            return self._journal.about.backends
        if self._grid.store is not None:
            return {name: describe(self._grid.store, name) for name in self._grid.backends}
        backends = {}
        for name, parameters in self._grid.backends.items():
            if self._stopped:
                break
            backends[name] = build(
                self._stores[name],
                kept,
                name,
                parameters,
                n_workers=self._n_workers,
                observer=self._index_observer(name),
                interruption=self._interruption,
            )
        return backends

    def _index_observer(self, backend: str) -> Callable[[Planned | FileOutcome], None]:
        done = total = 0

        def observe(event: Planned | FileOutcome) -> None:
            nonlocal done, total
            if isinstance(event, Planned):
                total = event.n_files
            else:
                done += 1
                if event.error:
                    self._tell(Remark(f"not indexed: {event.file.path}: {event.error}"))
            self._tell(Stage(f"indexing for {backend}", done, total))

        return observe

    def _usable(self, indexed: Indexed) -> list[Source]:
        """Keep what excerpts can be drawn from."""
        there = [source for source in indexed.sources if os.path.exists(source.path)]  # noqa: PTH110
        if len(there) < len(indexed.sources):
            n = len(indexed.sources) - len(there)
            self._tell(Remark(f"{n} of {len(indexed.sources)} indexed files are gone"))
        return self._long_enough(there, "indexed")

    def _long_enough(self, sources: Sequence[Source], which: str) -> list[Source]:
        long = long_enough(sources, self._grid)
        needed = f"{self._grid.reach_seconds:.1f} s"
        if not long:
            raise InputError(
                f"none of {len(sources)} {which} tracks is longer than {needed}",
                hint="shorter queries: --seconds 1,2,3; or more music",
            )
        if len(long) < len(sources):
            short = len(sources) - len(long)
            self._tell(
                Remark(f"{short} of {len(sources)} {which} tracks give no query: under {needed}")
            )
        return long

    def _absent(
        self, pool: "Pool[Job, Result | Crash]", others: Sequence[Path], indexed: Indexed
    ) -> list[Source]:
        """Keep what is not in the store under another name."""
        jobs = [Measure(str(path)) for path in others]
        found: dict[str, Source] = {}
        for done, (_, result) in enumerate(self._worked(pool, jobs), 1):
            self._tell(Stage("reading absent tracks", done, len(jobs)))
            if isinstance(result, Source) and result.track not in indexed.content:
                found[result.path] = result
        if self._stopped:
            return []
        if not found:
            raise InputError(
                "every track that could be kept out is in the store too",
                hint="more music, or --absent 0",
            )
        return self._long_enough([found[path] for path in sorted(found)], "absent")

    def _excerpts(
        self,
        pool: "Pool[Job, Result | Crash]",
        sources: Mapping[str, Sequence[Source]],
        shelf: Shelf,
    ) -> dict[tuple[str, int], Excerpt]:
        """Draw every excerpt, and draw those again that are silent."""
        excerpts: dict[tuple[str, int], Excerpt] = {}
        missing = list(shelf.slots)
        for attempt in range(_MOST_ATTEMPTS):
            by_file: dict[str, list[Excerpt]] = defaultdict(list)
            for kind, number in missing:
                excerpt = draw(sources[kind], kind, number, attempt, self._grid)
                by_file[excerpt.source.path].append(excerpt)
            missing = []
            jobs = [Cut(tuple(drawn)) for drawn in by_file.values()]
            for done, (job, result) in enumerate(self._worked(pool, jobs), 1):
                assert isinstance(job, Cut)
                if isinstance(result, AfpError):
                    raise result
                assert isinstance(result, list)
                silent = {(excerpt.kind, excerpt.number) for excerpt in result}
                excerpts |= {(excerpt.kind, excerpt.number): excerpt for excerpt in job.excerpts}
                missing += silent
                self._tell(Stage("drawing excerpts", done, len(jobs)))
            if not missing or self._stopped:
                return excerpts
            missing.sort()
        raise InputError(
            f"{len(missing)} excerpts of {len(excerpts)} were silent {_MOST_ATTEMPTS} times",
            hint="is the music digital silence?",
        )

    def _query(
        self,
        pool: "Pool[Job, Result | Crash]",
        excerpts: Mapping[tuple[str, int], Excerpt],
        sounds: Sounds,
    ) -> int:
        """Make all queries that are not made yet; return how many are left."""
        done = {_key(row) for row in self._journal.rows}
        jobs = list(self._asks(excerpts, unknown.kinds(sounds) if self._grid.absent else (), done))
        total = len(done) + sum(len(job.queries) * len(job.backends) for job in jobs)
        self._tell(Stage("querying", len(done), total))
        for _, result in self._worked(pool, jobs):
            if isinstance(result, AfpError):
                raise result
            assert isinstance(result, list)
            rows = [row for row in result if isinstance(row, Row)]
            self._journal.append(rows)
            self._tell(Stage("querying", len(self._journal.rows), total))
        return total - len(self._journal.rows)

    def _asks(
        self,
        excerpts: Mapping[tuple[str, int], Excerpt],
        unknown_kinds: Iterable[str],
        done: "set[_Key]",
    ) -> Iterator[Ask]:
        """Yield the queries to make: some of every cell, then more, so that all grow alike."""
        numbers = {PRESENT: self._grid.queries}
        if any(kind == MUSIC for kind, _ in excerpts):
            numbers[MUSIC] = self._grid.n_absent
        plans = [(cell, kind, n) for cell in self._grid.cells for kind, n in numbers.items()]
        plans += [
            (Cell(_CLEAN, seconds), kind, self._grid.n_absent)
            for seconds in self._grid.seconds
            for kind in unknown_kinds
        ]
        for first in range(0, max(numbers.values()), _QUERIES_A_JOB):
            for cell, kind, n in plans:
                waiting: dict[tuple[str, ...], list[int]] = defaultdict(list)
                for number in range(first, min(first + _QUERIES_A_JOB, n)):
                    key = (cell.distortion.condition, cell.seconds, kind, number)
                    backends = tuple(b for b in self._grid.backends if (b, *key) not in done)
                    waiting[backends].append(number)
                for backends, left in waiting.items():
                    if backends:
                        queries = tuple((number, excerpts.get((kind, number))) for number in left)
                        yield Ask(cell, kind, queries, backends)

    def _worked(
        self, pool: "Pool[Job, Result | Crash]", jobs: Iterable[Job]
    ) -> Iterator[tuple[Job, Result]]:
        """Work jobs off until an interruption; yield them with their results."""
        waiting = iter(jobs)
        wake = (self._interruption.fileno(),) if self._interruption else ()
        exhausted = False
        while not self._stopped:
            while pool.has_room and not exhausted:
                job = next(waiting, None)
                if job is None:
                    exhausted = True
                else:
                    pool.submit(job)
            if not pool.n_pending:
                return
            for job, result in pool.collect(wake=wake):
                if isinstance(result, Crash):
                    raise AfpError(f"the benchmark cannot go on: {result}")
                yield job, result

    def _about(
        self, command: str, indexed: Indexed, n_absent: int, backends: dict[str, dict[str, Any]]
    ) -> About:
        return About(
            afp=__version__,
            date=time.strftime("%Y-%m-%d"),
            command=command,
            machine=machine(),
            seed=self._grid.seed,
            max_p=DEFAULT_MAX_P,
            tracks=len(indexed.content),
            absent_tracks=n_absent,
            seconds=round(indexed.seconds, 1),
            backends=backends,
        )

    def _order(self) -> Callable[[Row], tuple[int, ...]]:
        """Return a key that sorts rows as the grid lists them."""
        conditions = [distortion.condition for distortion in self._grid.distortions]
        if _CLEAN.condition not in conditions:
            conditions.append(_CLEAN.condition)
        backends = list(self._grid.backends)
        kinds: dict[str, int] = {PRESENT: 0, MUSIC: 1}

        def key(row: Row) -> tuple[int, ...]:
            return (
                kinds.setdefault(row.kind, len(kinds)),
                conditions.index(row.condition),
                self._grid.seconds.index(row.seconds),
                row.number,
                backends.index(row.backend),
            )

        return key


def _key(row: Row) -> _Key:
    return row.backend, row.condition, row.seconds, row.kind, row.number


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
