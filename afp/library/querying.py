"""Identify a clip, or everything that a long recording holds."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from afp.audio import Resampler, decode
from afp.backends import Backend
from afp.errors import InputError
from afp.fingerprint import F32, Match
from afp.index import IndexReader
from afp.library.choice import searched
from afp.library.decoding import Decode, Decoded
from afp.library.fusion import Fusion
from afp.library.streaming import windows
from afp.matching.timeline import (
    TOLERANCE_SECONDS,
    best_of_each_track,
    claim,
    corrected,
    merge,
    shifted,
)
from afp.store import Store

DEFAULT_MAX_P = 1e-3
"""Threshold for `p_false`: one false answer in a thousand recordings that are not in the store."""

SUPPORTING_MAX_P = 0.1
"""A window this weak still lengthens a stretch that a stronger window has found."""

CANDIDATES = 4
"""Matches of each window that may take part in the timeline, at least."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What was found in one recording.

    Attributes
    ----------
    query : str
        Its path, or ``-``.
    seconds : float or None
        Its length; None when it could not be read.
    backend : str
        Name of the backend that looked.
    error : str or None
        Why it could not be read.
    matches : list of Match
        The best first; in order of time for a timeline.
    partial : str or None
        Why only the first part of it could be decoded.
    is_heard : bool
        Whether it held anything to look up: it is not too short for the backend, nor silent.
    """

    query: str
    seconds: float | None
    backend: str
    error: str | None = None
    matches: list[Match] = field(default_factory=list)
    partial: str | None = None
    is_heard: bool = False


class Searcher:
    """Queries on a store as it is at each; what one query has loaded serves the next.

    Parameters
    ----------
    store : Store
        Stays open for as long as the searcher is used; closing it is the caller's business.
    backend : str, optional
        Which of the store's backends to use, or ``fused`` for all that verify one another; see
        `afp.library.choice.searched`.
    decode : callable
        What decodes; that of a `DecodingProcess` survives whatever it meets.

    Attributes
    ----------
    backend : Backend or Fusion
        What looks.
    indexes : dict of str to IndexReader
        What it looks in, by the name of the backend, or of each that is fused.

    Raises
    ------
    UsageError
        When the store has no such backend, or too few to fuse.
    StoreError
        When the store was built by another version of the backend.

    Examples
    --------
    >>> with Searcher.open("music.afp") as searcher:  # doctest: +SKIP
    ...     for match in searcher.query("clip.wav").matches:
    ...         print(match.track.path, match.track_start, match.p_false)
    """

    def __init__(
        self, store: Store, backend: str | None = None, *, decode: Decode = decode
    ) -> None:
        self._decode = decode
        self.backend = searched(store, backend)
        self._closing = ExitStack()
        self._store = store
        self._snapshot = store.snapshot()
        self.indexes = self._opened()

    @classmethod
    def open(cls, path: str | Path, backend: str | None = None, *, decode: Decode = decode) -> Self:
        """Open the store at ``path`` and search it; closing the searcher closes the store."""
        with ExitStack() as opening:
            store = opening.enter_context(Store.open(Path(path)))
            searcher = cls(store, backend, decode=decode)
            searcher._closing.push(opening.pop_all())
        return searcher

    @property
    def n_tracks(self) -> int:
        """Number of tracks in the store."""
        return len(self._snapshot)

    @property
    def parts(self) -> tuple[Backend, ...]:
        """The backend, or all that are fused."""
        return self.backend.parts if isinstance(self.backend, Fusion) else (self.backend,)

    def close(self) -> None:
        """Let go of the snapshot."""
        self._snapshot.close()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def query(
        self,
        source: str | Path | BinaryIO,
        *,
        limit: int = 1,
        max_p: float = DEFAULT_MAX_P,
        timeline: bool = False,
    ) -> QueryResult:
        """Look a recording of any length up.

        It is read in windows of the backend's length that overlap by half; what they find is
        merged (`afp.matching.timeline.merge`). Each window is one more chance to be wrong, so
        `p_false` of the result is that of the best window times the number of windows that
        held anything to look up.

        Parameters
        ----------
        source : path or binary stream
            A stream is read to its end.
        limit : int
            How many tracks to return at most; in a timeline, for each stretch.
        max_p : float
            Largest `p_false` of a match that counts.
        timeline : bool
            Return every match in order of time rather than the best ones.

        Returns
        -------
        QueryResult
            With `error` set when the source could not be read.
        """
        self._refresh()
        name = "-" if not isinstance(source, str | Path) else str(source)
        found: list[Match] = []
        n_windows = 0
        try:
            with self._decode(Path(source) if isinstance(source, str) else source) as decoder:
                for start_seconds, samples in self._windows(decoder):
                    candidates = self._candidates(samples, limit=max(limit, CANDIDATES))
                    if candidates is None:
                        continue
                    n_windows += 1
                    found += [
                        replace(shifted(match, start_seconds), backend=self.backend.name)
                        for match in candidates
                        if match.p_false <= max(max_p, SUPPORTING_MAX_P)
                    ]
        except InputError as error:
            return QueryResult(name, None, self.backend.name, error=str(error))
        stretches = [
            corrected(stretch, n_windows)
            for stretch in merge(
                found,
                gap_seconds=0.5 * self.backend.window_seconds,
                tolerance_seconds=max(
                    TOLERANCE_SECONDS, 0.5 * max(part.hop_seconds for part in self.parts)
                ),
            )
        ]
        counted = [stretch for stretch in stretches if stretch.p_false <= max_p]
        return QueryResult(
            name,
            decoder.duration_seconds,
            self.backend.name,
            matches=claim(counted, limit=limit)
            if timeline
            else best_of_each_track(counted)[:limit],
            partial=decoder.partial,
            is_heard=n_windows > 0,
        )

    def _refresh(self) -> None:
        """Take another snapshot when the store has changed; else keep what is loaded."""
        snapshot = self._store.snapshot()
        if snapshot.sections is self._snapshot.sections:
            snapshot.close()
            return
        self._snapshot.close()
        self._snapshot = snapshot
        self.indexes = self._opened()

    def _opened(self) -> dict[str, IndexReader]:
        return {part.name: self._snapshot.index(part.name) for part in self.parts}

    def _candidates(self, samples: F32, *, limit: int) -> list[Match] | None:
        """Look a window up; return None where it holds nothing to look up."""
        if isinstance(self.backend, Fusion):
            return self.backend.match(samples, self.indexes, limit=limit)
        query = self.backend.extract(samples, dense=True)
        if not len(query):
            return None
        return self.backend.match(query, self.indexes[self.backend.name], limit=limit)

    def _windows(self, decoder: Decoded) -> Iterator[tuple[float, F32]]:
        rate = self.backend.sample_rate
        window = int(self.backend.window_seconds * rate)
        blocks = _resampled(decoder, Resampler(decoder.sample_rate, rate))
        for start, samples in windows(blocks, window=window, step=window // 2):
            yield start / rate, samples


def _resampled(decoder: Decoded, resampler: Resampler) -> Iterator[F32]:
    for block in decoder:
        yield resampler.process(block)
    yield resampler.process(np.empty(0, np.float32), last=True)
