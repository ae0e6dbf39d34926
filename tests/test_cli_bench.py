"""``afp bench``, end to end."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from bench_runs import write_recordings
from cli_runner import AFP, write_wav

from afp.distort import CHAINS, FAMILIES
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]

SMALL = ("--queries", "3", "--seconds", "2", "-j", "1")


@pytest.fixture(scope="module")
def ran(music, plugin, tmp_path_factory):
    """A run that is kept: its folder, and what it printed."""
    from cli_runner import Cli

    folder = tmp_path_factory.mktemp("ran")
    cli = Cli(folder / "store", plugin)
    report = folder / "report.html"
    words = ("--distort", "clean", "--distort", "white:snr=0,10")
    out, err = cli("bench", music, *words, *SMALL, "--out", folder / "out", "--report", report)
    return folder, out, err


def table(out):
    header, *lines = (line.split("\t") for line in out.splitlines())
    assert all(len(line) == len(header) for line in lines)
    return [dict(zip(header, line, strict=True)) for line in lines]


def split(out):
    """The lines of cells, and those of absent queries."""
    lines = table(out)
    n_cells = sum(not line["condition"].startswith("(") for line in lines)
    return lines[:n_cells], lines[n_cells:]


def test_a_pipe_gets_a_line_for_each_cell(ran):
    folder, out, err = ran
    cells, absent = split(out)
    assert [cell["condition"] for cell in cells] == ["clean", "white:snr=0", "white:snr=10"]
    for cell in cells:
        assert (cell["backend"], cell["seconds"], cell["queries"]) == ("shazam", "2", "3")
        assert 0 <= float(cell["low"]) <= float(cell["right"]) <= float(cell["high"]) <= 1
    assert cells[0]["right"] == "1.0000"
    assert absent[0]["condition"] == "(false answers: music)"
    assert {line["condition"] for line in absent} >= {
        f"(false answers: {k})" for k in ("tones", "silence")
    }
    assert "querying" in err
    assert f"rows: {folder / 'out' / 'rows.jsonl'}" in err
    assert "Traceback" not in err


def test_the_report_is_one_file(ran):
    text = (ran[0] / "report.html").read_text()
    assert text.startswith("<!doctype html>") or text.startswith("<!DOCTYPE html>")
    assert "white" in text


def test_scores_of_the_rows_are_those_of_the_run(ran, cli):
    folder, out, _ = ran
    rows = folder / "out" / "rows.jsonl"
    assert cli("bench", "score", rows) == (out, "")
    as_json, err = cli("bench", "score", rows, "--json")
    scores = json.loads(as_json)
    assert err == ""
    assert [cell["condition"] for cell in scores["cells"]] == [
        cell["condition"] for cell in split(out)[0]
    ]
    strict, _ = cli("bench", "score", rows, "--max-p", "0")
    assert {cell["right"] for cell in split(strict)[0]} == {"0.0000"}


def test_json_is_one_object(cli, music):
    out, err = cli("bench", music, "--distort", "gain:db=-20", *SMALL, "--absent", "0", "--json")
    scores = json.loads(out)
    (cell,) = scores["cells"]
    assert cell["condition"] == "gain:db=-20"
    assert scores["absent"] == []
    assert "indexing" in err


def test_tables_on_a_terminal(cli, music):
    shown = cli.on_terminal("bench", music, "--distort", "clean", *SMALL, columns=120)
    assert "clean" in shown
    assert "100" in shown
    assert "Traceback" not in shown


def test_without_music_the_files_of_the_store_are_taken(indexed):
    out, _ = indexed("bench", "--distort", "clean", *SMALL)
    assert table(out)[0]["right"] == "1.0000"


def test_the_store_as_it_is(indexed, tmp_path):
    others = write_wav(tmp_path / "other.wav", song(77, seconds=6.0))
    out, _ = indexed("bench", others, "--use-store", "--distort", "clean", *SMALL)
    assert table(out)[0]["right"] == "1.0000"
    for option in (("-p", "density=50"), ("--distractors", others)):
        _, err = indexed("bench", "--use-store", *option, status=2)
        assert "--use-store" in err


def test_list(cli):
    out, err = cli("bench", "--list")
    names = [line.split("\t")[0] for line in out.splitlines()]
    assert set(names) >= {*FAMILIES, *CHAINS, "--preset quick", "--preset full"}
    assert err == ""
    assert "noise" in cli.on_terminal("bench", "--list")


def test_help_tells_what_it_takes(cli):
    out, _ = cli("bench", "--help")
    assert "--distort" in out
    assert "Exit status" in out
    out, _ = cli("bench", "score", "--help")
    assert "ROWS" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--distort", "nois"), 2, "there is no distortion 'nois'"),
        (("--distort", "babble:snr=0"), 2, "name a folder with --speech DIR"),
        (("--preset", "quik"), 2, "there are quick, chang, codecs, full, haitsma"),
        (("-b", "nothing"), 2, "no backend is called 'nothing'"),
        (("-p", "colour=red"), 2, "no parameter 'colour'"),
        (("-b", "shazam", "-b", "loudest", "-p", "density=50"), 2, "single backend"),
        (("--absent", "nan"), 2, "--absent"),
        (("--queries", "999999999999"), 2, "the excerpts take"),
        (("--seconds", "2,x"), 2, "no list of numbers"),
        (("--seconds", "0.01"), 2, "each must be 0.1 to 600 seconds"),
        (("--seconds", "25"), 3, "none of 3 indexed tracks is longer than 25.0 s"),
        (("--report", "/nowhere/report.html"), 2, "its folder is not there"),
        (("--noise", "EMPTY"), 3, "no audio in it that can be used"),
        (("--ir", "/nowhere"), 3, "/nowhere: No such file or directory"),
        (("--out", "FILE"), 2, "cannot be written: File exists"),
        (("--out", ""), 2, "a path is empty"),
    ],
)
def test_what_does_not_work_is_told_in_a_line(cli, music, tmp_path, arguments, status, message):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("here")
    arguments = [tmp_path / a if a in ("EMPTY", "FILE") else a for a in arguments]
    small = () if "--queries" in arguments else ("--queries", "1")
    words = () if "--distort" in arguments or "--preset" in arguments else ("--distort", "clean")
    out, err = cli("bench", music, "-j", "1", *words, *small, *arguments, status=status)
    assert out == ""
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no audio in"),
        ({"notes.txt": b"la la la"}, "no audio in"),
        ({"one.wav": None}, "1 audio file to benchmark with"),
        ({"a.wav": b"RIFF", "b.wav": b"RIFF"}, "none of 1 audio files could be indexed"),
    ],
)
def test_music_that_is_none(cli, music, tmp_path, files, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in files.items():
        if content is None:
            shutil.copy(music / "song0.wav", folder / name)
        else:
            (folder / name).write_bytes(content)
    out, err = cli("bench", folder, "--distort", "clean", *SMALL, status=3)
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_no_store(cli):
    out, err = cli("bench", status=4)
    assert out == ""
    assert "there is no store at" in err
    cli("bench", "--use-store", status=4)


def test_plots_need_matplotlib(cli, music, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['matplotlib'] = None\n")
    cli.environment["PYTHONPATH"] = os.pathsep.join([str(hidden), cli.environment["PYTHONPATH"]])
    out, err = cli("bench", music, "--plot", tmp_path / "plots", status=2)
    assert out == ""
    assert err.splitlines() == [
        "afp: error: --plot needs matplotlib",
        "hint: pip install 'afp[plot]'",
    ]


def test_a_codec_that_is_not_there(cli, music, tmp_path):
    cli.environment["PATH"] = str(tmp_path)
    out, err = cli("bench", music, "--distort", "aac:kbps=32", status=2)
    assert out == ""
    told, hint = err.splitlines()
    assert told.startswith("afp: error: aac:kbps=32: ffmpeg")
    assert hint.startswith("hint: ")
    out, err = cli("bench", music, "--preset", "quick", "--seconds", "1", "--queries", "1")
    assert {cell["condition"] for cell in table(out)} >= {"clean", "room"}


def test_recordings_are_used(cli, music, tmp_path):
    noise = write_recordings(tmp_path / "noise")
    out = tmp_path / "out"
    words = ("--distort", "chang", "--noise", noise, "--ir", noise, "--out", out)
    _, err = cli("bench", music, *words, *SMALL)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()[1:]]
    chang = [row for row in rows if row["condition"] == "chang"]
    assert {row["drawn"]["noise.file"] for row in chang} <= {"fan.wav", "rain.wav"}
    assert {row["drawn"]["room.file"] for row in chang} <= {"fan.wav", "rain.wav"}
    assert all(0 <= row["drawn"]["noise.snr"] <= 10 for row in chang)
    assert "pink noise" not in err


def test_names_that_are_no_text(cli, music, tmp_path):
    folder = os.fsencode(tmp_path) + b"/m\xfcsic"
    os.mkdir(folder)  # noqa: PTH102 - bytes
    for i in range(3):
        shutil.copy(music / f"song{i}.wav", folder + b"/s\xf6ng%d.wav" % i)
    report = tmp_path / "report.html"
    words = ("--distort", "clean", "--out", tmp_path / "out", "--report", report)
    first, _ = cli("bench", folder, *words, *SMALL)
    assert table(first)[0]["right"] == "1.0000"
    assert cli("bench", "score", tmp_path / "out" / "rows.jsonl")[0] == first
    assert report.stat().st_size > 1000


def test_interrupted(cli, music, tmp_path):
    arguments = ("bench", music, "--distort", "white:snr=0,5", "--queries", "20", "-j", "1")
    process = cli.start(*arguments, "--out", tmp_path / "out")
    part = tmp_path / "out" / "rows.part.jsonl"
    while not (part.exists() and part.read_bytes().count(b"\n") > 4):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"to go; the same command goes on from here" in err
    assert table(out.decode())
    n_lines = part.read_bytes().count(b"\n")
    out, _ = cli(*arguments[:-2], "-j", "2", "--out", tmp_path / "out")
    assert [cell["queries"] for cell in split(out)[0]] == ["20"] * 2
    assert (tmp_path / "out" / "rows.jsonl").read_bytes().count(b"\n") > n_lines
    _, err = cli(*arguments, "--seed", "3", "--out", tmp_path / "out", status=2)
    assert "holds a run that differs in seed" in err


def test_rows_that_cannot_be_read(cli, tmp_path):
    rows = tmp_path / "rows.jsonl"
    _, err = cli("bench", "score", rows, status=3)
    assert "cannot be read: No such file" in err
    rows.write_text("{}\n")
    _, err = cli("bench", "score", rows, status=3)
    assert "line 1" in err
    cli("bench", "score", status=2)


def test_a_reader_that_goes_away(ran):
    import subprocess

    command = f"{' '.join(AFP)} bench score {ran[0] / 'out' / 'rows.jsonl'} | head -c 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert result.stderr == b""


def test_a_backend_with_a_fault(cli, music, tmp_path):
    folder = tmp_path / "folder"
    for i in range(2):
        write_wav(folder / f"{i}.wav", np.tile(song(i, seconds=1.0), 4))
    arguments = ("--distort", "clean", "--seconds", "0.3", "--queries", "2", "-b", "crashing")
    out, err = cli("bench", folder, *arguments, status=2)
    assert out == ""
    assert "ZeroDivisionError: a fault" in err
    assert "Traceback" not in err
