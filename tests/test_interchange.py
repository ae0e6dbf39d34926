"""Export and import: the stream's format, what strangers may write into one, and what comes in."""

import json
import re
import struct
import tempfile
import tracemalloc
import zlib
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp import backends
from afp.errors import AfpError, InputError, StoreError, UsageError
from afp.fingerprint import Evidence, Fingerprint
from afp.library import receiver
from afp.library.receiver import TransferReport
from afp.library.transfer import export, import_tracks, merge
from afp.store import NewTrack, Store, forward, interchange, packing, read_tracks
from afp.store.check import check
from afp.store.postings import mix, unmix

MADE_WITH = {name: backends.create(name) for name in ("shazam", "philips")}
KINDS = dict.fromkeys(MADE_WITH, (0, 0))
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # flushing a disk takes most time
U32 = st.integers(0, (1 << 32) - 1)


def evidence_print(seed, n=50, n_frames=300):
    rng = np.random.default_rng(seed)

    def sorted_frames(n):
        return np.sort(rng.integers(0, n_frames, n)).astype(np.uint32)

    hashes = rng.integers(0, 1 << 22, n).astype(np.uint32)
    values = rng.integers(0, 400, n // 2).astype(np.uint32)
    evidence = Evidence(sorted_frames(n // 2), values)
    return Fingerprint(n_frames, sorted_frames(n), hashes, evidence=evidence)


def new_track(number, names=("shazam",), **changes):
    values = {
        "content_id": f"{number:032x}",
        "path": f"/music/{number}",
        "duration_seconds": 9.5,
        "title": f"Song {number}",
        "size": number,
        "mtime_ns": 10**18 + number,
        "fingerprints": {name: evidence_print(number) for name in names},
    }
    return NewTrack(**{**values, **changes})


@contextmanager
def writing(folder, names=("shazam", "philips")):
    with Store.open(folder, write=True) as store:
        for name in names:
            made = MADE_WITH[name]
            store.register(
                name,
                version=made.version,
                parameters=made.parameters(),
                hop_seconds=made.hop_seconds,
            )
        yield store


def make(folder, tracks):
    with writing(folder) as store:
        store.add(tracks)
    return folder


def exported(folder, **options):
    lines = []
    with Store.open(folder) as store, store.snapshot() as snapshot:
        export(snapshot, lines.append, **options)
    return b"".join(lines)


def imported(folder, stream, **options):
    """Import a stream; return the report."""
    report = options.pop("report", TransferReport())
    with tempfile.TemporaryFile() as file:
        file.write(stream)
        file.seek(0)
        import_tracks(folder, file.fileno(), "x.afp", report=report, **options)
    return report


def contents(folder):
    """Everything that counts of a store, without ids."""
    with Store.open(folder) as store, store.snapshot() as snapshot:
        assert check(snapshot) == []
        return {
            track.content_id: (
                replace(track, id=0, backends=tuple(sorted(track.backends))),
                {
                    name: (fp.n_frames, fp.frames.tolist(), fp.hashes.tolist(), fp.payload)
                    for tracks in read_tracks(snapshot, [track.id], list(snapshot.backends))
                    for name, fp in tracks[0].fingerprints.items()
                },
            )
            for track in snapshot.tracks()
        }


def signed(value):
    """Put the checksum that is right before whatever a stranger writes."""
    rest = json.dumps(value, separators=(",", ":")).encode()[1:]
    return b'{"crc32":"%08x",%b\n' % (zlib.crc32(rest), rest)


def values_of(stream):
    values = [json.loads(line) for line in stream.splitlines()]
    for value in values:
        del value["crc32"]
    return values


# The forward index


@given(st.lists(U32))
def test_unmix_undoes_mix(hashes):
    array = np.array(hashes, np.uint32)
    np.testing.assert_array_equal(unmix(mix(array)), array)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_tracks_are_read_back_from_segments_and_tails(tmp_path, monkeypatch, chunk):
    """In any order on the axis, beside removed tracks, and however many at a time."""
    monkeypatch.setattr(forward, "CHUNK_TRACKS", chunk)
    made = {i: new_track(i) for i in range(30)}
    with writing(tmp_path / "store") as store:
        store.add([made[i] for i in range(20)])
        shuffled = np.random.default_rng(1).permutation(30).tolist()
        for i in range(20, 30):
            store.add([made[i]])
        # Philips' index has the tracks in another order than their numbers.
        store.add([replace(made[i], fingerprints={"philips": evidence_print(100 + i)})
                   for i in shuffled[:25]])  # fmt: skip
        ids = {track.content_id: track.id for track in store.snapshot().tracks()}
        store.remove([ids[made[i].content_id] for i in (3, 4, 22)])
        for i in (3, 4, 22):
            del made[i]
        expected = {
            made[i].content_id: {
                "shazam": evidence_print(i),
                **({"philips": evidence_print(100 + i)} if i in shuffled[:25] else {}),
            }
            for i in made
        }
        with store.snapshot() as snapshot:
            wanted = [track.id for track in snapshot.tracks()]
            read = [
                track
                for tracks in read_tracks(snapshot, wanted, ["shazam", "philips"])
                for track in tracks
            ]
    assert [ids[track.content_id] for track in read] == wanted
    for track in read:
        assert track.fingerprints.keys() == expected[track.content_id].keys()
        for name, found in track.fingerprints.items():
            original = expected[track.content_id][name]
            order = np.lexsort((mix(original.hashes), original.frames))
            np.testing.assert_array_equal(found.frames, original.frames[order])
            np.testing.assert_array_equal(found.hashes, original.hashes[order])
            assert found.payload == packing.pack(original)


def test_no_more_is_read_back_than_asked_for(tmp_path):
    """Tracks that are asked for may lie at both ends of a large index."""
    with writing(tmp_path / "store") as store:
        store.add([new_track(i) for i in range(20)])
        with store.snapshot() as snapshot:
            (segment,) = snapshot.segments.values()
            keys = forward._by_position(segment, np.array([0, 19]))
            assert len(keys) == segment.axis.counts[[0, 19]].sum()


def test_a_damaged_segment_is_not_read_back(tmp_path):
    folder = make(tmp_path / "store", [new_track(i) for i in range(20)])
    (segment,) = (folder / "segments").iterdir()
    content = bytearray(segment.read_bytes())
    content[-1500] ^= 1
    segment.write_bytes(content)
    with pytest.raises(StoreError, match="fail their checksum"):
        exported(folder)
    with pytest.raises(StoreError, match="fail their checksum"):
        merge(tmp_path / "new", [folder], report=TransferReport())


# The same in the end

tracks_strategy = st.lists(
    st.tuples(
        st.integers(0, 40),  # content
        st.sets(st.sampled_from(["shazam", "philips"])),
        st.sampled_from(["/a b", "/\udcff\n\x1b[31m", "/ü/音楽", "/" + "long/" * 300, "/e", "/f"]),
        st.integers(0, 60),  # postings
        st.sampled_from([None, "Tïtle \x1b\u202e", ""]),
        st.integers(-(1 << 63), (1 << 63) - 1),  # mtime
        st.sampled_from([None, "it ends at 0:08"]),
        st.booleans(),  # flush behind it
    ),
    max_size=8,
)


@settings(max_examples=20)
@given(tracks_strategy, st.data())
def test_export_import_export_gives_the_same_lines(added, data):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        one, other = Path(name, "one"), Path(name, "other")
        with writing(one) as store:
            for content, names, path, n, title, mtime, partial, flush in added:
                prints = {each: evidence_print(content, n) for each in names}
                store.add([NewTrack(f"{content:x}", path, 0.1 + n, title, size=n, mtime_ns=mtime,
                                    partial=partial, fingerprints=prints)])  # fmt: skip
                if flush:
                    store.flush()
            ids = [track.id for track in store.snapshot().tracks()]
            store.remove(data.draw(st.lists(st.sampled_from(ids))) if ids else [])
        stream = exported(one)
        report = imported(other, stream)
        assert contents(other) == contents(one)
        assert exported(other) == stream
        assert report.added == len(contents(one)) and not report.renamed
        assert imported(other, stream).known == report.added


@given(
    n=st.integers(0, 6),
    kind=st.sampled_from(["postings", "evidence", "embeddings", "cells"]),
    data=st.data(),
)
def test_fingerprints_of_all_kinds_come_back_to_the_bit(n, kind, data):
    frames = np.array(sorted(data.draw(st.sets(st.integers(0, 5000), min_size=n, max_size=n))))
    frames = frames.astype(np.uint32)
    hashes = np.array(data.draw(st.lists(U32, min_size=n, max_size=n)), np.uint32)
    fingerprint = Fingerprint(data.draw(st.integers(0, 6000)), frames, hashes)
    if kind == "evidence":
        fingerprint = replace(fingerprint, evidence=Evidence(frames[::2], hashes[::2]))
    elif kind != "postings":
        finite = st.floats(-1, 1, width=16)
        vectors = data.draw(st.lists(st.tuples(*[finite] * 3), min_size=n, max_size=n))
        vectors = np.array(vectors, np.float32).reshape(n, 3)
        cells = hashes if kind == "cells" else None
        fingerprint = replace(fingerprint, hashes=cells, vectors=vectors)
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        one, other = Path(name, "one"), Path(name, "other")
        with Store.open(one, write=True) as store:
            store.register("any", version=1, parameters={}, hop_seconds=0.01)
            store.add([NewTrack("ab", "/a", 1.0, fingerprints={"any": fingerprint})])
        merge(other, [one], report=TransferReport())
        assert contents(one) == contents(other)
        with Store.open(one) as store, store.snapshot() as snapshot:
            ((track,),) = read_tracks(snapshot, [1], ["any"])
        header = interchange.header_line(interchange.Header(1, snapshot.backends))
        line = interchange.track_line(track)
        pieces = iter([header, line, interchange.end_line(1), b""])
        stream = interchange.TrackStream(lambda: next(pieces), "x")
        stream.accepted = {"any": packing.kind_of(track.fingerprints["any"].payload)}
        (read,) = stream
        assert interchange.track_line(read) == line
        found, expected = read.fingerprints["any"], track.fingerprints["any"]
        np.testing.assert_array_equal(found.frames, expected.frames)
        np.testing.assert_array_equal(found.hashes, expected.hashes)


# What is there already


def test_what_the_store_has_stays(tmp_path):
    mine = make(tmp_path / "mine", [new_track(1, title="Mine", path="/mine/1"), new_track(9)])
    before = contents(mine)
    theirs = make(
        tmp_path / "theirs",
        [new_track(1, ("shazam", "philips"), title="Theirs"), new_track(2, ("philips",))],
    )
    report = imported(mine, exported(theirs))
    assert (report.added, report.extended, report.known) == (1, 1, 0)
    after = contents(mine)
    track, prints = after[f"{1:032x}"]
    assert (track.title, track.path) == ("Mine", "/mine/1")
    assert track.backends == ("philips", "shazam")
    assert prints["philips"] == contents(theirs)[f"{1:032x}"][1]["philips"]
    assert after[f"{9:032x}"] == before[f"{9:032x}"]
    assert imported(mine, exported(theirs)).known == 2
    assert contents(mine) == after


@pytest.mark.parametrize("way", ["import", "merge"])
def test_a_path_that_leads_to_another_track_here_is_kept_beside_it(tmp_path, way):
    mine = make(tmp_path / "mine", [new_track(1, path="/music/a.wav")])
    with writing(tmp_path / "theirs") as store:
        store.add([new_track(2, path="/music/a.wav")])
        store.add([new_track(3, path="/music/b.wav")])
        store.add([new_track(3, path="/music/a copy.wav")])
    report = TransferReport()
    if way == "import":
        imported(mine, exported(tmp_path / "theirs"), report=report)
    else:
        merge(mine, [tmp_path / "theirs"], report=report)
    kept = f"/music/a.wav#{2:032x}"
    assert report.renamed == [("/music/a.wav", kept)]
    found = {int(content, 16): track.path for content, (track, _) in contents(mine).items()}
    assert found == {1: "/music/a.wav", 2: kept, 3: "/music/a copy.wav"}
    with Store.open(mine) as store, store.snapshot() as snapshot:
        assert {*snapshot.paths()} == {*found.values(), "/music/b.wav"}


def test_a_path_that_is_taken_twice_over_is_no_obstacle(tmp_path):
    squatted = f"/music/1#{2:032x}"
    mine = make(tmp_path / "mine", [new_track(1), new_track(5, path=squatted)])
    theirs = make(tmp_path / "theirs", [new_track(2, path="/music/1")])
    assert imported(mine, exported(theirs)).renamed == [("/music/1", f"{squatted}#")]
    assert len(contents(mine)) == 3


def test_some_backends_and_tracks_alone(tmp_path):
    folder = make(
        tmp_path / "store",
        [new_track(1, ("shazam", "philips")), new_track(2), new_track(3, ("philips",))],
    )
    header, *lines, end = values_of(exported(folder, backends=["philips"]))
    assert list(header["backends"]) == ["philips"]
    assert [line["title"] for line in lines] == ["Song 1", "Song 3"]
    assert header["tracks"] == end["end"] == 2
    assert len(values_of(exported(folder, track_ids=[2]))) == 3
    report = imported(tmp_path / "new", exported(folder), backends=["shazam"])
    assert report.added == 3
    assert contents(tmp_path / "new")[f"{1:032x}"][1].keys() == {"shazam"}
    with pytest.raises(UsageError, match="holds no index of backend 'neural'"):
        exported(folder, backends=["neural"])
    with pytest.raises(UsageError, match=r"x\.afp has nothing of backend 'neural'"):
        imported(tmp_path / "new", exported(folder), backends=["neural"])


# Other parameters


def changed_header(stream, change):
    header, *rest = values_of(stream)
    change(header)
    return b"".join(map(signed, [header, *rest]))


def of_shazam(name, value):
    def change(header):
        backend = header["backends"]["shazam"]
        (backend if name in backend else backend["parameters"])[name] = value

    return change


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_shazam("version", 2), "'shazam' is of version 1, this is version 2"),
        (of_shazam("hop_seconds", 0.5), r"hop_seconds 0\.032, not 0\.5"),
        (of_shazam("new", 1), "new None, not 1"),
        (of_shazam("density", 1e300), r"density 94\.0, not 1e\+300"),
    ],
)
def test_what_was_made_otherwise_is_refused(tmp_path, existing, change, message):
    stream = exported(make(tmp_path / "store", [new_track(1)]))
    target = tmp_path / "target"
    if existing:
        make(target, [new_track(2)])
    with pytest.raises(StoreError, match=message) as caught:
        imported(target, changed_header(stream, change))
    assert "another store" in caught.value.hint
    if existing:
        assert contents(target).keys() == {f"{2:032x}"}
    else:
        assert not target.exists()


def test_numbers_of_a_stream_make_a_new_store(tmp_path):
    stream = exported(make(tmp_path / "store", [new_track(1)]))
    stream = changed_header(stream, of_shazam("density", 50.0))
    imported(tmp_path / "new", stream)
    with Store.open(tmp_path / "new") as store:
        assert store.backends()["shazam"].parameters["density"] == 50.0
    with pytest.raises(StoreError, match=r"density 94\.0, not 50\.0"):
        imported(tmp_path / "store", stream)


def test_a_file_that_a_stream_names_is_not_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("whose digest a message would tell")
    neural = backends.create("neural")
    parameters = {**neural.parameters(), "model": str(secret), "weights": "0" * 16}
    header = {
        "format": "afp tracks",
        "version": 1,
        "tracks": 0,
        "backends": {
            "neural": {
                "version": 1,
                "parameters": parameters,
                "hop_seconds": neural.hop_seconds,
            }
        },
    }
    with pytest.raises(StoreError, match=r"weights '[0-9a-f]{16}', not '0000000000000000'"):
        imported(tmp_path / "new", signed(header) + signed({"end": 0}))
    # The same model may lie elsewhere.
    parameters["weights"] = neural.weights
    imported(tmp_path / "new", signed(header) + signed({"end": 0}))
    with Store.open(tmp_path / "new") as store:
        assert store.backends()["neural"].parameters == neural.parameters()


def test_an_unknown_backend_is_refused(tmp_path):
    stream = exported(make(tmp_path / "store", [new_track(1)]))
    evil = "evil\x1b[31m"
    stream = changed_header(
        stream, lambda header: header["backends"].update({evil: header["backends"]["shazam"]})
    )
    with pytest.raises(UsageError, match=r"backend 'evil.*' is not here"):
        imported(tmp_path / "new", stream)
    assert imported(tmp_path / "new", stream, backends=["shazam"]).added == 1


# Broken and hostile streams


def packed_header(kind, frames, values, coding, n_frames, n):
    return struct.pack("<BBBBII", kind, frames, values, coding, n_frames, n)


def plane(data):
    return struct.pack("<I", len(data)) + data


BOMB = zlib.compress(bytes(1 << 26), 9)
HOSTILE = [
    (["content_id"], "../../etc", "content_id is no hash"),
    (["content_id"], 7, "content_id is no text"),
    (["content_id"], "a" * 65, "content_id is no hash"),
    (["seconds"], float("nan"), "NaN is no number"),
    (["seconds"], float("inf"), "Infinity is no number"),
    (["seconds"], 10**400, "seconds is no number, or out of bounds"),
    (["seconds"], -1, "out of bounds"),
    (["seconds"], True, "seconds is no number"),
    (["title"], ["x"], "title is no text"),
    (["title"], "x" * 70_000, "title is no text, or too long"),
    (["artist"], "\ud800", "surrogates not allowed"),
    (["files"], [], "files is no list"),
    (["files"], {}, "files is no list"),
    (["files", 0], ["/a", 1], "a file is not"),
    (["files", 0, 0], "", "a path is none"),
    (["files", 0, 0], "/a\0b", "a path is none"),
    (["files", 0, 0], "/\udbff", "surrogates not allowed"),
    (["files", 0, 1], -1, "a size is no whole number"),
    (["files", 0, 1], True, "a size is no whole number"),
    (["files", 0, 2], 1 << 63, "a time is no whole number"),
    (["files", 0, 2], 1.5, "a time is no whole number"),
    (["more"], 1, "'more' is not known"),
    (["fingerprints"], [], "fingerprints is no object"),
    (["fingerprints", "neural"], {}, "no backend 'neural'"),
    (["fingerprints", "shazam"], 7, "shazam is no object"),
    (["fingerprints", "shazam"], {"packed": "!"}, "base64|padding"),
    (["fingerprints", "shazam", "packed"], "", "cannot be unpacked"),
    (["fingerprints", "shazam", "packed"], "é", "ASCII"),
    (["fingerprints", "shazam", "packed"], packed_header(9, 0, 0, 0, 1, 0), "a kind"),
    # Four thousand million values from ten bytes, and from a bomb.
    (["fingerprints", "shazam", "packed"], packed_header(0, 0, 0, 0, 1, 0xFFFFFFFF), "the most"),
    (
        ["fingerprints", "shazam", "packed"],
        packed_header(0, 1, 0, 0, 1, 1000) + plane(BOMB),
        "not as long as",
    ),
    (["fingerprints", "shazam", "packed"], packed_header(0, 9, 0, 0, 1, 0), "too wide"),
    (["fingerprints", "shazam", "packed"], packed_header(0, 0, 0, 7, 1, 0), "coded in a way"),
    (["fingerprints", "shazam", "packed"], packed_header(0, 0, 0, 0, 1, 0) + b"x", "length is"),
    (["fingerprints", "shazam", "packed"], packed_header(0, 0, 0, 0, 1 << 31, 0), "too many"),
    # Frames that wrap around, and such that no track has.
    (
        ["fingerprints", "shazam", "packed"],
        packed_header(0, 4, 0, 0, 1, 2) + 4 * plane(b"\xff\xff"),
        "out of order",
    ),
    (
        ["fingerprints", "shazam", "postings"],
        packed_header(1, 4, 0, 0, 1, 1) + 4 * plane(b"\x7f"),
        "out of order, or too many",
    ),
    (["fingerprints", "shazam", "postings"], packed_header(0, 0, 0, 0, 1, 0), "postings are none"),
    (["fingerprints", "shazam", "postings"], None, "postings: is no text|is no text"),
    # Of another kind than the index: embeddings, which a query would read as its own.
    (
        ["fingerprints", "shazam", "packed"],
        struct.pack("<BxxxIIIf", 2, 5, 0, 128, 1.0).ljust(60, b"\0"),
        "not of the kind of 'shazam'",
    ),
    (
        ["fingerprints", "shazam", "packed"],
        struct.pack("<BxxxIIIf", 2, 5, 0, 128, float("nan")).ljust(60, b"\0"),
        "scale nan",
    ),
    (
        ["fingerprints", "shazam", "packed"],
        struct.pack("<BxxxIIIf", 2, 5, 1 << 30, 1 << 31, 1.0).ljust(60, b"\0"),
        "cut short",
    ),
]


def with_value(value, path, new):
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = b64encode(new).decode() if isinstance(new, bytes) else new


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Three tracks."""
    return exported(make(tmp_path_factory.mktemp("s") / "store", [new_track(i) for i in range(3)]))


@pytest.mark.parametrize(("path", "new", "message"), HOSTILE)
def test_a_hostile_line_is_refused_in_one_line(tmp_path, stream, path, new, message):
    header, first, second, third, end = values_of(stream)
    with_value(second, path, new)
    report = TransferReport()
    with pytest.raises(InputError, match=rf"^x\.afp: line 3: .*({message})") as caught:
        imported(
            tmp_path / "new", b"".join(map(signed, (header, first, second, third, end))),
            report=report,
        )  # fmt: skip
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    # What came before is there, and the same command with the right stream goes on.
    assert report.added == 1
    assert contents(tmp_path / "new").keys() == {f"{0:032x}"}
    report = imported(tmp_path / "new", stream)
    assert (report.added, report.known) == (2, 1)


def test_a_bomb_takes_no_memory():
    payload = packed_header(0, 1, 0, 0, 1, 1000) + plane(BOMB)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="not as long as"):
            packing.unpack(memoryview(payload))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[: len(s) // 2], "line 3: it is cut short"),
        (lambda s: s[:-1], "line 5: it is cut short"),
        (lambda s: s[: s.rindex(b"{")], "line 5: the stream is cut short: it has no end"),
        (lambda s: s[: s.index(b"\n") + 1], "line 2: the stream is cut short"),
        (lambda s: b"", "line 1: the stream is cut short"),
        (lambda s: s.replace(b"Song 1", b"Song 7"), "line 3: its checksum does not fit"),
        (lambda s: s.replace(b"\n", b"\r\n"), "line 1: it is cut short"),
        (lambda s: s + b"x\n", "something behind the end"),
        (lambda s: s + s, "something behind the end"),
        (lambda s: b"".join(s.splitlines(True)[:2] + s.splitlines(True)[3:]), "3 tracks, and 2 ha"),
        (lambda s: b"RIFF\x00\x00\xff\xfeWAVE" * 9, "line 1: it is none that afp export wrote"),
        (lambda s: signed({"format": "x"}) + s, "line 1: it is not the header"),
        (lambda s: b"".join(s.splitlines(True)[1:]), "line 1: it is not the header"),
        (
            lambda s: signed({**values_of(s)[0], "version": 2}),
            "line 1: the stream is of version 2, and this afp reads version 1",
        ),
        (
            lambda s: (
                s[: s.index(b"\n") + 1] + signed(json.loads('{"a":' + "[" * 900 + "]" * 900 + "}"))
            ),
            "line 2: ",
        ),
        (
            lambda s: b'{"crc32":"%08x",%b\n' % (zlib.crc32(deep := b"[" * 10**6 + b"}"), deep),
            "line 1: ",
        ),
    ],
)
def test_a_broken_stream_is_refused(tmp_path, stream, change, message):
    with pytest.raises(InputError, match=re.escape(f"x.afp: {message}") if message.startswith(
        "line") else message):  # fmt: skip
        imported(tmp_path / "new", change(stream))


def test_a_line_without_end_is_not_read_whole(monkeypatch):
    monkeypatch.setattr(interchange, "MOST_LINE_BYTES", 1 << 16)
    n_read = 0

    def read():
        nonlocal n_read
        n_read += 1
        return b"x" * 4096

    with pytest.raises(InputError, match="line 1: it is longer than 65536 bytes"):
        interchange.TrackStream(read, "x")
    assert n_read <= (1 << 16) // 4096 + 1


def test_a_track_that_is_too_long_for_a_line_is_left_out(tmp_path, monkeypatch):
    folder = make(tmp_path / "store", [new_track(1), new_track(2)])
    monkeypatch.setattr(interchange, "MOST_VALUES", 300)
    lines = []
    with Store.open(folder) as store, store.snapshot() as snapshot:
        (first, second) = export(snapshot, lines.append)
    assert "/music/1 is too long for a line" in first and "/music/2" in second
    assert [value for value in values_of(b"".join(lines)) if "end" in value] == [{"end": 0}]


@settings(max_examples=80)
@given(st.data())
def test_whatever_is_changed_in_a_line_is_refused_or_harmless(stream, data):
    """With checksums that are right: the store stays sound, and nothing but our errors comes."""
    header, first, *rest = values_of(stream)
    name = data.draw(st.sampled_from(["packed", "postings"]))
    packed = bytearray(b64decode(first["fingerprints"]["shazam"][name]))
    for _ in range(data.draw(st.integers(1, 4))):
        # The beginning, where the sizes are, more often.
        at = data.draw(st.one_of(st.integers(0, 15), st.integers(0, len(packed) - 1)))
        packed[at] = data.draw(st.integers(0, 255))
    del packed[data.draw(st.one_of(st.just(len(packed)), st.integers(0, len(packed)))) :]
    first["fingerprints"]["shazam"][name] = b64encode(packed).decode()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder, "new")
        try:
            imported(path, b"".join(map(signed, [header, first, *rest])))
        except AfpError:
            return
        with Store.open(path) as store, store.snapshot() as snapshot:
            assert store.look(lambda catalogue: catalogue.count("tracks")) == 3
            for track in snapshot.tracks():
                evidence = snapshot.index("shazam").evidence(track.id)
                assert np.all(evidence.frames[1:] >= evidence.frames[:-1])


@settings(max_examples=100)
@given(st.data())
def test_any_bytes_are_refused_or_harmless(stream, data):
    content = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if content == stream:
        return
    pieces = iter([bytes(content), b""])
    with pytest.raises(InputError, match=r"x: line \d: "):
        tracks = interchange.TrackStream(lambda: next(pieces), "x")
        tracks.accepted = KINDS
        list(tracks)


def test_the_same_content_twice_in_a_stream(tmp_path, stream):
    header, first, _, third, _ = values_of(stream)
    again = {**first, "title": "Again", "files": [["/elsewhere", 1, 1]]}
    lines = [header, first, again, third, {"end": 3}]
    report = imported(tmp_path / "new", b"".join(map(signed, lines)))
    assert (report.added, report.known) == (2, 1)
    assert contents(tmp_path / "new")[f"{0:032x}"][0].title == "Song 0"


def test_batches_are_bounded(tmp_path, stream, monkeypatch):
    monkeypatch.setattr(receiver, "BATCH_TRACKS", 2)
    seen = []
    imported(tmp_path / "new", stream, observer=lambda report: seen.append(report.n_done))
    assert seen == [2, 3]
    # Packed fingerprints count too: a stranger's may have many peaks, and hardly a posting.
    pieces = iter([stream, b""])
    tracks = interchange.TrackStream(lambda: next(pieces), "x")
    tracks.accepted = KINDS
    fingerprints = [each for track in tracks for each in track.fingerprints.values()]
    n_bytes = [8 * len(each.frames) + len(each.payload) for each in fingerprints]
    monkeypatch.setattr(receiver, "BATCH_TRACKS", 100)
    monkeypatch.setattr(receiver, "BATCH_BYTES", sum(n_bytes[:2]))
    seen.clear()
    imported(tmp_path / "newer", stream, observer=lambda report: seen.append(report.n_done))
    assert seen == [2, 3]
