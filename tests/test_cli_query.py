"""``afp query``, end to end."""

import json
import os
import pty
import re
import signal
import termios
import time

import numpy as np
import pytest
from cli_runner import BACKEND, excerpt, write_wav

from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_wav(folder / "one.wav", excerpt(1, 7.0, 6.0))
    write_wav(folder / "two.wav", excerpt(2, 3.0, 6.0))
    write_wav(folder / "absent.wav", 0.1 * np.random.default_rng(9).standard_normal(96_000))
    write_wav(folder / "silence.wav", np.zeros(80_000))
    (folder / "garbage.wav").write_bytes(b"RIFF....WAVEnothing of the kind" * 100)
    return folder


def test_a_pipe_gets_tab_separated_lines(indexed, clips, music):
    out, err = indexed("query", clips / "one.wav")
    fields = out.rstrip("\n").split("\t")
    assert fields[:2] == [str(clips / "one.wav"), str(music / "song1.wav")]
    query_start, query_end, track_start, track_end = map(float, fields[2:6])
    assert track_start - query_start == pytest.approx(7.0, abs=0.05)
    assert track_end - track_start == pytest.approx(query_end - query_start, abs=0.05)
    assert float(fields[6]) > 0
    assert float(fields[7]) < 1e-3
    assert fields[8] == BACKEND
    assert err == ""


def test_json_has_one_object_for_every_query(indexed, clips, music):
    names = ["one.wav", "absent.wav", "garbage.wav", "missing.wav", "silence.wav", "two.wav"]
    paths = [str(clips / name) for name in names]
    out, err = indexed("query", "--json", *paths, status=3)
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["query"] for result in results] == paths
    assert [len(result["matches"]) for result in results] == [1, 0, 0, 0, 0, 1]
    assert [bool(result["error"]) for result in results] == [False, False, True, True, False, False]
    assert [result["heard"] for result in results] == [True, True, False, False, False, True]
    assert not any(result["partial"] for result in results)
    assert "missing.wav: No such file" in results[3]["error"]
    assert results[2]["seconds"] is results[3]["seconds"] is None
    assert err.count("afp: warning") == 2
    first = results[0]
    assert set(first) == {"query", "seconds", "backend", "error", "partial", "heard", "matches"}
    assert first["seconds"] == pytest.approx(6.0)
    match = first["matches"][0]
    for name, n_decimals in {"query_end": 4, "score": 3, "speed": 5, "pitch": 5}.items():
        assert match[name] == round(match[name], n_decimals)
    assert match["p_false"] == float(f"{match['p_false']:.3g}")
    assert set(match) == {
        *("rank", "track", "query_start", "query_end", "track_start", "track_end"),
        *("score", "p_false", "speed", "pitch", "details"),
    }
    assert isinstance(match["details"], dict)
    assert match["rank"] == 1
    assert match["speed"] == pytest.approx(1.0, abs=0.005)
    assert match["track"]["path"] == str(music / "song1.wav")
    assert set(match["track"]) == {"id", "path", "title", "artist", "seconds"}
    assert match["track"]["seconds"] == pytest.approx(20.0)


def test_a_terminal_gets_a_table(indexed, clips, monkeypatch):
    monkeypatch.setitem(indexed.environment, "NO_COLOR", "1")
    shown = indexed.on_terminal("query", clips / "one.wav", clips / "absent.wav")
    assert "\x1b" not in shown
    heading, first, second = shown.splitlines()
    assert re.split("  +", heading.strip()) == [
        *("query", "track", "in the query", "in the track", "p_false")
    ]
    assert re.match(r"one.wav +song1.wav +0:0\d.\d–0:0\d.\d +0:0\d.\d–0:1\d.\d ", first)
    assert second.split() == ["absent.wav", "no", "match"]


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["one.wav"], 0),
        (["absent.wav"], 1),
        (["silence.wav"], 1),
        (["absent.wav", "one.wav"], 0),
        (["missing.wav", "one.wav"], 3),
    ],
)
def test_exit_status(indexed, clips, names, status):
    indexed("query", *(clips / name for name in names), status=status)


def test_usage_errors(indexed, clips):
    for arguments in (
        ["query"],
        ["query", "-n", "0", "x.wav"],
        ["query", "--nonsense"],
        ["query", ""],
        ["query", clips / "one.wav", ""],
        ["query", "-d", "", clips / "one.wav"],
        ["query", "--files-from", ""],
        *(["query", "--max-p", p, clips / "one.wav"] for p in ("nan", "-0.1", "1.1", "inf")),
        ["nonsense"],
    ):
        out, err = indexed(*arguments, status=2)
        assert out == ""
        assert err
    _, err = indexed("query", "-b", "nothing", clips / "one.wav", status=2)
    assert "nothing" in err
    assert "hint: " in err


def test_a_store_that_is_not_there(cli, clips):
    _, err = cli("query", clips / "one.wav", status=4)
    assert err.startswith("afp: error: ")
    assert "afp index" in err.splitlines()[1]
    assert not cli.store.exists()


def test_no_match_is_told_apart_from_silence_on_stderr(indexed, clips):
    out, err = indexed("query", clips / "absent.wav", status=1)
    assert out == ""
    assert err == f"{clips / 'absent.wav'}: no match\n"


def test_audio_from_standard_input(indexed, clips, music):
    out, _ = indexed("query", "-", "--json", stdin=(clips / "two.wav").read_bytes())
    result = json.loads(out)
    assert result["query"] == "-"
    assert result["matches"][0]["track"]["path"] == str(music / "song2.wav")
    out, _ = indexed("query", "-", "--json", stdin=b"", status=3)
    assert json.loads(out)["error"]
    _, err = indexed("query", "-", stdin=b"x", status=3)
    assert err.startswith("afp: warning: standard input: cannot be decoded")
    silence = (clips / "silence.wav").read_bytes()
    assert indexed("query", "-", stdin=silence, status=1)[1] == (
        "standard input: no match: too short, or too quiet, for shazam\n"
    )
    out, err = indexed("query", "-", "--json", stdin=silence[:60_000], status=1)
    assert err == f"afp: warning: standard input: only in part: {json.loads(out)['partial']}\n"
    indexed("query", "-", "-", status=2)


def test_clips_from_a_list(indexed, clips, tmp_path):
    listed = [str(clips / "one.wav"), str(clips / "two.wav")]
    (tmp_path / "list").write_text("\n".join(listed) + "\n")
    out, _ = indexed("query", "--files-from", tmp_path / "list")
    assert [line.split("\t")[0] for line in out.splitlines()] == listed
    out, _ = indexed("query", "-0", "--files-from", "-", stdin="\0".join(listed).encode() + b"\0")
    assert [line.split("\t")[0] for line in out.splitlines()] == listed
    blank = "\n\n  \r\n".join(["", *listed, ""])
    out, _ = indexed("query", "--files-from", "-", stdin=blank.encode())
    assert [line.split("\t")[0] for line in out.splitlines()] == listed
    for names in ("\0", "\0".join([listed[0], "", listed[1], ""]), listed[0] + "\0\0"):
        out, err = indexed("query", "-0", "--files-from", "-", stdin=names.encode(), status=2)
        assert out == ""
        assert "of --files-from - is empty" in err
    indexed("query", "-0", "--files-from", "-", status=1)
    indexed("query", "-0", clips / "one.wav", status=2)
    _, err = indexed("query", "--files-from", tmp_path / "no-list", status=3)
    assert "no-list" in err


def test_a_recording_of_two_tracks_becomes_a_timeline(indexed, music, tmp_path):
    pause = np.zeros(16_000 * 2, np.float32)
    other = song(77, seconds=20.0)
    parts = [song(3, seconds=20.0), pause, other, song(0, seconds=20.0), song(3, seconds=20.0)]
    mix = write_wav(tmp_path / "mix.wav", np.concatenate(parts))
    out, _ = indexed("query", "--all", "--json", mix)
    matches = json.loads(out)["matches"]
    assert [match["track"]["path"] for match in matches] == [
        str(music / f"song{seed}.wav") for seed in (3, 0, 3)
    ]
    for match, start in zip(matches, (0.0, 42.0, 62.0), strict=True):
        assert match["query_start"] - match["track_start"] == pytest.approx(start, abs=0.1)
        middle = start + 10.0
        assert match["query_start"] < middle < match["query_end"]
    out, _ = indexed("query", "--json", "-n", "5", mix)
    ranked = json.loads(out)["matches"]
    assert [match["rank"] for match in ranked] == list(range(1, len(ranked) + 1))
    assert {match["track"]["path"] for match in ranked[:2]} == {
        str(music / f"song{seed}.wav") for seed in (3, 0)
    }
    assert len({match["track"]["id"] for match in ranked}) == len(ranked)


def test_a_second_backend_is_refused(indexed, clips):
    out, err = indexed("query", "-b", "shazam", "-b", "neural", clips / "one.wav", status=2)
    assert out == ""
    assert "-b is given 2 times: shazam, neural" in err


def test_a_strict_threshold_rejects_everything(indexed, clips):
    out, _ = indexed("query", "--max-p", "0", "-n", "3", clips / "absent.wav", status=1)
    assert out == ""


def test_who_stops_reading_ends_it_quietly(indexed, clips, tmp_path):
    (tmp_path / "list").write_text(f"{clips / 'one.wav'}\n" * 20)
    process = indexed.start("query", "--files-from", tmp_path / "list", "--json")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) in (0, 141)


def test_ctrl_c_ends_it_with_what_was_printed_before(indexed, clips, tmp_path):
    (tmp_path / "list").write_text(f"{clips / 'one.wav'}\n" * 500)
    process = indexed.start("query", "--files-from", tmp_path / "list", "--json")
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == b"afp: interrupted\n"
    results = [json.loads(line) for line in (first + out).splitlines()]
    assert 1 <= len(results) < 500


def test_a_terminal_sees_each_answer_as_it_comes(indexed, clips, tmp_path, monkeypatch):
    monkeypatch.setitem(indexed.environment, "NO_COLOR", "1")
    os.mkfifo(tmp_path / "never.wav")  # nobody writes to it: given up after 10 s
    names = [clips / "one.wav", clips / "absent.wav", tmp_path / "never.wav"]
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 100))
    process = indexed.start("query", *names, stdout=slave)
    os.close(slave)
    started = time.monotonic()
    shown = b""
    while b"no match" not in shown:
        shown += os.read(master, 4096)
    assert time.monotonic() - started < 9
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    os.close(master)
    heading, *lines = re.sub("\x1b[^m]*m", "", shown.decode()).splitlines()
    assert re.split("  +", heading.strip()) == [
        *("query", "track", "in the query", "in the track", "p_false")
    ]
    place = heading.index("track")
    assert [line[place:].split("  ")[0] for line in lines] == ["song1.wav", "no match"]


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (80, ["query", "track", "in the query", "in the track", "p_false"]),
        (58, ["query", "track", "in the query", "in the track"]),
        (42, ["query", "track", "in the track"]),
        (28, ["track", "in the track"]),
        (20, ["track"]),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_whole_times(
    cli, indexed, clips, music, tmp_path, monkeypatch, columns, headings
):
    long = tmp_path / "a name of a file that takes a good deal of room.wav"
    long.write_bytes((music / "song1.wav").read_bytes())
    cli.index(long)
    monkeypatch.setitem(cli.environment, "NO_COLOR", "1")
    heading, *lines = cli.on_terminal("query", clips / "one.wav", columns=columns).splitlines()
    assert re.split("  +", heading.strip()) == headings
    assert max(map(len, (heading, *lines))) <= columns
    n_times = sum(name.startswith("in ") for name in headings)
    assert len(re.findall(r"\d:\d\d\.\d–\d:\d\d\.\d(?!\S)", lines[0])) == n_times
    assert "".join("".join(lines).split()).count("room.wav") == 1
    assert len(lines) <= (5 if columns > 20 else 4)


def test_queries_on_a_narrow_terminal_keep_their_names(indexed, clips, monkeypatch):
    monkeypatch.setitem(indexed.environment, "NO_COLOR", "1")
    shown = indexed.on_terminal("query", clips / "one.wav", clips / "two.wav", columns=30)
    assert [line.split() for line in shown.splitlines()] == [
        ["query", "track"],
        ["one.wav", "song1.wav"],
        ["two.wav", "song2.wav"],
    ]


def test_pieces_of_a_table_are_alike_though_names_are_long(cli, clips, music, tmp_path):
    long = tmp_path / f"{'long' * 15}.wav"
    long.write_bytes((music / "song1.wav").read_bytes())
    cli.index(long, music / "song2.wav")
    cli.environment["NO_COLOR"] = "1"
    shown = cli.on_terminal("query", clips / "one.wav", clips / "two.wav", columns=140)
    lines = [line for line in shown.splitlines() if "–" in line]
    assert len(lines) == 2
    assert lines[0].index("–") == lines[1].index("–")


def test_a_store_without_tracks_is_told(cli, clips, music):
    cli.index(music / "song1.wav")
    cli("rm", "1")
    _, err = cli("query", clips / "one.wav", status=1)
    assert err.startswith("afp: warning: the store is empty; add music to it: afp index PATH\n")


def test_a_clip_whose_name_looks_like_an_option(indexed, clips, tmp_path):
    (tmp_path / "--help.wav").write_bytes((clips / "one.wav").read_bytes())
    process = indexed.start("query", "--", "--help.wav", cwd=tmp_path)
    assert process.communicate()[0].startswith(b"--help.wav\t")
    assert process.returncode == 0
