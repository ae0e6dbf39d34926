"""A store on a broken disk: what is damaged is told, and never answered from."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import excerpt, write_wav
from forked import Done, afp

from afp.errors import ExitCode
from afp.library import index
from afp.store import Failure, Store
from afp.store.catalogue import TABLES
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

    def hold(self, store: Path, work: Path) -> list[bool]:
        """Run every command, each that changes something on a copy; tell which refused."""
        refused = [
            right_or_refused(self.query(store, backend), answer, self.identified)
            for backend, answer in self.answers.items()
        ]
        refused.append(right_or_refused(afp("ls", "--json", db=store), self.tracks, self.listed))
        refused.append(
            right_or_refused(afp("stats", "--json", db=store), self.counts, self.counted)
        )
        check = afp("check", db=store)
        assert "Traceback" not in check.err, check
        assert check.status in (0, ExitCode.STORE), check
        refused.append(check.status != 0)
        for number, change in enumerate((("index", self.music), ("compact",), ("rm", "3"))):
            copy = work / f"{number}"
            shutil.copytree(store, copy)
            done = afp(*change, db=copy)
            refused.append(right_or_refused(done, None, lambda done: None, 3))
            if done.status == 0:
                right_or_refused(self.query(copy, "shazam"), self.answers["shazam"], self.identified)
            shutil.rmtree(copy)
        # What `check` finds whole serves every command.
        assert check.status != 0 or not any(refused)
        return refused


@pytest.fixture(scope="session")
def truth(library) -> Truth:
    return Truth(library)
