"""Where tracks from elsewhere go into a store, without touching what it has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from afp.fingerprint import Track
from afp.store import NewTrack, Snapshot, Store, StoredFile, StoredTrack
from afp.store.packing import StoredFingerprint

BATCH_TRACKS = 1024
BATCH_BYTES = 16 << 20  # of postings and of packed fingerprints


@dataclass(slots=True)
class TransferReport:
    """What an import or a merge has done so far.

    Attributes
    ----------
    n_tracks : int
        Tracks that there are to take, as far as that is known.
    added : int
        Tracks that were not in the store.
    extended : int
        Tracks that were, and have fingerprints of further backends now.
    known : int
        Tracks that had it all.
    n_postings : int
        Postings stored.
    renamed : list of (str, str)
        Paths at which the store has another track, and under which the new one is kept.
    wall_seconds : float
        How long it took.
    interrupted : int or None
        The signal that ended it before it was through.
    """

    n_tracks: int = 0
    added: int = 0
    extended: int = 0
    known: int = 0
    n_postings: int = 0
    renamed: list[tuple[str, str]] = field(default_factory=list)
    wall_seconds: float = 0.0
    interrupted: int | None = None

    @property
    def n_done(self) -> int:
        """Tracks that have been taken."""
        return self.added + self.extended + self.known


Observer = Callable[[TransferReport], None]


class Receiver:
    """Adds tracks from elsewhere to a store, one transaction a batch."""

    def __init__(self, store: Store, report: TransferReport, observer: Observer) -> None:
        self._store = store
        self._report = report
        self._observer = observer
        self._batch: dict[str, StoredTrack] = {}
        self._n_bytes = 0

    def lacking(self, snapshot: Snapshot) -> list[int]:
        """Return the tracks of another store that this one has not, or not all of."""
        found = []
        with self._store.snapshot() as here:
            elsewhere = {
                entry.track_id
                for path, entry in snapshot.paths().items()
                if here.path_entry(path) is None
            }
            for track in snapshot.tracks():
                known = here.track_by_content(track.content_id)
                if (
                    known is None
                    or not set(track.backends) <= set(known.backends)
                    or track.id in elsewhere
                ):
                    found.append(track.id)
        self._report.known += len(snapshot) - len(found)
        return found

    def take(self, track: StoredTrack) -> None:
        """Put a track into the batch."""
        if track.content_id in self._batch:
            self.commit()
        self._batch[track.content_id] = track
        self._n_bytes += sum(
            each.frames.nbytes + each.hashes.nbytes + len(each.payload)
            for each in track.fingerprints.values()
        )
        if len(self._batch) >= BATCH_TRACKS or self._n_bytes >= BATCH_BYTES:
            self.commit()

    def commit(self) -> None:
        """Store the batch."""
        batch, self._batch, self._n_bytes = self._batch, {}, 0
        if batch:
            self.receive(list(batch.values()))

    def receive(self, tracks: Sequence[StoredTrack]) -> None:
        """Store tracks of different contents."""
        items: list[NewTrack] = []
        added = extended = 0
        renamed: list[tuple[str, str]] = []
        with self._store.snapshot() as here:
            taken: set[str] = set()
            for track in tracks:
                known = here.track_by_content(track.content_id)
                if known is None:
                    items += _new(track, here, taken, renamed)
                    added += 1
                    continue
                lacking = {
                    name: fingerprint
                    for name, fingerprint in track.fingerprints.items()
                    if name not in known.backends
                }
                extended += bool(lacking)
                items += _more(track, known, lacking, here, taken)
        self._store.add(items)
        report = self._report
        report.added += added
        report.extended += extended
        report.known += len(tracks) - added - extended
        report.renamed += renamed
        report.n_postings += sum(
            len(fingerprint.frames) for item in items for fingerprint in item.fingerprints.values()
        )
        self._observer(report)


def _more(
    track: StoredTrack,
    known: Track,
    lacking: Mapping[str, StoredFingerprint],
    here: Snapshot,
    taken: set[str],
) -> list[NewTrack]:
    """Return what adds fingerprints and paths to a track that the store has.

    A path that leads to another track here goes on to do so.
    """
    free = [file for file in track.files if _is_free(file.path, here, taken)]
    if not free and not lacking:
        return []
    taken.update(file.path for file in free)
    own = StoredFile(known.path, known.size, known.mtime_ns)
    return [
        NewTrack(
            known.content_id,
            file.path,
            known.duration_seconds,
            known.title,
            known.artist,
            known.album,
            file.size,
            file.mtime_ns,
            known.partial,
            lacking if file is own else {},
        )
        for file in (*free, own)  # the path that is stored last comes first, as it did
    ]


def _new(
    track: StoredTrack, here: Snapshot, taken: set[str], renamed: list[tuple[str, str]]
) -> list[NewTrack]:
    """Return what adds a track that the store has not, with those of its paths that are free.

    A path leads to one track. When all of them lead to others here, it is kept under one that no
    file has, since the others must not go.
    """
    files = [file for file in track.files if _is_free(file.path, here, taken)]
    if not files:
        path = f"{track.files[0].path}#{track.content_id}"
        while not _is_free(path, here, taken):
            path += "#"
        renamed.append((track.files[0].path, path))
        files = [replace(track.files[0], path=path)]
    taken.update(file.path for file in files)
    fingerprints: list[Mapping[str, StoredFingerprint]] = [{}] * len(files)
    fingerprints[0] = track.fingerprints
    return [
        NewTrack(
            track.content_id,
            file.path,
            track.duration_seconds,
            track.title,
            track.artist,
            track.album,
            file.size,
            file.mtime_ns,
            track.partial,
            prints,
        )
        # The path that is stored last comes first.
        for file, prints in reversed(list(zip(files, fingerprints, strict=True)))
    ]


def _is_free(path: str, here: Snapshot, taken: set[str]) -> bool:
    """Tell whether a path leads to no track, neither here nor in the batch."""
    return path not in taken and here.path_entry(path) is None
