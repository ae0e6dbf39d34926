"""The store when things go wrong: kills, locks, forks, damage, full disks, foreign folders."""

import json
import mmap
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path

import lmdb
import numpy as np
import pytest

from afp.errors import StoreError, UsageError
from afp.fingerprint import Fingerprint
from afp.index import GAP_FRAMES
from afp.store import (
    FORMAT,
    Failure,
    NewTrack,
    Store,
    environment,
    index_reader,
    index_writer,
    manifest,
    packing,
    records,
)
from afp.store import store as store_module
from afp.store.catalogue import TABLES
from afp.store.check import check

WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store_faults import fill
fill(Path(sys.argv[1]))
"""


def fingerprint_of(number, n=400):
    """Hashes that no other track has."""
    frames = np.arange(n, dtype=np.uint32)
    return Fingerprint(n, frames, frames * np.uint32(4096) + np.uint32(number % 4096))


def new_track(number, **changes):
    values = {
        "content_id": f"{number:08x}",
        "path": f"/music/{number}",
        "duration_seconds": 4.0,
        "size": number,
        "fingerprints": {"one": fingerprint_of(number)},
    }
    return NewTrack(**{**values, **changes})


def make(folder, n_tracks=0):
    with Store.open(folder, write=True) as store:
        store.register("one", version=1, parameters={"density": 3}, hop_seconds=0.01)
        for number in range(n_tracks):
            store.add([new_track(number)])
    return folder


def assert_answers(snapshot, number):
    """A track answers for its own hashes."""
    track = snapshot.track_by_path(f"/music/{number}")
    fingerprint = fingerprint_of(number)
    (total, found) = (0, 0)
    lists = snapshot.index("one").lookup(fingerprint.hashes)
    for hits in lists.gather(np.ones(len(fingerprint), np.bool_)):
        at = np.searchsorted(hits.axis.bases, hits.positions, side="right") - 1
        own = hits.axis.track_ids[at] == track.id
        total += int(np.count_nonzero(hits.axis.alive[at]))  # its like may have been removed
        found += int(np.count_nonzero((hits.positions - hits.axis.bases[at] == hits.rows) & own))
    assert found == total == len(fingerprint)


def find(index, item):
    """Gather all postings that share a hash with a track."""
    hashes = item.fingerprints["one"].hashes
    return index.lookup(hashes).gather(np.ones(len(hashes), np.bool_))


def fill(folder):
    """Add, merge, remove and compact for ever; say what is stored, and what is about to go."""
    manifest.TAIL_TRACKS, manifest.FAN_OUT, manifest._SMALLEST = 3, 2, 1000
    index_writer.BATCH_TRACKS, store_module.FREE_BYTES = 4, 1 << 16
    with Store.open(folder, write=True) as store:
        with store.snapshot() as snapshot:
            number = 1 + max((track.size for track in snapshot.tracks()), default=-1)
        while True:
            for n in (1, 1, 1, 1, 5):
                store.add([new_track(number + i) for i in range(n)])
                os.write(1, b"".join(b"+%d\n" % (number + i) for i in range(n)))
                number += n
            os.write(1, b"-%d\n" % (number - 2))
            store.forget_paths([f"/music/{number - 2}"])
            if number % 4 == 0:
                store.compact()
            elif number % 4 == 2:
                store.flush()


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.2, 0.35])
def test_what_was_reported_survives_a_kill(tmp_path, seconds):
    folder = make(tmp_path / "store")
    added, removed = set(), set()
    for _ in range(2):
        script = WRITER.format(tests=str(Path(__file__).parent))
        with subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE
        ) as writer:
            said = writer.stdout.readline()
            time.sleep(seconds)
            writer.send_signal(signal.SIGKILL)
            said += writer.stdout.read()
        for line in said[: said.rfind(b"\n")].decode().split():
            (added if line[0] == "+" else removed).add(int(line[1:]))
        with Store.open(folder, write=True) as store:
            assert store.check() == []
            with store.snapshot() as snapshot:
                stored = {int(path.removeprefix("/music/")) for path in snapshot.paths()}
                assert added - removed <= stored
                for number in stored:
                    assert_answers(snapshot, number)
            named = {path.suffix for path in (folder / "segments").iterdir()}
            assert named <= {".segment"}
            assert len(list(folder.glob("data-*"))) == 2  # the data file and its readers' table


@pytest.mark.filterwarnings("ignore:waiting")
def test_a_second_writer_is_told_who_writes(tmp_path):
    folder = make(tmp_path / "store")
    script = WRITER.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        started = time.monotonic()
        with pytest.raises(StoreError, match=f"written by process {writer.pid}"):
            Store.open(folder, write=True, wait_seconds=0.2)
        assert time.monotonic() - started >= 0.2
        with Store.open(folder) as reader, reader.snapshot() as snapshot:
            assert_answers(snapshot, 0)
        os.kill(writer.pid, signal.SIGKILL)
        with Store.open(folder, write=True, wait_seconds=5) as store:
            assert store.check() == []


def test_a_second_writer_in_the_same_process(tmp_path):
    with Store.open(tmp_path, write=True):
        with pytest.raises(StoreError, match=f"this process \\({os.getpid()}\\) already"):
            Store.open(tmp_path, write=True)
        Store.open(tmp_path).close()
    Store.open(tmp_path, write=True).close()


def test_a_store_does_not_cross_a_fork(tmp_path):
    with Store.open(make(tmp_path / "store", 1), write=True) as store:
        child = os.fork()
        if child == 0:
            try:
                store.snapshot()
            except StoreError as error:
                os._exit(7 if "before a fork" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert store.check() == []


def test_a_reader_goes_on_across_merges_and_compaction(tmp_path):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as writer, Store.open(folder) as reader:
        writer.flush()
        before = reader.snapshot()
        index = before.index("one")
        writer.add([new_track(number) for number in range(3, 40)])
        writer.remove([1])
        writer.compact()
        writer.add([new_track(40)])
        with before:
            assert len(before) == 3
            assert_answers(before, 0)
            assert index.n_tracks == 3
            assert len(index.evidence(1).frames) == 400
        with reader.snapshot() as after:
            assert len(after) == 40
            assert_answers(after, 40)
        assert reader.check() == []
        with pytest.raises(StoreError, match="snapshot is closed"):
            index.evidence(1)


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize(
    ("other", "refusal"),
    [(FORMAT + 1, f"format {FORMAT + 1}.*reads up to {FORMAT}"), (0, f"format 0.*format {FORMAT}")],
)
def test_another_format_is_refused(tmp_path, writing, other, refusal):
    folder = make(tmp_path / "store", 1)
    with Store.open(folder, write=True) as store:
        header = {"format": other, "byte_order": sys.byteorder}
        store._change(
            lambda catalogue: catalogue.put("header", b"store", json.dumps(header).encode())
        )
    with pytest.raises(StoreError, match=refusal):
        Store.open(folder, write=writing).snapshot()


def test_other_parameters_are_refused_with_both_values(tmp_path):
    with Store.open(make(tmp_path / "store"), write=True) as store:
        same = {"version": 1, "parameters": {"density": 3}, "hop_seconds": 0.01}
        store.register("one", **same)
        with pytest.raises(StoreError, match="density 3, not 4"):
            store.register("one", **{**same, "parameters": {"density": 4}})
        with pytest.raises(StoreError, match="version 1, this is version 2"):
            store.register("one", **{**same, "version": 2})
        with pytest.raises(StoreError, match=r"hop_seconds 0\.01, not 0\.02"):
            store.register("one", **{**same, "hop_seconds": 0.02})
        assert store.backends()["one"].parameters == {"density": 3}


def test_a_backend_record_with_a_null_behind_is_read(tmp_path):
    folder = make(tmp_path / "store", 1)
    with Store.open(folder, write=True) as store:
        known = store.backends()["one"]
        longer = json.dumps([1, "one", 1, {"density": 3}, 0.01, None]).encode()
        key = records.backend_key(1)
        store._change(lambda catalogue: catalogue.put("backends", key, longer))
        assert store.backends() == {"one": known}
        assert json.loads(known.pack()) == [1, "one", 1, {"density": 3}, 0.01]


def test_tracks_that_overflow_a_time_axis(tmp_path):
    def longest(number):
        frames = np.array([0, (1 << 31) - GAP_FRAMES * 2 - 1], np.uint32)
        hashes = frames + np.uint32(number)
        return new_track(number, fingerprints={"one": Fingerprint(0, frames, hashes)})

    with Store.open(make(tmp_path / "store"), write=True) as store:
        store.add([longest(0)])  # a tail that is not due, but almost
        store.add([new_track(9)])
        store.add([longest(1)])
        assert store.check() == []
        with pytest.raises(StoreError, match=r"3 tracks of .* too long for one time axis"):
            store.add([longest(number) for number in (2, 3, 4)])
        store.add([longest(2), longest(3)])
        store.flush()
        assert store.check() == []
        with store.snapshot() as snapshot:
            assert {track.content_id[-1] for track in snapshot.tracks()} == set("01239")
            assert_answers(snapshot, 9)
            index = snapshot.index("one")
            for number in range(4):
                track = snapshot.track_by_path(f"/music/{number}")
                (hits,) = [h for h in find(index, longest(number)) if track.id in h.axis.track_ids]
                base = hits.axis.bases[hits.axis.track_ids.tolist().index(track.id)]
                frames = longest(number).fingerprints["one"].frames
                assert set((frames + base).tolist()) <= set(hits.positions.tolist())


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="there is no store at") as caught:
        Store.open(tmp_path / "missing")
    assert "afp index" in caught.value.hint
    with pytest.raises(StoreError, match="holds no afp store"):
        Store.open(tmp_path)
    (tmp_path / "song.mp3").write_bytes(b"music")
    with pytest.raises(StoreError, match=r"no afp store: it holds 'song\.mp3'"):
        Store.open(tmp_path, write=True)
    with pytest.raises(StoreError, match="File exists"):
        Store.open(tmp_path / "song.mp3", write=True)
    garbage = tmp_path / "garbage"
    garbage.mkdir()
    (garbage / "data-000001.mdb").write_bytes(b"no LMDB" * 9999)
    for writing in (False, True):
        with pytest.raises(StoreError, match="damaged"):
            Store.open(garbage, write=writing)


def test_files_that_a_system_puts_beside_ours_are_left_alone(tmp_path):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as store:
        store.flush()
    segments = folder / "segments"
    foreign = [segments / name for name in ("._00000001.segment", ".DS_Store", "²³.segment")]
    foreign += [folder / "._data-000001.mdb", segments / "._00000001.draft"]
    orphans = [segments / "00000099.segment", segments / "00000099.draft"]
    for path in foreign + orphans:
        path.write_bytes(b"\0\5\x16\7")
    with Store.open(folder, write=True) as store:
        assert store.check() == []
        with store.snapshot() as snapshot:
            assert_answers(snapshot, 2)
    assert all(path.exists() for path in foreign)
    assert not any(path.exists() for path in orphans)


def test_a_store_that_is_compacted_meanwhile_is_sound_and_has_a_size(tmp_path, monkeypatch):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as writer, Store.open(folder) as reader:
        writer.flush()
        with reader.snapshot() as before:
            writer.add([new_track(3)])
            writer.compact()
            assert len(list((folder / "segments").iterdir())) == 1
            assert check(before) == []
        assert reader.n_bytes() > writer.stats().indexes["one"].n_bytes
        gone = folder / "segments" / "00000001.segment"
        listed = [*(folder / "segments").iterdir(), gone]
        monkeypatch.setattr(Path, "iterdir", lambda path: iter(listed))
        assert not gone.exists()
        assert writer.n_bytes() == sum(
            path.stat().st_size for path in (*folder.glob("*.mdb"), listed[0])
        )


def test_a_truncated_store_is_refused(tmp_path):
    folder = make(tmp_path / "store", 20)
    (data,) = folder.glob("*.mdb")
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(StoreError, match="cut short"):
        Store.open(folder)


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def test_pages_at_the_end_that_were_never_written_are_not_missed(tmp_path):
    # LMDB counts pages that one transaction takes and gives back, and does not write them.
    folder = make(tmp_path / "store", 3)
    (data,) = folder.glob("data-*.mdb")
    content = bytearray(data.read_bytes())
    for meta in (0, mmap.PAGESIZE):
        at = meta + 16 + 120
        (last_page,) = struct.unpack_from("<Q", content, at)
        struct.pack_into("<Q", content, at, last_page + 2)
    data.write_bytes(content)
    with Store.open(folder) as store, store.snapshot() as snapshot:
        assert sorted(map(number_in, snapshot.paths())) == [0, 1, 2]
        assert_answers(snapshot, 1)
    with Store.open(folder, write=True) as store:
        store.add([new_track(3)])
        with store.snapshot() as snapshot:
            assert_answers(snapshot, 3)


def number_in(path):
    return int(path.rpartition("/")[2])


@pytest.mark.parametrize("table", sorted(TABLES))
def test_check_finds_a_flipped_bit_in_every_table(tmp_path, table):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as store:
        store.flush()
        store.add([new_track(3)])
        store.remove([2])
        store.record_failures([Failure("/music/broken", 1, 2, "it is broken")])
        assert store.check() == []
        with store.snapshot() as snapshot:
            key, value = next(iter(snapshot.catalogue.values(table)))
            value = bytes(value)
    (data,) = folder.glob("*.mdb")
    content = data.read_bytes()
    record = value if len(value) > 100 else TABLES[table] + key + value
    at = content.find(record)
    assert at >= 0
    while at >= 0:  # in the free pages that older transactions have left, too
        flip(data, at + len(record) - 1)
        at = content.find(record, at + 1)
    with pytest.raises(StoreError, match="checksum"), Store.open(folder) as store:
        faults = store.check()
        assert faults
        raise StoreError("; ".join(faults))


def overwrite(path, seed, n=20):
    """Flip bits all over the pages behind LMDB's two first ones."""
    rng = np.random.default_rng(seed)
    for offset in rng.integers(8192, path.stat().st_size, n).tolist():
        flip(path, offset)


READER = """
import sys
from pathlib import Path
from afp.errors import StoreError
from afp.store import Store
try:
    with Store.open(Path(sys.argv[1])) as store:
        store.stats()
        with store.snapshot() as snapshot:
            list(snapshot.tracks()), snapshot.paths(), snapshot.failures()
except StoreError as error:
    assert error.hint
"""
CRASHES = {-signal.SIGBUS, -signal.SIGSEGV, -signal.SIGABRT}


def test_check_tells_of_damaged_pages_and_ends(tmp_path):
    folder = make(tmp_path / "store", 60)
    (data,) = folder.glob("*.mdb")
    content = data.read_bytes()
    for seed in range(6):
        data.write_bytes(content)
        overwrite(data, seed)
        with Store.open(folder) as store:
            faults = store.check()
        assert "afp check --repair" in faults[-1] or "move the store away" in faults[-1], faults
        done = subprocess.run(
            [sys.executable, "-c", READER, str(folder)], capture_output=True, check=False
        )
        assert done.returncode in {0, *CRASHES}, done.stderr


@pytest.mark.parametrize("root", [b"\xff" * 16, b"\0" * 16, None])
def test_a_damaged_root_is_a_fault(tmp_path, root):
    folder = make(tmp_path / "store", 30)
    (data,) = folder.glob("*.mdb")
    content = bytearray(data.read_bytes())
    if root is None:  # children behind the end of the file: LMDB is killed as it follows them
        for page in range(2, len(content) // 4096):
            at = 4096 * page
            if int.from_bytes(content[at + 10 : at + 12], "little") == 1:  # a branch page
                for slot in range(16, int.from_bytes(content[at + 12 : at + 14], "little"), 2):
                    node = at + int.from_bytes(content[at + slot : at + slot + 2], "little")
                    content[node : node + 4] = (1 << 24).to_bytes(4, "little")
    else:
        for at in range(8192, len(content), 4096):
            content[at : at + 16] = root
    data.write_bytes(content)
    with Store.open(folder) as store:
        faults = store.check()
    assert faults
    assert all("the catalogue" in line for line in faults)
    assert "move the store away and index anew" in faults[-1]


def test_compact_refuses_a_damaged_catalogue_and_keeps_it(tmp_path):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as store:
        entry = records.path_key("/music/1")
        store._change(lambda catalogue: catalogue.delete("paths", entry))
        (data,) = folder.glob("*.mdb")
        content = data.read_bytes()
        with pytest.raises(StoreError, match=r"is not stored.*compacted") as caught:
            store.compact()
        assert "afp check --repair" in caught.value.hint
        assert any("the catalogue is damaged: `afp check --repair`" in f for f in store.check())
        assert data.read_bytes() == content


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
def test_a_segment_that_cannot_be_read_is_named(tmp_path, monkeypatch, error):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as store:
        store.flush()

    opened = Path.open

    def refuse(path, *args):
        if path.suffix == ".segment":
            raise error
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", refuse)
    with Store.open(folder) as store, pytest.raises(StoreError, match=error.strerror) as caught:
        store.snapshot()
    assert str(folder / "segments" / "00000001.segment") in str(caught.value)
    assert "restore it from a backup" in caught.value.hint


def test_a_damaged_tail_is_named(tmp_path):
    folder = make(tmp_path / "store", 2)
    with Store.open(folder, write=True) as store:
        with store.snapshot() as snapshot:
            key, value = next(snapshot.catalogue.values("tails"))
            value = bytes(value)
        broken = value[:-1] + bytes([value[-1] ^ 1])
        store._change(lambda catalogue: catalogue.txn.put(TABLES["tails"] + key, broken))
        with pytest.raises(StoreError, match="'tails' fails its checksum") as caught:
            store.snapshot()
        assert "afp check --repair" in caught.value.hint
        assert any(f"tails: record {key.hex()} fails" in line for line in store.check())


def test_check_finds_a_flipped_bit_anywhere_in_a_segment(tmp_path):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as store:
        store.flush()
    (segment,) = (folder / "segments").iterdir()
    size = segment.stat().st_size
    for offset in [0, 70, 200, size // 4, size // 2, size - 300, size - 1]:
        flip(segment, offset)
        with pytest.raises(StoreError, match=r"damaged|checksum"), Store.open(folder) as store:
            faults = store.check()
            assert faults
            raise StoreError("; ".join(faults))
        flip(segment, offset)
    with Store.open(folder) as store:
        assert store.check() == []
    os.truncate(segment, size - 4)
    with Store.open(folder) as store, pytest.raises(StoreError, match="bytes instead of"):
        store.snapshot()
    segment.unlink()
    with Store.open(folder) as store:
        with pytest.raises(StoreError, match=r"00000001\.segment is missing") as caught:
            store.snapshot()
        assert "afp check --repair" in caught.value.hint
        (fault,) = store.check()
        assert f"{segment} is missing: restore it" in fault


def test_a_damaged_fingerprint_is_noticed_when_it_is_read(tmp_path):
    folder = make(tmp_path / "store", 1)
    with Store.open(folder, write=True) as store:
        store.flush()
        (segment,) = (folder / "segments").iterdir()
        content = segment.read_bytes()
        packed = packing.pack(fingerprint_of(0))
        flip(segment, content.index(packed) + len(packed) - 1)
        with store.snapshot() as snapshot, pytest.raises(StoreError, match=r"track 1.*checksum"):
            snapshot.index("one").evidence(1)
        faults = store.check()
        assert any("one: track 1: its fingerprint fails its checksum" in line for line in faults)


def damage_postings(store, segment_id):
    """Flip a bit of the position of a segment's last posting."""
    with store.snapshot() as snapshot:
        segment = snapshot.segments[segment_id]
        first_fingerprint = int(segment.edges[0])
        padding = -4 * len(segment.run.positions) % 64
    path = store.folder / "segments" / f"{segment_id:08d}.segment"
    flip(path, first_fingerprint - padding - 4)
    return path


def test_compact_refuses_a_damaged_segment_and_keeps_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(index_writer, "BATCH_TRACKS", 2)
    folder = make(tmp_path / "store")
    with Store.open(folder, write=True) as store:
        for first in (0, 3):
            store.add([new_track(first + i) for i in range(3)])
        store.remove([5])
        damaged = damage_postings(store, 1)
        before = {path: path.read_bytes() for path in (folder / "segments").iterdir()}
        faults = store.check()
        assert any("segment 1: bytes 0 and following fail" in line for line in faults)
        assert any("segment 1 holds the tracks 1-3: `afp check --repair`" in f for f in faults)
        with pytest.raises(StoreError, match=r"segment 1: .*fail.*cannot be merged") as caught:
            store.compact()
        assert "afp check" in caught.value.hint
        assert store.check() == faults
        assert {path: path.read_bytes() for path in before} == before
        # Without its tracks nothing is taken from the segment.
        store.remove([1, 2, 3])
        store.add([new_track(number) for number in range(3)])
        store.compact()
        assert not damaged.exists()
        assert store.check() == []
        with store.snapshot() as snapshot:
            for number in (0, 1, 2, 3, 5):
                assert_answers(snapshot, number)


@pytest.mark.parametrize("lost", [False, True])
def test_a_damaged_segment_is_left_out_of_merges_and_blocks_nothing(tmp_path, monkeypatch, lost):
    monkeypatch.setattr(index_writer, "BATCH_TRACKS", 2)
    monkeypatch.setattr(manifest, "FAN_OUT", 3)
    folder = make(tmp_path / "store")
    with Store.open(folder, write=True) as store:
        for number in (0, 2):
            store.add([new_track(number), new_track(number + 1)])
        damaged = damage_postings(store, 2)
        content = damaged.read_bytes()
        if lost:
            damaged.unlink()
        for number in (4, 6, 8):
            store.add([new_track(number), new_track(number + 1)])
        store.add([new_track(10)])
        store.flush()
        if lost:
            damaged.write_bytes(content)
        assert damaged.read_bytes() == content
        stats = store.stats().indexes["one"]
        assert (stats.segments, stats.tails, stats.tracks) == (3, 0, 11)
        faults = store.check()
        assert faults
        assert all("segment 2" in line for line in faults)
        with store.snapshot() as snapshot:
            for number in (0, 1, *range(4, 11)):
                assert_answers(snapshot, number)


def test_a_removed_track_has_no_evidence(tmp_path):
    folder = make(tmp_path / "store", 3)
    with Store.open(folder, write=True) as store:
        for flush in (False, True):
            if flush:
                store.flush()
            store.remove([1 + flush])
            with store.snapshot() as snapshot:
                index = snapshot.index("one")
                assert len(index.evidence(3).frames) == 400
                for gone in range(1, 2 + flush):
                    with pytest.raises(StoreError, match="no fingerprint of 'one'"):
                        index.evidence(gone)


def test_evidence_stays_unpacked_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr(index_reader, "_CACHED_VALUES", 2 * 400)
    with Store.open(make(tmp_path / "store", 3)) as store, store.snapshot() as snapshot:
        index = snapshot.index("one")
        first, second = index.evidence(1), index.evidence(2)
        assert index.evidence(1) is first
        index.evidence(3)  # takes the place of the one that was not used for longest
        assert index.evidence(1) is first
        again = index.evidence(2)
        assert again is not second
        assert again.values.tolist() == second.values.tolist()


def test_a_batch_of_many_postings_becomes_a_segment(tmp_path):
    n = index_writer.BATCH_POSTINGS // 2
    with Store.open(make(tmp_path / "store"), write=True) as store:
        for number in (0, 1):
            store.add([new_track(number, fingerprints={"one": fingerprint_of(number, n)})])
        assert (store.stats().indexes["one"].segments, store.stats().indexes["one"].tails) == (0, 2)
        long = [new_track(i, fingerprints={"one": fingerprint_of(i, n)}) for i in (2, 3)]
        store.add(long)
        assert (store.stats().indexes["one"].segments, store.stats().indexes["one"].tails) == (1, 2)
        store.flush()
        index = store.stats().indexes["one"]
        assert (index.segments, index.tails, index.postings) == (1, 0, 4 * n)
        assert index.bytes["tails"] == 0


def test_flush_gives_many_free_pages_back(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "FREE_BYTES", 1 << 16)
    folder = make(tmp_path / "store", 60)
    with Store.open(folder, write=True) as store, Store.open(folder) as reader:
        store.remove(range(1, 30))
        before = reader.snapshot()
        store.flush()
        assert store.stats().free_bytes <= 1 << 16
        (data,) = folder.glob("*.mdb")
        assert data.name == "data-000002.mdb"
        with before:
            assert_answers(before, 40)
        with reader.snapshot() as after:
            assert_answers(after, 40)
        store.flush()
        assert data.exists()
        assert store.check() == []


def test_a_bulk_store_is_small_without_compaction(tmp_path):
    with Store.open(make(tmp_path / "store"), write=True) as store:
        for first in range(0, 640, 64):
            store.add(
                [
                    new_track(i, path=f"/music/{'long name ' * 11}{i:04d}.ogg", title="A title")
                    for i in range(first, first + 64)
                ]
            )
        store.flush()
        stats = store.stats()
        assert stats.indexes["one"].segments == 1
        assert stats.catalogue_bytes / 640 <= 1000
        assert stats.free_bytes <= store_module.FREE_BYTES


def test_a_map_that_is_too_small_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "MAP_BYTES", 1 << 17)
    folder = make(tmp_path / "store", 30)
    with Store.open(folder, write=True) as store:
        assert store.check() == []
        with store.snapshot() as snapshot:
            assert len(snapshot) == 30


def limited(bytes_):
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (bytes_, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    )


@pytest.mark.parametrize("batch", [1, 100])
def test_a_full_disk_loses_nothing(tmp_path, batch):
    folder = make(tmp_path / "store", 5)
    with Store.open(folder, write=True) as store:
        stored = 5
        limited(1 << 18)
        try:
            with pytest.raises(StoreError, match=str(folder)) as caught:
                for number in range(5, 2000, batch):
                    store.add([new_track(number + i) for i in range(batch)])
                    stored += batch
        finally:
            limited(resource.RLIM_INFINITY)
        assert "make room" in caught.value.hint
        store.add([new_track(5000)])
        assert store.check() == []
        with store.snapshot() as snapshot:
            assert len(snapshot) == stored + 1
            for number in (0, 4, 5000):
                assert_answers(snapshot, number)


def test_misuse_is_explained(tmp_path):
    folder = make(tmp_path / "store", 1)
    with Store.open(folder) as store:
        with pytest.raises(StoreError, match="open for reading"):
            store.remove([1])
        with store.snapshot() as snapshot:
            with pytest.raises(UsageError, match="no index of backend 'two'"):
                snapshot.index("two")
            with pytest.raises(StoreError, match="no track 9"):
                snapshot.track(9)
            for unknown in (0, 9, -1, 1 << 63, 1 << 64, 1 << 200):
                assert snapshot.find_track(unknown) is None
                with pytest.raises(StoreError, match=f"no track {unknown}"):
                    snapshot.track(unknown)
    with pytest.raises(StoreError, match="is closed"):
        store.snapshot()
    frames = np.array([3, 2], np.uint32)
    with Store.open(folder, write=True) as store:
        with pytest.raises(StoreError, match="'two' is not registered"):
            store.add([new_track(7), new_track(8, fingerprints={"two": fingerprint_of(8)})])
        for bad, why in (
            (Fingerprint(9, frames, frames), "frames decrease"),
            (Fingerprint(9, frames[:1], frames), "1 frames, 2 values"),
            (Fingerprint(9, frames, frames.astype(np.int64)), "must be uint32"),
            (Fingerprint(9, frames), "without hashes and vectors"),
        ):
            with pytest.raises(StoreError, match=why):
                store.add([new_track(7, fingerprints={"one": bad})])
        with store.snapshot() as snapshot:
            assert len(snapshot) == 1


NOBODY = 65_534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_someone_who_may_only_read_is_safe_from_writers(tmp_path):
    folder = make(tmp_path / "store", 3)
    for path in (tmp_path, *tmp_path.parents):
        if path == tmp_path or path.name.startswith(("pytest-", "popen-")):
            path.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setuid(NOBODY)
        try:
            with Store.open(folder) as store, store.snapshot() as snapshot:
                assert_answers(snapshot, 1)
                os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
            with pytest.raises(StoreError, match="is being written"):
                Store.open(folder)
            with pytest.raises(StoreError, match="Permission denied"):
                Store.open(folder, write=True)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(7)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    with pytest.raises(StoreError, match=f"is being read by process {child}"):
        Store.open(folder, write=True)
    os.kill(child, signal.SIGCONT)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    with Store.open(folder, write=True):
        os.kill(child, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_lmdb_errors_carry_a_remedy():
    for error in (lmdb.DiskError("x"), lmdb.MapFullError("x"), OSError(28, "No space left")):
        with pytest.raises(StoreError, match="/s") as caught, environment.translated(Path("/s")):
            raise error
        assert caught.value.hint


def entries_of(path):
    copy = shutil.copy(path, path.with_suffix(".copy"))  # nothing is opened twice in a process
    with (
        lmdb.open(str(copy), subdir=False, readonly=True, lock=False) as catalogue,
        catalogue.begin() as txn,
    ):
        return list(txn.cursor()), catalogue.stat()["leaf_pages"]


def test_a_rewritten_catalogue_holds_the_same_on_full_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_REWRITTEN_AT_ONCE", 64)
    with Store.open(tmp_path, write=True) as store:
        for first in range(0, 400, 20):  # content and paths are hashed: their keys come by chance
            numbers = range(first, first + 20)
            store.add([new_track(number, fingerprints={}) for number in numbers])
        before, n_before = entries_of(tmp_path / "data-000001.mdb")
        store.compact()
    after, n_after = entries_of(tmp_path / "data-000002.mdb")
    assert after == before
    assert n_after < 0.75 * n_before


def test_keys_out_of_order_are_not_dropped(tmp_path):
    with Store.open(tmp_path, write=True) as store:
        store.add([new_track(number, fingerprints={}) for number in range(3)])
    path = tmp_path / "data-000001.mdb"
    content = bytearray(path.read_bytes())
    key = max(records.path_key(f"/music/{number}") for number in range(3))
    while (at := content.find(key)) >= 0:
        content[at : at + len(key)] = bytes(len(key))
    path.write_bytes(content)
    shared = environment.Environment.acquire(path)
    with pytest.raises(StoreError, match="its keys are out of order"):
        shared.rewrite(tmp_path / "data-000002.mdb")
    shared.release()
    assert [file.name for file in tmp_path.glob("data-*") if "lock" not in file.name] == [path.name]


def test_a_rewriting_that_ends_after_its_file_has_a_name_ends_the_store(tmp_path, monkeypatch):
    with Store.open(tmp_path, write=True) as store:
        store.add([new_track(1, fingerprints={})])
        replace = Path.replace

        def interrupted(self, target):
            replace(self, target)
            if target.name == "data-000002.mdb":
                raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
        monkeypatch.undo()
        with pytest.raises(StoreError, match="is closed"):
            store.add([new_track(2, fingerprints={})])
    with Store.open(tmp_path, write=True) as store:
        store.add([new_track(2, fingerprints={})])
        with store.snapshot() as snapshot:
            assert [track.path for track in snapshot.tracks()] == ["/music/1", "/music/2"]
