"""A track on its way into the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from afp.errors import StoreError
from afp.store import records
from afp.store.catalogue import NEXT_TRACK, Catalogue
from afp.store.index_writer import Batch
from afp.store.packing import Storable
from afp.store.records import BackendRecord, KnownPath, TrackRecord


@dataclass(frozen=True, slots=True)
class NewTrack:
    """A track on its way into the store.

    Attributes
    ----------
    content_id : str
        Hash of the decoded audio (hex).
    path, duration_seconds, title, artist, album, size, mtime_ns, partial
        As in `Track`.
    fingerprints : mapping of str to Fingerprint or StoredFingerprint
        By backend.
    """

    content_id: str
    path: str
    duration_seconds: float
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    size: int = 0
    mtime_ns: int = 0
    partial: str | None = None
    fingerprints: Mapping[str, Storable] = field(default_factory=dict)


def enter(
    catalogue: Catalogue,
    item: NewTrack,
    backends: Mapping[str, BackendRecord],
    batches: dict[int, Batch],
) -> tuple[int, TrackRecord]:
    """Write a track's catalogue entries; put its new fingerprints into the batches."""
    track_id = catalogue.by_content(item.content_id)
    known = None if track_id is None else catalogue.require(track_id)
    if track_id is None:
        track_id = catalogue.take_number(NEXT_TRACK)
        key = records.content_key(item.content_id)
        catalogue.put("content", key, records.track_key(track_id))
    record = TrackRecord(
        item.content_id,
        item.duration_seconds,
        item.title,
        item.artist,
        item.album,
        item.partial,
        known.paths if known else [],
        known.backends if known else [],
    )
    for name, fingerprint in item.fingerprints.items():
        if name not in backends:
            raise StoreError(f"backend {name!r} is not registered", hint="call register first")
        backend_id = backends[name].id
        if backend_id not in record.backends:
            record.backends.append(backend_id)
            batch = batches.setdefault(backend_id, Batch())
            batch.track_ids.append(track_id)
            batch.fingerprints.append(fingerprint)
    catalogue.point(KnownPath(item.path, track_id, item.size, item.mtime_ns), record)
    catalogue.put_record(track_id, record)
    return track_id, record
