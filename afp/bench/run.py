"""Run a grid: index, draw excerpts, distort them, query; one row a query."""

import os
import platform
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from afp import __version__
from afp.bench import unknown
from afp.bench.excerpts import Excerpt, Shelf, Source, draw, long_enough, require_room
from afp.bench.grid import RATE, Cell, Grid
from afp.bench.indexing import Indexed, build, contents, describe
from afp.bench.journal import Journal
from afp.bench.prepared import Prepared, checksum, samples_of
from afp.bench.rows import PRESENT, About, Row
from afp.bench.worker import MUSIC, Ask, Cut, Job, Material, Measure, Result, start
from afp.distort import Recordings, Sounds, parse
from afp.errors import AfpError, InputError, UsageError
from afp.library import DEFAULT_MAX_P, FileOutcome, Interruption, Planned
from afp.library.workers import Crash, Pool, usable_cores

_QUERIES_A_JOB = 8
_MOST_ATTEMPTS = 100
_MOST_CRASHES = 2  # of workers at one job
(_CLEAN,) = parse("clean")

_Pool = Pool[Job, Result | Crash]


class _Interrupted(Exception):  # noqa: N818 - no error
    """Leaves work of others that an interruption has made pointless."""


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
            return Outcome(*journal.read())
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
        n_left = None
        prepared = self._prepare(command) if self._journal.about is None else self._prepared()
        if prepared is not None and not self._stopped:
            with self._pool(prepared.sounds, self._shelf(prepared.excerpts)) as pool:
                n_left = self._query(pool, prepared)
        about, rows = self._journal.read()
        rows.sort(key=self._order())
        if n_left == 0:
            self._journal.finish(rows)
        return Outcome(about, rows, n_left, self._stopped)

    def _prepare(self, command: str) -> Prepared | None:
        """Make everything ready for the first query; None when that is interrupted."""
        kept, others = self._split()
        sounds = self._sounds()
        if self._stopped:
            return None
        self._try_out(sounds)
        backends = self._indexed(kept)
        if self._stopped:
            return None
        indexed = contents(next(iter(self._stores.values())))
        sources = {PRESENT: self._usable(indexed)}
        numbers = {PRESENT: self._grid.queries}
        if others and self._grid.absent:
            numbers[MUSIC] = self._grid.n_absent
        require_room(self._journal.work, self._grid, sum(numbers.values()))
        shelf = self._shelf((kind, i) for kind, n in numbers.items() for i in range(n))
        shelf.make()
        with self._pool(sounds, shelf) as pool:
            if MUSIC in numbers:
                sources[MUSIC] = self._absent(pool, others, indexed)
            excerpts = {} if self._stopped else self._excerpts(pool, sources, shelf)
        if self._stopped:
            return None
        prepared = Prepared(sounds, excerpts, checksum(indexed.content))
        prepared.save(self._journal.work)
        n_absent = len({source.track for source in sources.get(MUSIC, ())})
        self._journal.begin(self._about(command, indexed, n_absent, backends))
        return prepared

    def _prepared(self) -> Prepared:
        """Go on with what an earlier run has made ready."""
        prepared = Prepared.load(self._journal.work)
        if self._grid.store is not None:
            indexed = contents(self._grid.store)
            if checksum(indexed.content) != prepared.content:
                raise UsageError(
                    f"{self._grid.store}: has changed since the run began",
                    hint="name another folder with --out",
                )
        return prepared

    def _shelf(self, keys: Iterable[tuple[str, int]]) -> Shelf:
        return Shelf.of(self._journal.work / "excerpts", self._grid, keys)

    def _pool(self, sounds: Sounds, shelf: Shelf) -> _Pool:
        """Start processes; here, where nothing of a store is open, they can be forked."""
        material = Material(self._grid, sounds, shelf, self._stores)
        return Pool(start, (material,), n_workers=self._n_workers)

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
                into = samples_of(self._journal.work, name)
                with suppress(_Interrupted):
                    decoded[name] = Recordings.decoded(
                        folder, into, sample_rate=RATE, observer=self._reading(name)
                    )
        return Sounds(**decoded)

    def _reading(self, name: str) -> Callable[[int, int], None]:
        def observe(done: int, total: int) -> None:
            self._tell(Stage(f"reading {name}", done, total))
            if self._stopped:
                raise _Interrupted

        return observe

    def _try_out(self, sounds: Sounds) -> None:
        """Find what cannot be done before the work begins rather than hours later."""
        for done, distortion in enumerate(self._grid.distortions):
            self._tell(Stage("trying distortions", done, len(self._grid.distortions)))
            distortion.try_out(sounds, sample_rate=RATE)

    def _indexed(self, kept: Sequence[Path]) -> dict[str, dict[str, Any]]:
        """Index for each backend; tell what it took."""
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

    def _absent(self, pool: _Pool, others: Sequence[Path], indexed: Indexed) -> list[Source]:
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
        pool: _Pool,
        sources: Mapping[str, Sequence[Source]],
        shelf: Shelf,
    ) -> dict[tuple[str, int], Excerpt]:
        """Draw every excerpt, and draw those again that are silent."""
        excerpts: dict[tuple[str, int], Excerpt] = {}
        missing = sorted(shelf.slots)
        lost: set[str] = set()
        for attempt in range(_MOST_ATTEMPTS):
            by_file: dict[str, list[Excerpt]] = defaultdict(list)
            left = {
                kind: [source for source in there if source.path not in lost]
                for kind, there in sources.items()
            }
            for kind, number in missing:
                if not left[kind]:
                    raise InputError(
                        f"none of {len(sources[kind])} tracks can be read any more",
                        hint="is the disk still there?",
                    )
                excerpt = draw(left[kind], kind, number, attempt, self._grid)
                by_file[excerpt.source.path].append(excerpt)
            missing = []
            jobs = [Cut(tuple(drawn)) for drawn in by_file.values()]
            for done, (job, result) in enumerate(self._worked(pool, jobs), 1):
                assert isinstance(job, Cut)
                excerpts.update(((e.kind, e.number), e) for e in job.excerpts)
                if isinstance(result, InputError):
                    lost.add(job.excerpts[0].source.path)
                    self._tell(Remark(f"no excerpts are drawn from it: {result}"))
                elif isinstance(result, AfpError):
                    raise result
                again = job.excerpts if isinstance(result, InputError) else result
                assert isinstance(again, tuple | list)
                missing += [(excerpt.kind, excerpt.number) for excerpt in again]
                self._tell(Stage("drawing excerpts", done, len(jobs)))
            if not missing or self._stopped:
                return excerpts
            missing.sort()
        raise InputError(
            f"{len(missing)} excerpts of {len(excerpts)} were silent {_MOST_ATTEMPTS} times",
            hint="is the music digital silence?",
        )

    def _query(self, pool: _Pool, prepared: Prepared) -> int:
        """Make all queries that are not made yet; return how many are left."""
        done = self._journal.done
        unknown_kinds = unknown.kinds(prepared.sounds) if self._grid.absent else ()
        jobs = list(self._asks(prepared.excerpts, unknown_kinds))
        total = len(done) + sum(len(job.queries) * len(job.backends) for job in jobs)
        self._tell(Stage("querying", len(done), total))
        for _, result in self._worked(pool, jobs):
            if isinstance(result, AfpError):
                raise result
            assert isinstance(result, list)
            self._journal.append(row for row in result if isinstance(row, Row))
            self._tell(Stage("querying", len(done), total))
        return total - len(done)

    def _asks(
        self,
        excerpts: Mapping[tuple[str, int], Excerpt],
        unknown_kinds: Iterable[str],
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
                    backends = tuple(
                        b for b in self._grid.backends if (b, *key) not in self._journal.done
                    )
                    waiting[backends].append(number)
                for backends, left in waiting.items():
                    if backends:
                        queries = tuple((number, excerpts.get((kind, number))) for number in left)
                        yield Ask(cell, kind, queries, backends)

    def _worked(self, pool: _Pool, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Work jobs off until an interruption; yield them with their results."""
        waiting = iter(jobs)
        wake = (self._interruption.fileno(),) if self._interruption else ()
        crashes: Counter[int] = Counter()
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

    def _order(self) -> Callable[[Row], tuple[object, ...]]:
        """Return a key that sorts rows as the grid lists them."""
        conditions = [distortion.condition for distortion in self._grid.distortions]
        if _CLEAN.condition not in conditions:
            conditions.append(_CLEAN.condition)
        backends = list(self._grid.backends)

        def key(row: Row) -> tuple[object, ...]:
            return (
                row.kind != PRESENT,
                row.kind != MUSIC,
                row.kind,
                conditions.index(row.condition),
                self._grid.seconds.index(row.seconds),
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
