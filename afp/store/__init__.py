"""The store: tracks, fingerprints and inverted indexes in one folder.

A catalogue in LMDB (tracks, contents, paths, failures, manifests) lies beside segments: immutable
files of sorted postings and packed fingerprints, mapped into memory and read without a copy.
A new segment is complete and on disk before the transaction that names it in a manifest, so that
there is no moment at which a crash could leave half of anything.
"""

from afp.store.folder import FORMAT
from afp.store.forward import StoredFile, StoredTrack, read_tracks
from afp.store.lock import WriterLock
from afp.store.new_track import NewTrack
from afp.store.records import BackendRecord, Failure, PathEntry
from afp.store.snapshot import Snapshot
from afp.store.store import Compaction, Store

__all__ = [
    "FORMAT",
    "BackendRecord",
    "Compaction",
    "Failure",
    "NewTrack",
    "PathEntry",
    "Snapshot",
    "Store",
    "StoredFile",
    "StoredTrack",
    "WriterLock",
    "read_tracks",
]
