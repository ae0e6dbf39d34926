"""Files made to break decoders: each costs itself alone, one line, bounded time and memory."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from cli_runner import assert_ends, excerpt, write_wav
from mutation import RATE, mutant, written

from afp.library import DecodingProcess, Searcher, index
from afp.library.workers import MOST_BYTES
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="the ffmpeg program is not on the PATH"
)

TONE = np.sin(np.arange(RATE, dtype=np.float32))


def wav(rate=RATE, n_channels=1, *, claimed=None, form=1, bits=16, data=bytes(16_000)):
    """Return a WAV file whose header says what it is told to."""
    size = len(data) if claimed is None else claimed
    frame = n_channels * bits // 8 % 65_536
    header = struct.pack(
        "<HHIIHH", form, n_channels % 65_536, rate, rate * frame % 2**32, frame, bits
    )
    return (
        b"RIFF" + struct.pack("<I", (size + 36) % 2**32) + b"WAVEfmt \x10\0\0\0" + header
        + b"data" + struct.pack("<I", size) + data
    )  # fmt: skip


def floats(*values):
    """Return a float WAV with the values among the samples of a tone."""
    samples = TONE.copy()
    samples[: len(values)] = values
    return written(samples, RATE, encoding="FLOAT")


# A worker that dies, a limit that should not be met, an exception that nobody expected.
WRONG = re.compile(r"crashed|hangs|worker|more memory|: [A-Za-z]+(Error|Exception): ")

# What a name promises to hold, and does or does not.
EXTREMES = {
    **{f"{rate} Hz.wav": wav(rate) for rate in (0, 1, 99, 100, 768_000, 2**31 - 1, 2**32 - 1)},
    **{f"{n} channels.wav": wav(n_channels=n) for n in (0, 255, 1024, 1025, 65_535)},
    **{f"{bits} bits.wav": wav(bits=bits) for bits in (0, 1, 7, 33, 64, 65_535)},
    **{f"form {form}.wav": wav(form=form) for form in (0, 2, 3, 0x11, 0x31, 0x55, 0xFFFE, 0xFFFF)},
    **{
        f"one sample.{extension}": written(np.ones(1), RATE, container, encoding)
        for extension, container, encoding in (
            ("wav", "WAV", "PCM_16"),
            ("flac", "FLAC", "PCM_16"),
            ("ogg", "OGG", "VORBIS"),
            ("mp3", "MP3", "MPEG_LAYER_III"),
            ("aiff", "AIFF", "PCM_16"),
            ("caf", "CAF", "ALAC_16"),
        )
    },
    "nan.wav": floats(np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45),
    "only nan.wav": floats(*[np.nan] * RATE),
    "only infinity.wav": floats(*[np.inf] * RATE),
    "4 GB.wav": wav(claimed=0xFFFF_FFF0),
    "2 GB.wav": wav(claimed=0x7FFF_FFFF),
    "8 EB.w64": written(TONE, RATE, "W64").replace(
        struct.pack("<Q", 2 * RATE + 24), struct.pack("<Q", 2**63 - 1)
    ),
    "wav.mp3": wav(),
    "wav.flac": wav(),
    "flac.wav": written(TONE, RATE, "FLAC"),
    "text.flac": b"This is no audio at all, whatever its name says.\n" * 100,
    "page.mp3": b"<!doctype html><title>404</title>" * 100,
    "picture.ogg": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "archive.wav": b"PK\x03\x04" + bytes(range(256)) * 20,
    "riff in riff.wav": wav(data=wav(data=wav())),
    "flac in ogg.ogg": b"OggS\0\2" + bytes(20) + b"\1\xff" + written(TONE, RATE, "FLAC"),
    "tag of 256 MB.mp3": b"ID3\4\0\0\x7f\x7f\x7f\x7f"
    + written(TONE, RATE, "MP3", "MPEG_LAYER_III"),
    "zeros.mp3": bytes(5000),
    "ones.wav": b"\xff" * 5000,
    "magic.wav": b"RIFF",
    "magic.flac": b"fLaC",
    "magic.ogg": b"OggS",
    "silence.flac": written(np.zeros(600 * RATE, np.int16), RATE, "FLAC"),  # 10 min in 15 kB
    "empty.wav": b"",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with one song, and all that is no file."""
    folder = tmp_path / "music"
    write_wav(folder / "song.wav", song(1, seconds=20.0))
    (folder / "folder.wav").mkdir()
    (folder / "folder.wav" / "loop.wav").symlink_to(folder)
    (folder / "self.wav").symlink_to("self.wav")
    (folder / "dangling.wav").symlink_to("nowhere.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(folder, os.O_RDONLY)  # the whole path is too long for a socket
        listening.bind(f"/proc/self/fd/{here}/socket.wav")
        os.close(here)
    return folder


@pytest.fixture
def no_ffmpeg(cli, tmp_path, monkeypatch):
    """An ffmpeg that reads nothing: the real one takes 50 ms for each file."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ffmpeg").symlink_to(shutil.which("false"))
    monkeypatch.setitem(cli.environment, "PATH", f"{programs}:{cli.environment['PATH']}")


def survives(cli, folder, n_files, *, timeout):
    """Index and query the folder: every file is told of once, and nothing else happens."""
    files = sorted(map(str, (path for path in folder.iterdir() if path.is_file())))
    assert len(files) == n_files
    process = cli.start("index", "-b", "shazam", "--json", folder)
    out, err = map(os.fsdecode, process.communicate(timeout=timeout))
    assert process.returncode == 3, err
    outcomes = {each["path"]: each for each in map(json.loads, out.splitlines())}
    links = [str(folder / name) for name in ("dangling.wav", "self.wav")]
    assert sorted(outcomes) == sorted((*files, *links))
    failed = {path for path, outcome in outcomes.items() if outcome["error"]}
    lines = err.splitlines()
    for path in failed:
        start = f"afp: warning: failed: {path}: "
        assert len([line for line in lines if line.startswith(start)]) == 1
    partly = [line for line in lines if line.startswith("afp: warning: only in part: ")]
    assert len(lines) == len(failed) + len(partly) + 1, err
    assert not WRONG.search(err)
    out, _ = cli("ls", "--failed", "--json")
    remembered = {json.loads(line)["path"] for line in out.splitlines()}
    assert remembered == failed - set(links)
    assert cli("check")[0] == ""

    clip = write_wav(folder.parent / "clip.wav", excerpt(1, 7.0, 6.0))
    process = cli.start("query", "--json", *files, clip)
    out, err = map(os.fsdecode, process.communicate(timeout=timeout))
    assert process.returncode == 3, err
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["query"] for result in results] == [*files, str(clip)]
    assert {result["query"] for result in results if result["error"]} == failed - set(links)
    assert results[-1]["matches"][0]["track"]["path"] == str(folder / "song.wav")
    partly = [line for line in err.splitlines() if ": only in part: " in line]
    assert err.count("\n") == err.count("afp: warning: ") == len(failed - set(links)) + len(partly)


def put_mutants(folder, numbers):
    for number in numbers:
        extension, data = mutant(number)
        (folder / f"{number}.{extension}").write_bytes(data)


def put_extremes(folder):
    for name, data in EXTREMES.items():
        (folder / name).write_bytes(data)


@pytest.mark.usefixtures("no_ffmpeg")
def test_hostile_files_cost_themselves_alone(cli, folder):
    put_extremes(folder)
    put_mutants(folder, range(200))
    survives(cli, folder, 1 + len(EXTREMES) + 200, timeout=120)


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("start", range(0, 5000, 1000))
def test_thousands_of_hostile_files_cost_themselves_alone(cli, folder, start):
    put_extremes(folder)
    put_mutants(folder, range(start, start + 1000))
    survives(cli, folder, 1 + len(EXTREMES) + 1000, timeout=1800)


def test_what_is_no_file_is_not_opened(cli, folder):
    named = [folder / f"{name}.wav" for name in ("pipe", "zero", "socket", "dangling", "self")]
    out, err = cli.index("--json", *named, status=3)
    errors = [json.loads(line)["error"] for line in out.splitlines()]
    assert errors[:3] == ["is neither a file nor a folder"] * 3
    assert errors[3:] == ["No such file or directory", "Too many levels of symbolic links"]
    assert err.count("\n") == 6
    cli.index(folder / "song.wav")
    out, err = cli("query", "--json", *named[1:], folder / "folder.wav", status=3)
    errors = [json.loads(line)["error"].partition(": ")[2] for line in out.splitlines()]
    assert errors[:1] == ["is neither a file nor a pipe"]
    assert errors[2:] == [
        "No such file or directory",
        "Too many levels of symbolic links",
        "is a folder",
    ]
    assert err.count("\n") == 5


# Crashes, hangs, bombs


@pytest.fixture
def other_ffmpeg(cli, tmp_path, monkeypatch):
    """Put a shell script in the place of ffmpeg, here and on the command line."""

    def put(script):
        programs = tmp_path / "programs"
        programs.mkdir()
        (programs / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setitem(cli.environment, "PATH", os.environ["PATH"])

    return put


def test_a_decoder_that_crashes_takes_one_file_with_it(cli, music, tmp_path, other_ffmpeg):
    other_ffmpeg("kill -SEGV $PPID")
    (tmp_path / "deadly.mp3").write_bytes(b"no audio at all")
    reason = f"{tmp_path}/deadly.mp3: decoder crashed (signal 11)\n"
    _, err = cli.index(tmp_path / "deadly.mp3", music / "song1.wav", status=3)
    assert f"afp: warning: failed: {reason}" in err
    assert "1 added, 1 failed" in err
    clip = write_wav(tmp_path / "clip.wav", excerpt(1, 7.0, 6.0))
    deadly = tmp_path / "deadly.mp3"
    out, err = cli("query", "--json", clip, deadly, clip, "-", stdin=b"no audio", status=3)
    assert [len(json.loads(line)["matches"]) for line in out.splitlines()] == [1, 0, 1, 0]
    unnamed = "afp: warning: standard input: decoder crashed (signal 11)\n"
    assert err == f"afp: warning: {reason}{unnamed}"


def test_a_decoder_that_hangs_takes_one_file_with_it(
    cli, music, tmp_path, other_ffmpeg, monkeypatch
):
    other_ffmpeg(f"echo $$ >> {tmp_path}/pids; exec sleep 1000")
    monkeypatch.setattr("afp.library.workers.PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr("afp.library.decoding.PATIENCE_SECONDS", 1.0)
    hanging = tmp_path / "hanging.mp3"
    hanging.write_bytes(b"no audio at all")
    files = [hanging, music / "song1.wav", music / "song2.wav"]
    report = index(cli.store, files, n_workers=1)
    assert [str(each.file.path) for each in report.failures] == [str(hanging)]
    assert report.failures[0].error == "decoder hangs (nothing came of it for 1 s)"
    assert report.counts["added"] == 2
    report = index(cli.store, files)
    assert (report.counts["skipped"], report.failed_before) == (3, 1)
    with (
        DecodingProcess() as decoding,
        Searcher.open(cli.store, decode=decoding.decode) as searcher,
    ):
        results = [searcher.query(path) for path in files]
    assert results[0].error == f"{hanging}: decoder hangs (nothing came of it for 1 s)"
    assert [len(result.matches) for result in results] == [0, 1, 1]
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    assert len(pids) == 2
    assert_ends(*pids)


def test_who_is_interrupted_leaves_no_decoder_behind(cli, music, tmp_path, other_ffmpeg):
    other_ffmpeg(f"echo $$ >> {tmp_path}/pids; exec sleep 1000")
    (tmp_path / "hanging.mp3").write_bytes(b"no audio at all")
    cli.index(music / "song1.wav")
    for command in (["index"], ["query"]):
        (tmp_path / "pids").unlink(missing_ok=True)
        process = cli.start(*command, tmp_path / "hanging.mp3")
        deadline = time.monotonic() + 30
        while not (tmp_path / "pids").exists() or not (tmp_path / "pids").stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 130
        assert_ends(int((tmp_path / "pids").read_text()))


def test_silence_without_end_is_read_to_a_limit(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("afp.audio.decoder.MAX_HOURS", 0.1)
    path = tmp_path / "silence.flac"
    path.write_bytes(EXTREMES["silence.flac"])
    assert path.stat().st_size < 40_000
    report = index(cli.store, [path], backends=["shazam"])
    (outcome,) = report.partial
    assert outcome.track.duration_seconds == pytest.approx(360, abs=10)
    assert outcome.track.partial == "0.1 hours decoded: more of one recording is not read"


@pytest.mark.slow
def test_days_of_silence_in_a_small_file_take_bounded_time_and_memory(cli, tmp_path):
    path = tmp_path / "silence.flac"
    path.write_bytes(written(np.zeros(60 * 3600 * 100, np.int16), 100, "FLAC"))
    assert path.stat().st_size < 500_000
    script = (
        "import resource, sys; from afp.library import index;"
        "report = index(sys.argv[1], sys.argv[2:], backends=['shazam'], n_workers=1);"
        "print(report.partial[0].track.duration_seconds / 3600,"
        "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", script, cli.store, path]
    started = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, **cli.environment}, capture_output=True, check=True
    )
    hours, megabytes = map(float, done.stdout.split())
    assert hours == pytest.approx(50, abs=0.2)
    assert megabytes < 600
    assert time.monotonic() - started < 900


def test_decoders_are_limited_in_memory(cli, music, tmp_path, other_ffmpeg):
    other_ffmpeg(f"ulimit -d >> {tmp_path}/limits; exit 1")
    (tmp_path / "a.mp3").write_bytes(b"no audio at all")
    cli.index(tmp_path / "a.mp3", music / "song1.wav", status=3)
    cli("query", tmp_path / "a.mp3", status=3)
    assert (tmp_path / "limits").read_text().split() == [str(MOST_BYTES // 1024)] * 2


# Values


def test_values_that_are_no_sound_are_answered_in_one_line(indexed, tmp_path):
    names = ["nan.wav", "only nan.wav", "only infinity.wav", "one sample.wav", "768000 Hz.wav"]
    for name in names:
        (tmp_path / name).write_bytes(EXTREMES[name])
    _, err = indexed("query", *(tmp_path / name for name in names), status=1)
    why = "too short, or too quiet, for shazam"
    assert err == "".join(f"{tmp_path / name}: no match: {why}\n" for name in names)
    refused = ["0 Hz.wav", "1 Hz.wav", "99 Hz.wav", "2147483647 Hz.wav", "0 channels.wav"]
    for name in refused:
        (tmp_path / name).write_bytes(EXTREMES[name])
    _, err = indexed("query", *(tmp_path / name for name in refused), status=3)
    assert err.count("\n") == err.count("afp: warning: ") == len(refused)
