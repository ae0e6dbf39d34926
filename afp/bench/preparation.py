"""What comes before the first query: recordings, stores, excerpts."""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afp.bench.excerpts import Excerpt, Shelf, Source, draw, long_enough, require_room
from afp.bench.grid import RATE
from afp.bench.indexing import Indexed, build, contents, describe
from afp.bench.prepared import Prepared, checksum, samples_of
from afp.bench.rows import MUSIC, PRESENT
from afp.bench.task import Remark, Stage, Task, Workers
from afp.bench.worker import Cut, Measure
from afp.distort import Recordings, Sounds
from afp.errors import AfpError, InputError
from afp.library import FileOutcome, Planned

_MOST_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Ready:
    """What there is when all is prepared.

    Attributes
    ----------
    prepared : Prepared
    indexed : Indexed
    n_absent : int
        Tracks that are kept out.
    n_silent : int
        Excerpts that were drawn again because they were silent.
    backends : dict
        See `afp.bench.rows.About`.
    """

    prepared: Prepared
    indexed: Indexed
    n_absent: int
    n_silent: int
    backends: dict[str, dict[str, Any]]


def prepare(task: Task) -> Ready | None:
    """Make everything ready for the first query; None when that is interrupted.

    Raises
    ------
    InputError, UsageError, StoreError
        See `afp.bench.run.run`.
    """
    return _Preparation(task).ready()


class _Interrupted(Exception):  # noqa: N818 - no error
    """Leaves work of others that an interruption has made pointless."""


class _Preparation:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._n_silent = 0

    def ready(self) -> Ready | None:
        kept, others = self._split()
        sounds = self._sounds()
        if self._task.stopped:
            return None
        self._try_out(sounds)
        backends = self._indexed([*kept, *self._task.grid.distractors])
        if self._task.stopped:
            return None
        indexed = contents(next(iter(self._task.stores.values())))
        sources = {PRESENT: self._usable(indexed)}
        numbers = {PRESENT: self._task.grid.queries}
        if others and self._task.grid.absent:
            numbers[MUSIC] = len(self._task.grid.distortions) * self._task.grid.n_absent
        require_room(self._task.work, self._task.grid, sum(numbers.values()))
        shelf = self._task.shelf((kind, i) for kind, n in numbers.items() for i in range(n))
        shelf.make()
        with self._task.workers(sounds, shelf) as pool:
            if MUSIC in numbers:
                sources[MUSIC] = self._absent(pool, others, indexed, numbers[MUSIC])
            excerpts = {} if self._task.stopped else self._excerpts(pool, sources, shelf)
        if self._task.stopped:
            return None
        prepared = Prepared(sounds, excerpts, checksum(indexed.content))
        prepared.save(self._task.work)
        return Ready(prepared, indexed, len(others), self._n_silent, backends)

    def _split(self) -> tuple[list[Path], list[Path]]:
        """Choose by chance which files to index and which to keep out."""
        music, share = self._task.grid.music, self._task.grid.absent
        if self._task.grid.store is not None:
            return [], list(music)
        if len(music) < 2:
            raise InputError(
                f"{len(music)} audio file to benchmark with" if music else "no audio files found",
                hint="name a folder with more music: afp bench ~/Music",
            )
        n_out = min(max(round(share * len(music)), 1), len(music) - 1) if share else 0
        order = self._task.grid.generator("split").permutation(len(music))
        chosen = set(order[:n_out].tolist())
        kept = [path for i, path in enumerate(music) if i not in chosen]
        return kept, [path for i, path in enumerate(music) if i in chosen]

    def _sounds(self) -> Sounds:
        """Decode the folders of recordings."""
        decoded = {}
        for name in ("noise", "rooms", "speech"):
            folder = getattr(self._task.grid, name)
            if folder is not None and not self._task.stopped:
                into = samples_of(self._task.work, name)
                with suppress(_Interrupted):
                    decoded[name] = Recordings.decoded(
                        folder, into, sample_rate=RATE, observer=self._reading(name)
                    )
        return Sounds(**decoded)

    def _reading(self, name: str) -> Callable[[int, int], None]:
        def observe(done: int, total: int) -> None:
            self._task.tell(Stage(f"reading {name}", done, total))
            if self._task.stopped:
                raise _Interrupted

        return observe

    def _try_out(self, sounds: Sounds) -> None:
        """Find what cannot be done before the work begins rather than hours later."""
        for done, distortion in enumerate(self._task.grid.distortions):
            self._task.tell(Stage("trying distortions", done, len(self._task.grid.distortions)))
            distortion.try_out(sounds, sample_rate=RATE)

    def _indexed(self, kept: Sequence[Path]) -> dict[str, dict[str, Any]]:
        """Index for each backend; tell what it took."""
        if self._task.grid.store is not None:
            return {
                name: describe(self._task.grid.store, name) for name in self._task.grid.backends
            }
        costs = {}
        for name, parameters in self._task.grid.indexed.items():
            if not self._task.stopped:
                costs[name] = build(
                    self._task.stores[name],
                    kept,
                    name,
                    parameters,
                    n_workers=self._task.n_workers,
                    observer=self._index_observer(name),
                    interruption=self._task.interruption,
                )
        if self._task.stopped:
            return {}
        return {
            name: describe(self._task.stores[name], name, costs)
            for name in self._task.grid.backends
        }

    def _index_observer(self, backend: str) -> Callable[[Planned | FileOutcome], None]:
        done = total = 0

        def observe(event: Planned | FileOutcome) -> None:
            nonlocal done, total
            if isinstance(event, Planned):
                total = event.n_files
            else:
                done += 1
                if event.error:
                    self._task.tell(Remark(f"not indexed: {event.file.path}: {event.error}"))
            self._task.tell(Stage(f"indexing for {backend}", done, total))

        return observe

    def _usable(self, indexed: Indexed) -> list[Source]:
        """Keep what excerpts can be drawn from."""
        others = set(map(os.fspath, self._task.grid.distractors))
        asked = [source for source in indexed.sources if source.path not in others]
        there = [source for source in asked if os.path.exists(source.path)]  # noqa: PTH110
        if len(there) < len(asked):
            n = len(asked) - len(there)
            self._task.tell(Remark(f"{n} of {len(asked)} indexed files are gone"))
        return self._long_enough(there, "indexed")

    def _long_enough(self, sources: Sequence[Source], which: str) -> list[Source]:
        long = long_enough(sources, self._task.grid)
        needed = f"{self._task.grid.reach_seconds:.1f} s"
        if not long:
            raise InputError(
                f"none of {len(sources)} {which} tracks is longer than {needed}",
                hint="shorter queries: --seconds 1,2,3; or more music",
            )
        if len(long) < len(sources):
            short = len(sources) - len(long)
            self._task.tell(
                Remark(f"{short} of {len(sources)} {which} tracks give no query: under {needed}")
            )
        return long

    def _absent(
        self, pool: Workers, others: Sequence[Path], indexed: Indexed, n_excerpts: int
    ) -> list[Source]:
        """Find tracks for excerpts among those that were kept out, no more than excerpts.

        What is in the store under another name is none.
        """
        order = self._task.grid.generator("absent").permutation(len(others)).tolist()
        found: list[Source] = []
        done = 0
        while len(long_enough(found, self._task.grid)) < n_excerpts and done < len(order):
            jobs = [Measure(str(others[i])) for i in order[done : done + n_excerpts]]
            for _, result in self._task.worked(pool, jobs):
                done += 1
                self._task.tell(Stage("reading absent tracks", done, len(order)))
                if isinstance(result, Source) and result.track not in indexed.content:
                    found.append(result)
            if self._task.stopped:
                return []
        if not found:
            raise InputError(
                "every track that could be kept out is in the store too",
                hint="more music, or --absent 0",
            )
        found.sort(key=lambda source: source.path)  # they come in the order in which they are done
        return long_enough(found, self._task.grid) or self._long_enough(found, "absent")

    def _excerpts(
        self,
        pool: Workers,
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
                excerpt = draw(left[kind], kind, number, attempt, self._task.grid)
                by_file[excerpt.source.path].append(excerpt)
            missing = []
            jobs = [Cut(tuple(drawn)) for drawn in by_file.values()]
            for done, (job, result) in enumerate(self._task.worked(pool, jobs), 1):
                assert isinstance(job, Cut)
                excerpts.update(((e.kind, e.number), e) for e in job.excerpts)
                if isinstance(result, InputError):
                    lost.add(job.excerpts[0].source.path)
                    self._task.tell(Remark(f"no excerpts are drawn from it: {result}"))
                elif isinstance(result, AfpError):
                    raise result
                again = job.excerpts if isinstance(result, InputError) else result
                assert isinstance(again, tuple | list)
                self._n_silent += len(again) if again is result else 0
                missing += [(excerpt.kind, excerpt.number) for excerpt in again]
                self._task.tell(Stage("drawing excerpts", done, len(jobs)))
            if not missing or self._task.stopped:
                return excerpts
            missing.sort()
        raise InputError(
            f"{len(missing)} excerpts of {len(excerpts)} were silent {_MOST_ATTEMPTS} times",
            hint="is the music digital silence?",
        )
