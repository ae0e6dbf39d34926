"""Batches made by worker processes ahead of the net."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from afp.training.views import Batch, Views

_SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Batches:
    """The batches of steps, in order, each made by one of the workers in turn.

    Use as a context manager; on leaving, the workers end.

    Parameters
    ----------
    views : Views
    first : int
        Step to begin with.
    n_workers : int
        Processes; 0 makes the batches in this one.
    """

    def __init__(self, views: Views, *, first: int, n_workers: int) -> None:
        self._views, self._first, self._n_workers = views, first, n_workers
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._connections: list[Connection] = []

    def __enter__(self) -> Self:
        # Not forked: torch and its threads do not survive that.
        context = multiprocessing.get_context("spawn")
        before = {name: os.environ.get(name) for name in _SINGLE_THREADED}
        os.environ.update(_SINGLE_THREADED)
        try:
            for worker in range(self._n_workers):
                receiver, sender = context.Pipe(duplex=False)
                arguments = (self._views, self._first + worker, self._n_workers, sender)
                process = context.Process(target=_make, args=arguments, daemon=True)
                process.start()
                sender.close()
                self._processes.append(process)
                self._connections.append(receiver)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.terminate()
            process.join()

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches for ever."""
        step = self._first
        while True:
            if self._connections:
                made = self._connections[(step - self._first) % self._n_workers].recv()
                if isinstance(made, Exception):
                    raise made
                yield made
            else:
                yield self._views.batch(step)
            step += 1


def _make(views: Views, first: int, every: int, sender: Connection) -> None:
    """Make every so many steps' batch; waits until the one before is taken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the loop decides when to end
    step = first
    try:
        while True:
            try:
                batch = views.batch(step)
            except Exception as error:  # told where somebody reads it
                sender.send(error)
                return
            sender.send(batch)
            step += every
    except (BrokenPipeError, ConnectionResetError):
        return  # the loop has gone
