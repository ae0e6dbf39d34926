"""Repair of a damaged store: what is damaged is dropped, so that the music can be indexed again.

A repair keeps what it can prove to be sound. A track that loses its fingerprint keeps its id, and
the next indexing run, for which the fingerprint is one that is missing, puts it back.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from afp.errors import StoreError
from afp.store import packing, records
from afp.store.catalogue import TABLES, Catalogue
from afp.store.check import spans
from afp.store.manifest import (
    NEXT_SEGMENT,
    Manifest,
    read_manifest,
    write_segments,
    write_tail_state,
)
from afp.store.records import (
    BackendRecord,
    DamagedStoreError,
    Failure,
    KnownPath,
    TrackRecord,
)
from afp.store.segment import Segment, SegmentRecord
from afp.store.segment_writer import write_segment
from afp.store.tails import Tail, axis_of

_T = TypeVar("_T")


def repair(catalogue: Catalogue, folder: Path) -> list[str]:
    """Drop what is damaged, within a write transaction; return what was done, a line each.

    Parameters
    ----------
    catalogue : Catalogue
        Whose pages are sound.
    folder : Path
        Of the segments; new ones are written there, and none is deleted.

    Raises
    ------
    StoreError
        When the records that say what the store is are damaged themselves, or a segment cannot be
        read for other reasons than damage.
    """
    return _Repair(catalogue, folder).run()


class _Repair:
    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        self._catalogue = catalogue
        self._folder = folder
        self._done: list[str] = []

    def run(self) -> list[str]:
        backends = self._catalogue.backends()
        self._table("failures", bytes, Failure.unpack)
        self._table("tombstones", records.backend_track_of, bytes)
        tails = self._table("tails", records.backend_track_of, Tail.unpack)
        tracks = self._tracks()
        for backend in backends.values():
            own = [tail for (number, _), tail in tails.items() if number == backend.id]
            self._index(backend, own, tracks)
        return self._done

    def _table(
        self, table: str, key_of: Callable[[bytes], Any], value_of: Callable[[memoryview], _T]
    ) -> dict[Any, _T]:
        """Read a table; delete the records of it that are damaged."""
        found: dict[Any, _T] = {}
        damaged = []
        for key, value in self._catalogue.values(table):
            try:
                found[key_of(key)] = value_of(records.unseal(TABLES[table] + key, value, table))
            except Exception:  # whatever a record may hold that makes no sense
                damaged.append(key)
        for key in damaged:
            self._catalogue.delete(table, key)
        if damaged:
            self._done.append(f"{table}: {len(damaged)} damaged records are dropped")
        return found

    def _tracks(self) -> dict[int, TrackRecord]:
        """Make tracks, paths and contents agree; return the tracks."""
        tracks = self._table("tracks", records.track_of, TrackRecord.unpack)
        paths = self._table("paths", bytes, KnownPath.unpack)
        contents = self._table("content", bytes, lambda value: records.track_of(bytes(value)))
        dropped = []
        for key, entry in paths.items():
            track = tracks.get(entry.track_id)
            if track is None or key.hex() not in track.paths:
                self._catalogue.delete("paths", key)
                dropped.append(entry.path)
        for path in sorted(dropped):
            self._done.append(f"paths: {path} is forgotten, as its track is lost")
        for key, track_id in contents.items():
            known = tracks.get(track_id)
            if known is None or records.content_key(known.content_id) != key:
                self._catalogue.delete("content", key)
        lost = set()
        for track_id, track in tracks.items():
            known_paths = [path for path in track.paths if bytes.fromhex(path) in paths]
            key = records.content_key(track.content_id)
            if contents.get(key) != track_id:
                self._catalogue.put("content", key, records.track_key(track_id))
            if known_paths != track.paths:
                track.paths = known_paths
                self._catalogue.put_record(track_id, track)
            if not known_paths:
                self._catalogue.remove(track_id)
                lost.add(track_id)
        if lost:
            self._done.append(f"tracks: removed, as their paths are lost: {spans(lost)}")
        return {i: track for i, track in tracks.items() if i not in lost}

    def _index(
        self, backend: BackendRecord, tails: list[Tail], tracks: dict[int, TrackRecord]
    ) -> None:
        """Drop what is damaged in an index, and what it has of no track or lacks of one."""
        manifest = read_manifest(self._catalogue, backend.id)
        dead = self._dead(backend.id)
        whole = [tail for tail in tails if _is_sound(tail.track_id, tail.fingerprint)]
        held = {tail.track_id for tail in whole}
        segments: list[SegmentRecord] = []
        for record in manifest.segments:
            kept, ids = self._sound_part(record, dead)
            if kept is not record:
                what = "what is damaged of it is" if kept else "it is"
                name = f"{backend.name}: segment {record.id}"
                self._done.append(f"{name} is damaged: {what} left out")
            if kept is not None:
                segments.append(kept)
                held |= ids
        self._lay_tails(backend.id, manifest, whole, n_before=len(tails))
        if segments != manifest.segments:
            manifest.segments = segments
            write_segments(self._catalogue, backend.id, manifest)
        alive = {i for i, track in tracks.items() if backend.id in track.backends}
        for track_id in held - alive - dead:
            self._catalogue.put("tombstones", records.backend_track_key(backend.id, track_id), b"")
        for track_id in dead - held:
            self._catalogue.delete("tombstones", records.backend_track_key(backend.id, track_id))
        lost = alive - held
        for track_id in lost:
            tracks[track_id].backends.remove(backend.id)
            self._catalogue.put_record(track_id, tracks[track_id])
        if lost:
            self._done.append(f"{backend.name}: tracks to be indexed again: {spans(lost)}")

    def _dead(self, backend_id: int) -> set[int]:
        tombstones = self._catalogue.items("tombstones", records.backend_key(backend_id))
        return {records.backend_track_of(key)[1] for key, _ in tombstones}

    def _sound_part(
        self, record: SegmentRecord, dead: set[int]
    ) -> tuple[SegmentRecord | None, set[int]]:
        """Return a segment, or another one with what is sound of it, or None, and its tracks."""
        try:
            segment = Segment.open(self._folder, record)
        except DamagedStoreError:
            return None, set()
        ids = segment.axis.track_ids.tolist()
        broken = {i for n, i in enumerate(ids) if not _is_sound(i, segment.fingerprint(n))}
        if not broken and not any(segment.damage()):
            return record, set(ids)
        if not segment.postings_are_whole():
            return None, set()
        left_out = np.array(sorted(broken | dead), np.int64)
        number = self._catalogue.take_number(NEXT_SEGMENT)
        return write_segment(self._folder, number, [segment], left_out), set(ids) - broken - dead

    def _lay_tails(
        self, backend_id: int, manifest: Manifest, tails: list[Tail], *, n_before: int
    ) -> None:
        """Lay what is left of the tails end to end."""
        laid = [
            replace(tail, base=base)
            for tail, base in zip(tails, axis_of(tails).bases.tolist(), strict=True)
        ]
        counts = len(laid), sum(len(t.mixed) for t in laid), sum(t.n_frames for t in laid)
        before = manifest.n_tails, manifest.n_tail_postings, manifest.n_tail_frames
        moved = [new.base != old.base for new, old in zip(laid, tails, strict=True)]
        if counts == before and n_before == len(laid) and not any(moved):
            return
        for key, _ in list(self._catalogue.values("tails", records.backend_key(backend_id))):
            self._catalogue.delete("tails", key)
        for tail in laid:
            key = records.backend_track_key(backend_id, tail.base)
            self._catalogue.put("tails", key, tail.pack())
        manifest.n_tails, manifest.n_tail_postings, manifest.n_tail_frames = counts
        write_tail_state(self._catalogue, backend_id, manifest)


def _is_sound(track_id: int, sealed: bytes | memoryview) -> bool:
    """Tell whether a packed fingerprint can be read."""
    try:
        packing.require_sound(records.unseal(records.track_key(track_id), sealed, ""))
    except StoreError:
        return False
    return True
