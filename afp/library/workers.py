"""Worker processes: a crash in one costs the job it was at, nothing else."""

import ctypes
import multiprocessing
import os
import signal
import sys
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


@dataclass(frozen=True, slots=True)
class Crash:
    """What came of a job whose worker died.

    Attributes
    ----------
    exit_code : int
        Of the process; ``-n`` for death by signal n.
    """

    exit_code: int

    def __str__(self) -> str:
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
        return -self.exit_code in _FAULTS


class Pool(Generic[Job, Result]):
    """A few processes that each take jobs from a pipe and send results back.

    On Linux the first workers are forked, so what the parent has imported costs them nothing:
    make the pool before anything is opened that must not cross a fork. A worker that takes the
    place of a dead one is a fresh interpreter.

    Parameters
    ----------
    make_work : callable
        Called once in each worker; returns the function from a job to its result.
    arguments : tuple
        For ``make_work``.
    n_workers : int
        How many processes.
    """

    def __init__(
        self,
        make_work: Callable[..., Callable[[Job], Result]],
        arguments: tuple[Any, ...] = (),
        *,
        n_workers: int,
    ) -> None:
        self._make_work = make_work
        self._arguments = arguments
        self._workers: list[_Worker[Job]] = []
        self._n_idle_deaths = 0
        method = "fork" if sys.platform == "linux" else "spawn"
        for _ in range(n_workers):
            self._workers.append(self._start(method))

    def _start(self, method: str) -> "_Worker[Job]":
        context: Any = multiprocessing.get_context(method)
        here, there = context.Pipe()
        n_begun = context.RawValue("L", 0)
        forked = method == "fork"
        # A forked worker inherits the parent's ends of all pipes; left open there, they would
        # keep its siblings waiting for a parent that is gone.
        inherited = [here, *(worker.connection for worker in self._workers)] if forked else []
        process = context.Process(
            target=_serve,
            args=(there, inherited, n_begun, self._make_work, self._arguments),
            daemon=True,
        )
        process.start()
        there.close()
        return _Worker(process, here, n_begun)

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
        """Wait until something is finished, at most so long, and return all that is.

        Parameters
        ----------
        timeout_seconds : float, optional
            None waits for ever.
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
        for ready in wait([*(w.connection for w in busy.values()), *wake], timeout_seconds):
            worker = busy.get(ready)
            if worker is not None:
                finished += self._receive(worker)
        return finished

    def _receive(self, worker: "_Worker[Job]") -> list[tuple[Job, Result | Crash]]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if message is _READY:
            worker.ready = True
            return []
        self._n_idle_deaths = 0
        worker.n_finished += 1
        return [(worker.jobs.popleft(), message)]

    def _bury(self, worker: "_Worker[Job]") -> list[tuple[Job, Result | Crash]]:
        worker.process.join()
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
            finished.append((worker.jobs.popleft(), Crash(exit_code)))
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
            if worker.jobs:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()


_READY = None


class _Worker(Generic[Job]):
    def __init__(self, process: Any, connection: Connection, n_begun: Any) -> None:
        self.process = process
        self.connection = connection
        self.jobs: deque[Job] = deque()
        self.ready = False
        self.n_finished = 0
        self._n_begun = n_begun

    @property
    def is_at_work(self) -> bool:
        return bool(self._n_begun.value > self.n_finished)

    def give(self, job: Job) -> None:
        self.jobs.append(job)
        # A worker that has died is found out when its result is collected.
        with suppress(BrokenPipeError):
            self.connection.send(job)


def _serve(
    connection: Connection,
    inherited: list[Connection],
    n_begun: Any,
    make_work: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
) -> None:
    # The parent decides what a Ctrl-C means; it stops its workers itself.
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
    work = make_work(*arguments)
    connection.send(_READY)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = connection.recv()
            n_begun.value += 1
            connection.send(work(job))


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
