"""Sizes and counts of a store."""

from dataclasses import dataclass

from afp.store import records
from afp.store.manifest import read_manifest
from afp.store.records import BackendRecord
from afp.store.snapshot import Snapshot, dead_tracks, read_tails

PROJECTED_TRACKS = 100_000


@dataclass(frozen=True, slots=True)
class IndexStats:
    """Sizes and counts of one backend's index.

    Attributes
    ----------
    backend : BackendRecord
        The backend.
    tracks : int
        Live tracks.
    seconds : float
        Their audio.
    postings : int
        Those of removed tracks that are not purged yet included.
    segments, tails, tombstones : int
        Parts of the index, and removed tracks in it.
    bytes : dict of str to int
        By part: segments and tails without the fingerprints in them; fingerprints.
    selectivity : float
        Sum over hashes of p², p being a hash's share of the postings: the share of all postings
        that a random query hash touches. The mean over segments, weighted by their postings.
    """

    backend: BackendRecord
    tracks: int
    seconds: float
    postings: int
    segments: int
    tails: int
    tombstones: int
    bytes: dict[str, int]
    selectivity: float

    @property
    def n_bytes(self) -> int:
        """All parts together."""
        return sum(self.bytes.values())

    @property
    def bytes_per_second(self) -> float:
        """Bytes a second of audio."""
        return self.n_bytes / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_posting(self) -> float:
        """Bytes of segments and tails a posting."""
        parts = self.bytes["segments"] + self.bytes["tails"]
        return parts / self.postings if self.postings else 0.0

    @property
    def projected_bytes(self) -> int:
        """What `PROJECTED_TRACKS` tracks like these would take."""
        return round(self.n_bytes / self.tracks * PROJECTED_TRACKS) if self.tracks else 0


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Sizes and counts of a store.

    Attributes
    ----------
    tracks, paths, failures : int
        Entries of the catalogue.
    seconds : float
        Audio of all tracks.
    file_bytes : int
        Of all files of the store.
    free_bytes : int
        Of pages in them that are not in use; `Store.compact` gives them back.
    catalogue_bytes : int
        Of pages that hold tracks, contents, paths and the rest that belongs to no one backend.
    indexes : dict of str to IndexStats
        By backend.
    """

    tracks: int
    paths: int
    failures: int
    seconds: float
    file_bytes: int
    free_bytes: int
    catalogue_bytes: int
    indexes: dict[str, IndexStats]

    @property
    def bytes_per_second(self) -> float:
        """Bytes of the files a second of audio, everything included."""
        return self.file_bytes / self.seconds if self.seconds else 0.0


def stats(snapshot: Snapshot, file_bytes: int) -> StoreStats:
    """Count what a snapshot holds."""
    catalogue = snapshot.catalogue
    indexes = {name: _index_stats(snapshot, backend) for name, backend in snapshot.backends.items()}
    per_backend = sum(index.n_bytes for index in indexes.values())
    free_bytes = snapshot.free_bytes()
    return StoreStats(
        tracks=catalogue.count("tracks"),
        paths=catalogue.count("paths"),
        failures=catalogue.count("failures"),
        seconds=sum(track.duration_seconds for track in snapshot.tracks()),
        file_bytes=file_bytes,
        free_bytes=free_bytes,
        catalogue_bytes=max(file_bytes - per_backend - free_bytes, 0),
        indexes=indexes,
    )


def _index_stats(snapshot: Snapshot, backend: BackendRecord) -> IndexStats:
    catalogue = snapshot.catalogue
    manifest = read_manifest(catalogue, backend.id)
    reader = snapshot.index(backend.name)
    prefix = records.backend_key(backend.id)
    tail_bytes = sum(len(payload) for _, payload in catalogue.items("tails", prefix))
    in_tails = sum(len(tail.fingerprint) for tail in read_tails(catalogue, backend.id))
    packed = sum(segment.n_fingerprint_bytes for segment in manifest.segments)
    in_segments = sum(segment.n_postings for segment in manifest.segments)
    weighted = sum(segment.selectivity * segment.n_postings for segment in manifest.segments)
    return IndexStats(
        backend=backend,
        tracks=reader.n_tracks,
        seconds=reader.n_frames * backend.hop_seconds,
        postings=reader.n_postings,
        segments=len(manifest.segments),
        tails=manifest.n_tails,
        tombstones=len(dead_tracks(catalogue, backend.id)),
        bytes={
            "segments": sum(segment.n_bytes for segment in manifest.segments) - packed,
            "tails": tail_bytes - in_tails,
            "fingerprints": packed + in_tails,
        },
        selectivity=weighted / in_segments if in_segments else 0.0,
    )
