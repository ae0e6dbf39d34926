"""Worker processes: a crash in one costs the job it was at, nothing else."""

import ctypes
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from afp.errors import AfpError

Job = TypeVar("Job")
Result = TypeVar("Result")

_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)

_PR_SET_PDEATHSIG = 1  # have the system end a process with the one that started it

_MAX_IDLE_DEATHS = 16
"""Workers in a row that may die idle before the pool gives up."""

QUEUE_DEPTH = 2
"""Jobs that a worker holds, so that it never waits for the parent between two."""

PATIENCE_SECONDS = 300.0
"""How long decoding may make no progress before it counts as hung."""

_LOOK_SECONDS = 5.0  # from one look at the progress of the jobs to the next, at most

MOST_BYTES = 4 << 30
"""Memory that a decoding worker may hold: ten times what all our backends take together."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What came of a job whose worker died.

    Attributes
    ----------
    exit_code : int
        Of the process; ``-n`` for death by signal n.
    hung_seconds : float or None
        For how long it had told of no progress when it was killed for that.
    """

    exit_code: int
    hung_seconds: float | None = None

    def __str__(self) -> str:
        if self.hung_seconds is not None:
            return f"decoder hangs (nothing came of it for {self.hung_seconds:.0f} s)"
        if self.exit_code >= 0:
            return f"worker exited (status {self.exit_code})"
        if -self.exit_code == signal.SIGKILL:
            return "worker was killed (signal 9, perhaps out of memory)"
        if -self.exit_code not in _FAULTS:
            return f"worker was killed (signal {-self.exit_code})"
        return f"decoder crashed (signal {-self.exit_code})"

    @property
    def is_a_fault(self) -> bool:
        """Whether the job itself is to blame, rather than who ended the process."""
        return -self.exit_code in _FAULTS or self.hung_seconds is not None


class Pool(Generic[Job, Result]):
    """A few processes that each take jobs from a pipe and send results back.

    On Linux the first workers are forked, so what the parent has imported costs them nothing:
    make the pool before anything is opened that must not cross a fork. A worker that takes the
    place of a dead one is a fresh interpreter. Each leads a process group: a Ctrl-C at the
    terminal is the parent's alone, and what a worker has started ends with it.

    Parameters
    ----------
    make_work : callable
        Called once in each worker; returns the function from a job to its result.
    arguments : tuple
        For ``make_work``.
    n_workers : int
        How many processes.
    patience_seconds : float
        How long a job may go without `tell_progress` before its worker is killed. Time that the
        parent did not run for either, as when all are suspended, does not count.
    most_bytes : int, optional
        Memory that each worker may hold; what asks for more gets a MemoryError.
    """

    def __init__(
        self,
        make_work: Callable[..., Callable[[Job], Result]],
        arguments: tuple[Any, ...] = (),
        *,
        n_workers: int,
        patience_seconds: float = math.inf,
        most_bytes: int | None = None,
    ) -> None:
        self._make_work = make_work
        self._arguments = arguments
        self._patience_seconds = patience_seconds
        self._look_seconds = min(_LOOK_SECONDS, patience_seconds / 4)
        self._looked = time.monotonic()
        self._most_bytes = most_bytes
        self._workers: list[_Worker[Job]] = []
        self._n_idle_deaths = 0
        method = "fork" if sys.platform == "linux" else "spawn"
        for _ in range(n_workers):
            self._workers.append(self._start(method))

    def _start(self, method: str) -> "_Worker[Job]":
        context: Any = multiprocessing.get_context(method)
        here, there = context.Pipe()
        steps = context.RawArray("L", 2)
        forked = method == "fork"
        # A forked worker inherits the parent's ends of all pipes; left open there, they would
        # keep its siblings waiting for a parent that is gone.
        inherited = [here, *(worker.connection for worker in self._workers)] if forked else []
        process = context.Process(
            target=_serve,
            args=(there, inherited, steps, self._most_bytes, self._make_work, self._arguments),
            daemon=True,
        )
        process.start()
        there.close()
        return _Worker(process, here, steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def has_room(self) -> bool:
        """Whether some worker would take another job at once."""
        return any(len(worker.jobs) < QUEUE_DEPTH for worker in self._workers)

    @property
    def n_pending(self) -> int:
        """Number of jobs submitted and not yet returned by `collect`."""
        return sum(len(worker.jobs) for worker in self._workers)

    def submit(self, job: Job) -> None:
        """Hand a job to the worker with the fewest."""
        min(self._workers, key=lambda worker: len(worker.jobs)).give(job)

    def collect(
        self, *, timeout_seconds: float | None = None, wake: Iterable[int] = ()
    ) -> list[tuple[Job, Result | Crash]]:
        """Wait a little for something to be finished, and return all that is.

        Parameters
        ----------
        timeout_seconds : float, optional
            How long at most; it may be less.
        wake : iterable of int
            File descriptors that end the wait when they become readable.

        Raises
        ------
        AfpError
            When a worker dies before it could start to work, or too many die idle.
        """
        busy: dict[object, _Worker[Job]] = {
            worker.connection: worker for worker in self._workers if worker.jobs
        }
        finished: list[tuple[Job, Result | Crash]] = []
        longest = self._look_seconds
        seconds = longest if timeout_seconds is None else min(timeout_seconds, longest)
        for ready in wait([*(w.connection for w in busy.values()), *wake], seconds):
            worker = busy.pop(ready, None)
            if worker is not None:
                finished += self._receive(worker)
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, self._look_seconds), now
        for worker in busy.values():
            if worker.quiet_seconds(passed) > self._patience_seconds:
                finished += self._bury(worker, hung_seconds=self._patience_seconds)
        return finished

    def _receive(self, worker: "_Worker[Job]") -> list[tuple[Job, Result | Crash]]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if not worker.ready:  # that is what the first message says
            worker.ready = True
            return []
        self._n_idle_deaths = 0
        worker.n_finished += 1
        return [(worker.jobs.popleft(), message)]

    def _bury(
        self, worker: "_Worker[Job]", hung_seconds: float | None = None
    ) -> list[tuple[Job, Result | Crash]]:
        if hung_seconds is None:
            worker.process.join()
        worker.kill()
        worker.connection.close()
        self._workers.remove(worker)
        exit_code = worker.process.exitcode or 0
        if not worker.ready:
            raise AfpError(
                f"a worker process could not start (exit status {exit_code})",
                hint="a program that calls afp.library.index needs `if __name__ == '__main__':`",
            )
        finished: list[tuple[Job, Result | Crash]] = []
        if worker.is_at_work:
            finished.append((worker.jobs.popleft(), Crash(exit_code, hung_seconds)))
        else:
            self._n_idle_deaths += 1
            if self._n_idle_deaths > _MAX_IDLE_DEATHS:
                raise AfpError(
                    f"worker processes keep dying: {Crash(exit_code)}",
                    hint="when memory runs out, fewer of them help: n_workers (-j)",
                )
        self._workers.append(self._start("spawn"))
        for job in worker.jobs:
            self.submit(job)
        return finished

    def close(self) -> None:
        """Let idle workers go; those that are still at a job are stopped."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            if worker.jobs:
                worker.kill()
            worker.process.join()
        self._workers.clear()


class _Worker(Generic[Job]):
    def __init__(self, process: Any, connection: Connection, steps: Any) -> None:
        self.process = process
        self.connection = connection
        self.jobs: deque[Job] = deque()
        self.ready = False
        self.n_finished = 0
        self._steps = steps
        self._n_seen = 0
        self._quiet_seconds = 0.0

    @property
    def is_at_work(self) -> bool:
        return bool(self._steps[_BEGUN] > self.n_finished)

    def quiet_seconds(self, passed: float) -> float:
        """Return how long it has been at one job without progress, ``passed`` seconds later."""
        n_now = sum(self._steps)
        is_quiet = self.is_at_work and n_now == self._n_seen
        self._quiet_seconds = self._quiet_seconds + passed if is_quiet else 0.0
        self._n_seen = n_now
        return self._quiet_seconds

    def kill(self) -> None:
        """End it, if it has not ended, and what it has started."""
        with suppress(ProcessLookupError, PermissionError):  # it leads no group yet, or it is empty
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def give(self, job: Job) -> None:
        self.jobs.append(job)
        # A worker that has died is found out when its result is collected.
        with suppress(BrokenPipeError):
            self.connection.send(job)


# What a worker counts, for the parent to see.
_BEGUN, _PROGRESS = range(2)
_steps: Any = None


def tell_progress() -> None:
    """Tell, within a job, that it gets on; elsewhere nothing."""
    if _steps is not None:
        _steps[_PROGRESS] += 1


def _serve(
    connection: Connection,
    inherited: list[Connection],
    steps: Any,
    most_bytes: int | None,
    make_work: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
) -> None:
    global _steps  # noqa: PLW0603 - jobs know nothing of the pool
    _steps = steps
    # The parent decides what a Ctrl-C means; it stops its workers itself.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":  # elsewhere it ends with the job that it is at
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for other in inherited:
        other.close()
    # Decoders written in C print what they like.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    if most_bytes is not None:
        _limit_memory(most_bytes)
    work = make_work(*arguments)
    connection.send(None)  # ready
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = connection.recv()
            steps[_BEGUN] += 1
            connection.send(work(job))


def _limit_memory(n_bytes: int) -> None:
    """Limit what this process, and each that it starts, may hold beyond its code and its files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [n_bytes, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
