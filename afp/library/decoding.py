"""Decoding in another process, so that a decoder that crashes or hangs costs one file."""

import os
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Protocol, Self

from afp.audio import Decoder, decode
from afp.audio.source import Source, name_of
from afp.errors import InputError
from afp.fingerprint import F32
from afp.library.workers import MOST_BYTES, PATIENCE_SECONDS, QUEUE_DEPTH, Crash, Pool


class Decoded(Protocol):
    """Audio that is being decoded; `afp.audio.Decoder` is one."""

    sample_rate: int
    partial: str | None

    @property
    def duration_seconds(self) -> float:
        """Length of what was decoded so far."""

    def __iter__(self) -> Iterator[F32]:
        """Iterate once over mono blocks."""


class Decode(Protocol):
    """What opens audio for decoding; `afp.audio.decode` is one."""

    def __call__(self, source: Source, /) -> AbstractContextManager[Decoded]:
        """Open ``source``; see `afp.audio.decode`."""


class DecodingProcess:
    """A process that decodes for this one.

    To be started before a store is opened: nothing of LMDB may cross a fork. It decodes one
    source at a time, two blocks ahead of who asks for them.
    """

    def __init__(self) -> None:
        self._pool: Pool[str | None, _Reply] = Pool(
            _Decoding, n_workers=1, patience_seconds=PATIENCE_SECONDS, most_bytes=MOST_BYTES
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.close()

    @contextmanager
    def decode(self, source: Source) -> Iterator[Decoded]:
        """Open audio for decoding, as `afp.audio.decode` does.

        Raises
        ------
        InputError
            When the source cannot be decoded, or the decoder crashes or hangs; also while the
            blocks are read.
        """
        while self._pool.n_pending:  # of a source that was not read to its end
            self._pool.collect()
        name = name_of(source)
        if isinstance(source, str | os.PathLike):
            yield _Remote(self._pool, name, os.fspath(source))
            return
        with NamedTemporaryFile(prefix="afp-") as file:
            try:
                shutil.copyfileobj(source, file)
                file.flush()
            except OSError as error:
                raise InputError(f"{name}: {error.strerror}") from error
            yield _Remote(self._pool, name, file.name)


class _Remote:
    """What a process decodes."""

    def __init__(self, pool: "Pool[str | None, _Reply]", name: str, path: str) -> None:
        self.partial: str | None = None
        self.duration_seconds = 0.0
        self._pool, self._name = pool, name
        self._replies: deque[_Reply | Crash] = deque()
        pool.submit(path)
        begun = self._reply()
        assert isinstance(begun, int)
        self.sample_rate = begun

    def __iter__(self) -> Iterator[F32]:
        while True:
            while self._pool.n_pending + len(self._replies) < QUEUE_DEPTH:
                self._pool.submit(_NEXT)
            reply = self._reply()
            if isinstance(reply, _End):
                self.duration_seconds, self.partial = reply.duration_seconds, reply.partial
                return
            assert not isinstance(reply, int)
            yield reply

    def _reply(self) -> "int | F32 | _End":
        while not self._replies:
            self._replies += (reply for _, reply in self._pool.collect())
        reply = self._replies.popleft()
        if isinstance(reply, Crash):
            raise InputError(f"{self._name}: {reply}")
        if isinstance(reply, _Failed):
            raise InputError(f"{self._name}: {reply.reason}")
        return reply


# What the process is asked, beside paths, and what it answers: a sample rate, blocks, their end.
_NEXT = None


@dataclass(frozen=True, slots=True)
class _End:
    duration_seconds: float
    partial: str | None


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


_Reply = int | F32 | _End | _Failed


class _Decoding:
    """What the process does: a path opens a file, and each `_NEXT` gets its next block."""

    def __init__(self) -> None:
        self._path = ""
        self._decoder: Decoder | None = None
        self._blocks: Iterator[F32] = iter(())

    def __call__(self, path: str | None) -> _Reply:
        try:
            return self._next() if path is _NEXT else self._begin(path)
        except InputError as error:
            return _Failed(str(error).removeprefix(f"{self._path}: "))
        except MemoryError:
            return _Failed("takes more memory than there is for it")
        except Exception as error:  # a fault of ours, of which nobody would hear
            return _Failed(f"{type(error).__name__}: {error}")

    def _begin(self, path: str) -> int:
        self._close()
        self._path = path
        self._decoder = decode(path)
        self._blocks = iter(self._decoder)
        return self._decoder.sample_rate

    def _next(self) -> F32 | _End | _Failed:
        if self._decoder is None:
            return _Failed("the process that decoded it has ended")
        block = next(self._blocks, None)
        if block is not None:
            return block
        end = _End(self._decoder.duration_seconds, self._decoder.partial)
        self._close()
        return end

    def _close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
