"""The frozen values that travel through afp: Track, Evidence, Fingerprint, Match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Track:
    """One piece of reference audio in the catalogue.

    Attributes
    ----------
    id : int
        Never reused, not even after removal.
    content_id : str
        Hash of the decoded audio (hex): a rename or a new tag leaves it as it is.
    path : str
        Where the file was seen last (undecodable bytes as surrogate escapes).
    duration_seconds : float
        Length of the decoded audio.
    title, artist, album : str or None
        From the file's tags.
    size : int
        Of the file, in bytes.
    mtime_ns : int
        Modification time of the file, in nanoseconds.
    partial : str or None
        Why only the first part of the file could be decoded; None for a whole one.
    backends : tuple of str
        The backends whose fingerprints the store holds for this track, by name.
    """

    id: int
    content_id: str
    path: str
    duration_seconds: float
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    size: int = 0
    mtime_ns: int = 0
    partial: str | None = None
    backends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The part of a fingerprint that verification compares, kept by the store.

    For a constellation: the frame and frequency bin of each peak; for sub-fingerprints:
    each frame's 32 bits.

    Attributes
    ----------
    frames : ndarray of uint32, shape (m,)
        Non-decreasing, in hops.
    values : ndarray of uint32, shape (m,)
        What was seen at each frame.
    """

    frames: U32
    values: U32


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What a backend extracts from samples.

    Attributes
    ----------
    n_frames : int
        Length of the audio, in hops.
    frames : ndarray of uint32, shape (n,)
        Frame of each posting, non-decreasing, in hops.
    hashes : ndarray of uint32, shape (n,), or None
        Hash of each posting (hash backends); the cell of each embedding.
    vectors : ndarray of float32, shape (n, d), or None
        Embedding at each frame (embedding backends).
    evidence : Evidence or None
        What verification needs; None where the postings themselves are all there is.
    dense : mapping of str to ndarray
        Arrays of the query side that only the backend's own ``match`` reads; never stored.
    """

    n_frames: int
    frames: U32
    hashes: U32 | None = None
    vectors: F32 | None = None
    evidence: Evidence | None = None
    dense: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frames)

    def cut(self, start: int, stop: int) -> "Fingerprint":
        """Keep what lies in frames ``start <= frame < stop`` and count frames from ``start``."""
        a, b = np.searchsorted(self.frames, (start, stop))
        evidence = self.evidence
        if evidence is not None:
            c, d = np.searchsorted(evidence.frames, (start, stop))
            evidence = Evidence(evidence.frames[c:d] - np.uint32(start), evidence.values[c:d])
        return replace(
            self,
            n_frames=max(min(stop, self.n_frames) - start, 0),
            frames=self.frames[a:b] - np.uint32(start),
            hashes=None if self.hashes is None else self.hashes[a:b],
            vectors=None if self.vectors is None else self.vectors[a:b],
            evidence=evidence,
        )


def concatenate(parts: Sequence[Fingerprint]) -> Fingerprint:
    """Join fingerprints of adjacent stretches of audio into one; each follows the one before."""
    starts = np.cumsum([0] + [part.n_frames for part in parts]).astype(np.uint32)

    def joined(arrays: Sequence[npt.NDArray[np.generic] | None]) -> npt.NDArray[np.generic] | None:
        present = [array for array in arrays if array is not None]
        return np.concatenate(present) if present else None

    evidences = [(part.evidence, start) for part, start in zip(parts, starts, strict=False)]
    kept = [(evidence, start) for evidence, start in evidences if evidence is not None]
    return Fingerprint(
        n_frames=int(starts[-1]),
        frames=np.concatenate([p.frames + s for p, s in zip(parts, starts, strict=False)]),
        hashes=joined([part.hashes for part in parts]),  # type: ignore[arg-type]
        vectors=joined([part.vectors for part in parts]),  # type: ignore[arg-type]
        evidence=Evidence(
            np.concatenate([evidence.frames + start for evidence, start in kept]),
            np.concatenate([evidence.values for evidence, _ in kept]),
        )
        if kept
        else None,
    )


@dataclass(frozen=True, slots=True)
class Match:
    """A stretch of a query that was found in a track.

    Attributes
    ----------
    track : Track
        The track.
    query_start, query_end : float
        The stretch of the query, in seconds.
    track_start, track_end : float
        The same stretch in the track, in seconds.
    score : float
        The backend's own measure of agreement; larger is better.
    p_false : float
        Probability that a query with no true match in this store would score this high.
    speed : float
        Time factor: 1.02 when the query plays 2 % faster than the track.
    pitch : float
        Frequency factor: 1.02 when the query sounds 2 % higher than the track.
    backend : str
        Name of the backend that found it.
    details : mapping of str to float
        What else the backend tells, such as ``ber``, the bit error rate.
    """

    track: Track
    query_start: float
    query_end: float
    track_start: float
    track_end: float
    score: float
    p_false: float
    speed: float = 1.0
    pitch: float = 1.0
    backend: str = ""
    details: Mapping[str, float] = field(default_factory=dict, hash=False)
