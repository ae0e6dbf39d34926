"""Rows: to JSON and back, files of them, several runs put together."""

import gzip
import json
import os
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.bench import fields
from afp.bench.rows import PRESENT, About, Answer, Row, Truth, join, line, read_rows, write_rows
from afp.errors import InputError, UsageError

BACKEND = {
    "version": 2,
    "parameters": {"density": 30.0, "mode": "fast"},
    "bytes_per_second": 201.5,
    "index_cpu_seconds": 12.5,
    "index_wall_seconds": 6.25,
}
ABOUT = About(
    afp="0.1.0",
    date="2025-01-31",
    command="afp bench --distort noise:snr=0",
    machine={"processor": "Z80", "cores": 2},
    seed=7,
    max_p=1e-3,
    tracks=90,
    absent_tracks=10,
    silent=2,
    seconds=21600.5,
    backends={"shazam": BACKEND},
)
ROW = Row(
    backend="shazam",
    version=2,
    parameters={"density": 30.0},
    condition="noise:snr=0..10",
    distortion="noise",
    severity={"snr": "0..10"},
    seconds=5.0,
    kind=PRESENT,
    number=3,
    seed=7,
    source="music/\udcff\udcfe.mp3",
    start=12.5,
    truth=Truth("aa", 12.3456, 1.02),
    answers=(Answer("aa", "music/\udcff\udcfe.mp3", 12.3, 17.25, 1.01e-9),),
    drawn={"snr": 3.25, "file": "rain.wav"},
    distort_ms=1.5,
    query_ms=20.1,
    query_cpu_ms=19.9,
)
ABSENT = replace(ROW, kind="speech", truth=None, answers=(), error="no audio")

texts = st.text(max_size=8)
paths = st.binary(max_size=8).map(os.fsdecode)
floats = st.floats(-1e6, 1e6)
settings = st.dictionaries(texts, floats | texts, max_size=2)
answers = st.builds(
    Answer, texts, paths, start=floats, score=floats, p_false=st.floats(0, 1), speed=floats
)
truths = st.builds(Truth, texts, start=floats, speed=floats)


@st.composite
def any_row(draw):
    truth = draw(st.none() | truths)
    return Row(
        *(draw(texts), draw(st.integers()), draw(settings)),
        *(draw(texts), draw(texts), draw(settings)),
        seconds=draw(floats),
        kind="music" if truth is None else PRESENT,
        number=draw(st.integers()),
        seed=draw(st.integers()),
        source=draw(paths),
        start=draw(st.floats(0, 1e5)),
        truth=truth,
        answers=tuple(draw(st.lists(answers, max_size=3))),
        drawn=draw(settings),
        error=draw(st.none() | texts),
        distort_ms=draw(floats),
        query_ms=draw(floats),
        query_cpu_ms=draw(floats),
    )


@given(any_row())
def test_a_row_survives_its_line_and_rounding_happens_once(row):
    text = line(row)
    assert text.isascii() and text.count("\n") == 1
    back = Row.from_json(json.loads(text))
    assert line(back) == text
    assert Row.from_json(json.loads(line(back))) == back
    assert (back.source, back.truth is None, len(back.answers)) == (
        row.source,
        row.truth is None,
        len(row.answers),
    )
    assert back.seconds == pytest.approx(row.seconds, abs=5.1e-5)
    assert back.query_ms == pytest.approx(row.query_ms, abs=0.051)


def test_exact_rows_come_back_as_they_were():
    for row in (ROW, ABSENT):
        assert Row.from_json(json.loads(line(row))) == row
    assert About.from_json(json.loads(line(ABOUT))["about"]) == ABOUT


def test_numbers_are_rounded():
    long = replace(
        ROW,
        seconds=5.00004,
        truth=Truth("aa", 1 / 3),
        answers=(Answer("aa", "a", 2 / 3, 1234.56789, 1.0000001e-3, 1.00000049),),
        query_ms=20.149,
    )
    value = long.to_json()
    assert (value["seconds"], value["query_ms"], value["truth"]["start"]) == (5.0, 20.1, 0.3333)
    assert value["answers"] == [
        {"track": "aa", "path": "a", "start": 0.6667, "score": 1234.57, "p_false": 1.01e-3}
        | {"speed": 1.0}
    ]


@given(st.floats(0, 1), st.integers(100, 999), st.integers(3, 12))
def test_a_rounded_p_stays_on_its_side_of_a_threshold(p, digits, power):
    threshold = float(f"{digits}e-{power}")
    for value in (p, p * threshold, threshold):
        kept = fields.p_false(value)
        assert kept >= value
        assert Fraction(kept) <= Fraction(value) * Fraction(1011, 1000) or value < 1e-300
        assert (kept <= threshold) == (value <= threshold)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_file_gives_back_its_rows_and_is_reproducible(tmp_path, name):
    path = tmp_path / name
    write_rows(path, ABOUT, iter([ROW, ABSENT]))
    first = path.read_bytes()
    assert read_rows(path) == (ABOUT, [ROW, ABSENT])
    os.utime(path, (0, 0))
    write_rows(path, *read_rows(path))
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_json_lines_with_the_run_first(tmp_path):
    write_rows(tmp_path / "a.gz", ABOUT, [ROW])
    about, row = gzip.decompress((tmp_path / "a.gz").read_bytes()).splitlines()
    assert list(json.loads(about)) == ["about"]
    assert set(json.loads(row)) == set(Row.__slots__)
    assert set(json.loads(about)["about"]) == set(About.__slots__)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, ABOUT, [ROW])
    broken = replace(ROW, query_ms=float("nan"))
    with pytest.raises(ValueError, match="query_ms: nan is no number"):
        write_rows(path, ABOUT, [ROW, broken])
    assert read_rows(path) == (ABOUT, [ROW])
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"none/a\.jsonl cannot be written: No such file"):
        write_rows(tmp_path / "none" / "a.jsonl", ABOUT, [])


def changed(row, **changes):
    value = json.loads(line(row))
    for name, change in changes.items():
        if change is ...:
            del value[name]
        else:
            value[name] = change
    return json.dumps(value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "it is no JSON"),
        ("", "it is no JSON"),
        ("\x00\x00", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[1]", r"\[1\] is no object"),
        (changed(ROW, seconds=...), "it lacks 'seconds'"),
        (changed(ROW, answers=...), "it lacks 'answers'"),
        (changed(ROW, seconds="5"), "seconds: '5' is no number"),
        (changed(ROW, seconds=True), "seconds: True is no number"),
        (changed(ROW, seconds=10**400), "seconds: 10+.* is no number"),
        (changed(ROW, seconds=0).replace('"seconds": 0', '"seconds": 1e999'), "1e999 is no number"),
        (changed(ROW, parameters={"a": float("nan")}), "NaN is no number"),
        (changed(ROW, number=1.5), r"number: 1\.5 is no integer"),
        (changed(ROW, backend=None), "backend: None is no text"),
        (changed(ROW, severity={"snr": []}), r"severity: \[\] is no number"),
        (changed(ROW, drawn=[]), r"drawn: \[\] is no object"),
        (changed(ROW, answers={}), r"answers: \{\} is no list"),
        (changed(ROW, answers=[{"track": "a"}]), "answers: it lacks 'path'"),
        (changed(ROW, truth={"track": "a", "start": 1}), "truth: it lacks 'speed'"),
        (changed(ROW, truth=None), "truth: None is none for a query of kind 'present'"),
        (changed(ROW, kind="music"), "truth: .* is none for a query of kind 'music'"),
        (line(ABOUT).strip(), "another run begins; give the files of several runs apart"),
        (changed(ROW, answers=[ROW.answers[0].to_json() | {"p_false": 1.5}]), "1.5 is no probabil"),
    ],
    ids=lambda text: text[:30],
)
def test_a_wrong_line_is_named(tmp_path, text, wrong):
    path = tmp_path / "rows.jsonl"
    path.write_text(line(ABOUT) + line(ROW) + text + "\n" + line(ROW))
    with pytest.raises(InputError, match=rf"rows\.jsonl: line 3: .*{wrong}") as caught:
        read_rows(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "is empty"),
        (line(ROW).encode(), "line 1: the first line does not tell 'about' the run"),
        (b'{"about": {}}\n', "line 1: it lacks 'afp'"),
        (b'{"about": 3}\n', "line 1: 3 is no object"),
        (b"\xff\xfe\n", "line 1: it is no JSON"),
        (
            line(ABOUT).replace('"bytes_per_second"', '"bytes"').encode(),
            "line 1: backends: it lacks 'bytes_per_second'",
        ),
    ],
)
def test_a_wrong_beginning_is_named(tmp_path, content, wrong):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=wrong):
        read_rows(path)


def test_what_cannot_be_read_is_told(tmp_path):
    with pytest.raises(InputError, match="none cannot be read: No such file"):
        read_rows(tmp_path / "none")
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"cannot be read: Not a gzipped file"):
        read_rows(path)
    write_rows(path, ABOUT, [ROW])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cannot be read: Compressed file ended"):
        read_rows(path)


@pytest.mark.parametrize("kept", [1, len(line(ROW)) // 2, len(line(ROW)) - 1])
def test_a_cut_last_line_is_left_out_only_when_allowed(tmp_path, kept):
    path = tmp_path / "rows.jsonl"
    path.write_text(line(ABOUT) + line(ABSENT) + line(ROW)[:kept])
    with pytest.raises(InputError, match="line 3: it is cut short"):
        read_rows(path)
    assert read_rows(path, allow_cut=True) == (ABOUT, [ABSENT])


@pytest.mark.parametrize("allow_cut", [False, True])
def test_a_cut_first_line_leaves_nothing(tmp_path, allow_cut):
    path = tmp_path / "rows.jsonl"
    path.write_text(line(ABOUT)[:50])
    with pytest.raises(InputError, match="line 1: it is cut short"):
        read_rows(path, allow_cut=allow_cut)


def test_runs_are_put_together():
    other_row = replace(ROW, backend="philips")
    other = replace(ABOUT, command="afp bench -b philips", backends={"philips": BACKEND})
    about, rows = join([(ABOUT, [ROW]), (other, [other_row])])
    assert about == replace(
        ABOUT,
        command="afp bench --distort noise:snr=0; afp bench -b philips",
        backends={"shazam": BACKEND, "philips": BACKEND},
    )
    assert rows == [ROW, other_row]
    assert join([(ABOUT, [ROW])]) == (ABOUT, [ROW])
    assert join([(ABOUT, [ROW]), (ABOUT, [ABSENT])]) == (ABOUT, [ROW, ABSENT])
    assert list(ABOUT.backends) == ["shazam"]


def test_variants_of_a_backend_are_told_apart():
    sparse = BACKEND | {"parameters": {**BACKEND["parameters"], "density": 20.5}}
    newer = BACKEND | {"version": 3}
    runs = [(replace(ABOUT, backends={"shazam": facts}), [ROW]) for facts in (BACKEND, sparse)]
    about, rows = join(runs)
    density = BACKEND["parameters"]["density"]
    names = [f"shazam density={density:g}", "shazam density=20.5"]
    assert list(about.backends) == [row.backend for row in rows] == names
    assert list(about.backends.values()) == [BACKEND, sparse]
    about, _ = join([runs[0], (replace(ABOUT, backends={"shazam": newer}), [ROW])])
    assert list(about.backends) == [f"shazam version {BACKEND['version']}", "shazam version 3"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"seed": 8}, "the runs differ in seed: 7 and 8"),
        ({"max_p": 0.01}, r"the runs differ in max_p: 0\.001 and 0\.01"),
        ({"tracks": 91}, "the runs differ in tracks: 90 and 91"),
        ({"absent_tracks": 0}, "the runs differ in absent_tracks: 10 and 0"),
    ],
)
def test_runs_that_cannot_be_compared_stay_apart(changes, wrong):
    with pytest.raises(UsageError, match=wrong):
        join([(ABOUT, [ROW]), (replace(ABOUT, **changes), [ROW])])
