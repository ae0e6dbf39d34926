"""A store on a broken disk: what is damaged is told, and never answered from."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from cli_runner import excerpt, write_wav
from forked import Done, afp
from lmdb.verify import verify
from test_store_faults import assert_answers, make, new_track

from afp.errors import ExitCode, StoreError
from afp.library import index
from afp.store import Failure, Store, environment, segment, segment_writer
from afp.store.catalogue import TABLES
from afp.store.check import check
from afp.store.pages import fault_of
from afp.store.segment import HEADER, Layout
from afp.synthesis import song

BACKENDS = ("shazam", "neural")
SECONDS = 12.0
Damage = Callable[[Path, np.random.Generator], None]


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """A folder with music, clips of it, and a store that has something of everything."""
    folder = tmp_path_factory.mktemp("broken")
    for seed in range(5):
        write_wav(folder / f"music/song{seed}.wav", song(seed, seconds=SECONDS))
        clip = excerpt(seed, 4.0, 5.0, length=SECONDS)
        write_wav(folder / f"clips/clip{seed}.wav", clip)
    files = [folder / f"music/song{seed}.wav" for seed in range(5)]
    path = folder / "store"
    index(path, files[:3], backends=BACKENDS, n_workers=1, in_order=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "flush", lambda store: None)
        index(path, files[3:4], backends=BACKENDS, n_workers=1)
    with Store.open(path, write=True) as store:
        failures = [Failure(f"{folder}/noise/{i:03d}.wav", i, i, "no audio") for i in range(200)]
        store.record_failures(failures)
        store.remove([2])
        assert store.check() == []
        stats = store.stats().indexes["shazam"]
        assert (stats.segments, stats.tails, stats.tombstones) == (1, 1, 1)
    files[1].unlink()  # so that `afp index` does not bring it back
    return folder


def parts_of(path: Path, store: Path) -> dict[str, tuple[int, int]]:
    """Return the parts of a segment file: where each begins and how long it is."""
    with Store.open(store) as opened, opened.snapshot() as snapshot:
        segment = snapshot.segments[int(path.stem)]
        record, bits = segment.record, segment.run.bits
        edges = segment.edges.tolist()
    at = Layout.of(bits, record.n_tracks, record.n_postings, record.n_fingerprint_bytes)
    wide = 2 if bits >= 16 else 4
    t, n = record.n_tracks, record.n_postings
    return {
        "header": (0, HEADER.size),
        "track ids": (at.track_ids, 8 * t),
        "bases": (at.bases, 4 * t),
        "lengths": (at.n_frames, 4 * t),
        "counts": (at.counts, 4 * t),
        "sizes": (at.sizes, 4 * t),
        "directory": (at.directory, 4 * ((1 << bits) + 1)),
        "remainders": (at.remainders, wide * n),
        "positions": (at.positions, 4 * n),
        "fingerprints": (at.fingerprints, edges[-1] - edges[0]),
        "checksums": (at.checksums, at.end - at.checksums),
    }


def pages_of(data: Path) -> dict[str, list[int]]:
    """Return the offsets of a data file's pages by class: meta, branch, leaf of a table, value."""
    content = data.read_bytes()
    names = {prefix: name for name, prefix in TABLES.items()}
    found: dict[str, list[int]] = {"meta": [0, 4096]}
    at = 8192
    while at < len(content):
        flags = int.from_bytes(content[at + 10 : at + 12], "little")
        span = 1
        if flags & 4:
            found.setdefault("large value", []).append(at)
            span = int.from_bytes(content[at + 12 : at + 16], "little")
        elif flags & 1:
            found.setdefault("branch", []).append(at)
        elif flags & 2:
            for slot in range(16, int.from_bytes(content[at + 12 : at + 14], "little"), 2):
                node = at + int.from_bytes(content[at + slot : at + slot + 2], "little")
                if table := names.get(content[node + 8 : node + 9]):
                    pages = found.setdefault(f"leaf of {table}", [])
                    pages += [at] * (at not in pages)
        at += 4096 * max(span, 1)
    return found


def flip(path: Path, offsets: Iterator[int] | list[int], rng: np.random.Generator) -> None:
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 1 << int(rng.integers(8))]))


def in_page(kind: str, where: str) -> Damage:
    """Flip three bits in pages of a class: of their header, slots, nodes or anywhere."""

    def damage(store: Path, rng: np.random.Generator) -> None:
        (data,) = store.glob("data-*.mdb")
        content = data.read_bytes()
        offsets = []
        for page in rng.choice(pages_of(data)[kind], 3).tolist():
            if where == "header":
                offsets.append(page + int(rng.integers(160 if kind == "meta" else 16)))
            elif where == "slots":
                offsets.append(page + 16 + int(rng.integers(40)))
            elif where == "nodes":
                slot = page + 16 + 2 * int(rng.integers(10))
                node = min(int.from_bytes(content[slot : slot + 2], "little"), 4080)
                offsets.append(page + node + int(rng.integers(16)))
            else:
                offsets.append(page + int(rng.integers(4096)))
        flip(data, offsets, rng)

    return damage


def in_segment(part: str, backend: str = "shazam") -> Damage:
    def damage(store: Path, rng: np.random.Generator) -> None:
        with Store.open(store) as opened, opened.snapshot() as snapshot:
            number = snapshot.backends[backend].id
        path = store / f"segments/{number:08d}.segment"
        start, length = parts_of(path, store)[part]
        flip(path, (start + rng.integers(length, size=3)).tolist(), rng)

    return damage


def cut(pattern: str) -> Damage:
    """Truncate a file: to nothing, to a byte, to a page, somewhere, by a byte, by a page."""

    def damage(store: Path, rng: np.random.Generator) -> None:
        path = next(iter(sorted(store.glob(pattern))))
        size = path.stat().st_size
        lengths = [0, 1, 63, 4096, 8192, int(rng.integers(size)), size - 4096, size - 1]
        os.truncate(path, max(int(rng.choice(lengths)), 0))

    return damage


def scramble(name: str) -> Damage:
    def damage(store: Path, rng: np.random.Generator) -> None:
        path = store / name
        path.write_bytes(rng.bytes(max(path.stat().st_size, 100)))

    return damage


def missing(pattern: str) -> Damage:
    def damage(store: Path, rng: np.random.Generator) -> None:
        next(iter(sorted(store.glob(pattern)))).unlink()

    return damage


SEGMENT_PARTS = (
    *("header", "track ids", "bases", "lengths", "counts", "sizes"),
    *("directory", "remainders", "positions", "fingerprints", "checksums"),
)
LEAVES = tuple(f"leaf of {table}" for table in TABLES)
DAMAGES: dict[str, Damage] = {
    **{f"meta {where}": in_page("meta", where) for where in ("header",)},
    **{
        f"{kind} {where}": in_page(kind, where)
        for kind in ("branch", *LEAVES)
        for where in ("header", "slots", "nodes", "anywhere")
    },
    **{f"large value {where}": in_page("large value", where) for where in ("header", "anywhere")},
    **{f"segment {part}": in_segment(part) for part in SEGMENT_PARTS},
    "segment vectors": in_segment("fingerprints", "neural"),
    "data cut": cut("data-*.mdb"),
    "segment cut": cut("segments/*"),
    "segment missing": missing("segments/*"),
    "data missing": missing("data-*.mdb"),
    "readers scrambled": scramble("data-000001.mdb-lock"),
    "readers cut": cut("data-*.mdb-lock"),
    "readers missing": missing("data-*.mdb-lock"),
    "lock scrambled": scramble("writer.lock"),
    "lock missing": missing("writer.lock"),
}


def right_or_refused(done: Done, expected: Any, of: Callable[[Any], Any], *statuses: int) -> bool:
    """Assert that a command told the truth or refused; tell whether it refused."""
    assert "Traceback" not in done.err, done.err
    assert done.seconds < 50, done
    if done.status == ExitCode.STORE:
        assert "afp: error: " in done.err, done
        assert "hint: " in done.err, done
        return True
    assert done.status in (0, *statuses), done
    assert of(done) == expected, done
    return False


class Truth:
    """What a whole store answers, and how a damaged one is held to it."""

    def __init__(self, library: Path) -> None:
        self.clips = [library / f"clips/clip{seed}.wav" for seed in (0, 3)]
        self.music = library / "music"
        self.answers = {b: self.identified(self.query(library / "store", b)) for b in BACKENDS}
        assert all(len(found) == 2 for answer in self.answers.values() for found in answer)
        self.tracks = self.listed(afp("ls", "--json", db=library / "store"))
        self.counts = self.counted(afp("stats", "--json", db=library / "store"))

    def query(self, store: Path, backend: str) -> Done:
        return afp("query", "--json", "-b", backend, *self.clips, db=store)

    @staticmethod
    def identified(done: Done) -> list[Any]:
        """Return track and place of each answer."""
        return [
            (match["track"]["path"], round(match["track_start"]))
            for answer in done.objects()
            for match in answer["matches"]
        ]

    @staticmethod
    def listed(done: Done) -> list[Any]:
        return done.objects()

    @staticmethod
    def counted(done: Done) -> list[Any]:
        (stats,) = done.objects()
        of = ("tracks", "postings", "tombstones")
        return [stats["tracks"], *([b[name] for name in of] for b in stats["backends"].values())]

    def hold_readers(self, store: Path, *, backends: tuple[str, ...] = BACKENDS) -> None:
        """Run what only reads, and compare it with what `check` says."""
        refused = [
            right_or_refused(self.query(store, backend), self.answers[backend], self.identified)
            for backend in backends
        ]
        refused += [
            right_or_refused(afp("ls", "--json", db=store), self.tracks, self.listed),
            right_or_refused(afp("stats", "--json", db=store), self.counts, self.counted),
        ]
        check = afp("check", db=store)
        assert "Traceback" not in check.err, check
        assert check.status in (0, ExitCode.STORE), check
        # What `check` finds whole serves every command.
        assert check.status != 0 or not any(refused)

    def hold_writers(self, store: Path, work: Path) -> None:
        """Run what changes something, each on a copy; what it leaves must not be worse."""
        for number, change in enumerate((("index", self.music), ("compact",), ("rm", "3"))):
            copy = work / f"{number}"
            shutil.copytree(store, copy)
            done = afp(*change, db=copy)
            right_or_refused(done, None, lambda done: None, ExitCode.INPUT)
            if done.status == 0:
                right_or_refused(
                    self.query(copy, "shazam"), self.answers["shazam"], self.identified
                )
            shutil.rmtree(copy)

    def hold_repair(self, store: Path) -> bool:
        """Repair, and index what that has dropped; tell whether there was anything to repair."""
        repaired = afp("check", "--repair", db=store)
        assert "Traceback" not in repaired.err, repaired
        if repaired.status != 0:
            assert repaired.status == ExitCode.STORE
            assert "move the store away" in repaired.err + repaired.out, repaired
            return False
        done = afp("index", "-j1", self.music, db=store)
        assert done.status == 0, done
        assert afp("check", db=store).status == 0
        for backend, answer in self.answers.items():
            assert self.identified(self.query(store, backend)) == answer
        found = {track["id"]: track for track in self.listed(afp("ls", "--json", db=store))}
        for track in self.tracks:  # a lost record is a new track
            if track["id"] in found:
                assert sorted(found[track["id"]]["backends"]) == sorted(track["backends"])
        return bool(repaired.out)


@pytest.fixture(scope="session")
def truth(library) -> Truth:
    return Truth(library)


@pytest.fixture
def broken(library, tmp_path) -> Path:
    return Path(shutil.copytree(library / "store", tmp_path / "store"))


QUICK = (
    *("meta header", "branch nodes", "leaf of tracks slots", "leaf of manifests slots"),
    *("leaf of tails nodes", "large value anywhere", "segment header", "segment directory"),
    *("segment positions", "segment vectors", "data cut", "segment missing", "readers scrambled"),
)


@pytest.mark.parametrize("name", QUICK)
def test_a_damaged_store_answers_rightly_or_refuses(name, truth, broken):
    DAMAGES[name](broken, np.random.default_rng(1))
    truth.hold_readers(broken, backends=("neural" if "vectors" in name else "shazam",))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", DAMAGES)
def test_every_command_on_every_damage(name, seed, truth, broken, tmp_path):
    DAMAGES[name](broken, np.random.default_rng(seed))
    truth.hold_readers(broken)
    truth.hold_writers(broken, tmp_path)
    truth.hold_repair(broken)


@pytest.mark.parametrize("name", ["segment positions", "large value anywhere"])
def test_what_a_repair_drops_is_indexed_again(name, truth, broken):
    DAMAGES[name](broken, np.random.default_rng(1))
    assert afp("check", db=broken).status == ExitCode.STORE
    assert truth.hold_repair(broken)


def test_a_repair_of_a_whole_store_changes_nothing(library, broken):
    assert (afp("check", "--repair", db=broken).out, broken.exists()) == ("", True)
    for name in ("00000001.segment", "00000002.segment"):
        content = (library / "store/segments" / name).read_bytes()
        assert (broken / "segments" / name).read_bytes() == content


def test_damage_among_fingerprints_costs_only_their_tracks(tmp_path, monkeypatch):
    for module in (segment, segment_writer):
        monkeypatch.setattr(module, "BLOCK", 512)
    folder = make(tmp_path / "store", 30)
    with Store.open(folder, write=True) as store:
        store.flush()
        store.remove([4])
        path = folder / "segments/00000001.segment"
        start, length = parts_of(path, folder)["fingerprints"]
        flip(path, [start + length // 2], np.random.default_rng(0))
        with store.snapshot() as snapshot:
            broken = [i for i in range(5, 31) if not reads(snapshot.index("one"), i)]
        assert len(broken) == 1
        done = store.repair()
        assert any(f"to be indexed again: {broken[0]}" in line for line in done)
        with store.snapshot() as snapshot:
            assert check(snapshot) == []
            assert snapshot.track(broken[0]).backends == ()
            assert [i for i in range(1, 31) if i != 4 and not reads(snapshot.index("one"), i)] == (
                broken
            )
            for number in (0, 1, 20, 29):
                if number + 1 != broken[0]:
                    assert_answers(snapshot, number)
        store.add([new_track(broken[0] - 1)])
        with store.snapshot() as snapshot:
            assert check(snapshot) == []
            assert snapshot.track(broken[0]).backends == ("one",)
            assert_answers(snapshot, broken[0] - 1)


def reads(index: Any, track_id: int) -> bool:
    try:
        return bool(len(index.evidence(track_id).frames))
    except StoreError:
        return False


@pytest.mark.parametrize("table", ["tracks", "paths", "content", "failures", "tombstones", "tails"])
def test_a_damaged_record_is_dropped_and_the_rest_made_to_agree(table, tmp_path):
    folder = make(tmp_path / "store", 6)
    with Store.open(folder, write=True) as store:
        store.flush()
        store.add([new_track(6), new_track(7)])
        store.remove([2])
        store.record_failures([Failure("/music/broken", 1, 2, "it is broken")])
        with store.snapshot() as snapshot:
            key, value = next(iter(snapshot.catalogue.values(table)))
            broken = bytes(value[:-1]) + bytes([value[-1] ^ 1])
        store._change(lambda catalogue: catalogue.txn.put(TABLES[table] + key, broken))
        assert store.check() != []
        assert store.repair()
        assert store.check() == []
        store.add([new_track(number) for number in range(8)])
        store.compact()
        assert store.check() == []
        with store.snapshot() as snapshot:
            assert len(snapshot) == 8
            for number in range(8):
                assert_answers(snapshot, number)


def n_records(data: Path) -> int:
    """Count what LMDB finds; negative: the signal that ends it."""
    child = os.fork()
    if child == 0:
        opened = lmdb.open(str(data), subdir=False, readonly=True, lock=False)
        with opened.begin(buffers=True) as txn:
            os._exit(sum(len(bytes(value)) > 0 for _, value in txn.cursor()) % 256)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("where", ["header", "slots", "nodes"])
def test_what_the_walk_lets_pass_lmdb_can_read(where, tmp_path):
    folder = make(tmp_path / "store", 40)
    (data,) = folder.glob("*.mdb")
    with Store.open(folder) as store, store.snapshot() as snapshot:
        newest = snapshot.catalogue.txn.id()
    assert fault_of(data, newest, None) == ""
    assert not verify(data, subdir=False)
    expected, content, kinds = n_records(data), data.read_bytes(), pages_of(data)
    outcomes = set()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        in_page(str(rng.choice(sorted(set(kinds) - {"meta"}))), where)(folder, rng)
        fault = fault_of(data, newest, None)
        outcomes.add(bool(fault))
        assert fault or n_records(data) == expected
        data.write_bytes(content)
    assert True in outcomes


def test_a_crash_is_told_in_one_line(broken):
    (data,) = broken.glob("data-*.mdb")
    done = afp("ls", db=broken, before=lambda: crash_on_the_first_read(data))
    assert done.status == ExitCode.STORE
    assert done.err.startswith("afp: error: ended by SIGBUS")
    assert "`afp check`" in done.err


def crash_on_the_first_read(data: Path) -> None:
    """Let the file lose its end once it is open, as does a disk that cannot be read any more."""
    walked = environment.fault_of

    def cut(path: Path, *arguments: Any) -> str:
        found = walked(path, *arguments)
        os.truncate(data, 8192)
        return found

    environment.fault_of = cut
