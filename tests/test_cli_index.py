"""``afp index``, end to end."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from cli_runner import BACKEND, write_wav

from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def folder(music, tmp_path):
    """A copy of the music library that may be changed."""
    return shutil.copytree(music, tmp_path / "music")


def statuses(out):
    """Count the files by status in what ``index --json`` printed."""
    found = [json.loads(line)["status"] for line in out.splitlines()]
    return {status: found.count(status) for status in sorted(set(found))}


def tracks(cli):
    out, _ = cli("ls", "--json")
    return {track["path"]: track for track in map(json.loads, out.splitlines())}


def test_a_second_run_skips_what_has_not_changed(cli, folder):
    out, err = cli.index("--json", folder)
    assert statuses(out) == {"added": 4}
    assert "4 added; 1 min 20 s of audio" in err
    first = json.loads(out.splitlines()[0])
    assert set(first) == {"path", "status", "id", "seconds", "partial", "error"}
    before = tracks(cli)
    assert set(before) == {str(folder / f"song{i}.wav") for i in range(4)}
    out, _ = cli("index", "--json", folder)  # no -b: the store knows
    assert statuses(out) == {"skipped": 4}
    assert tracks(cli) == before


def test_an_unchanged_file_is_not_opened(cli, folder):
    cli.index(folder)
    for path in folder.iterdir():
        status = path.stat()
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    out, _ = cli.index("--json", folder)
    assert statuses(out) == {"skipped": 4}


def test_moved_retagged_and_copied_files_keep_their_fingerprints(cli, folder):
    cli.index(folder)
    before = tracks(cli)
    (folder / "sub").mkdir()
    (folder / "song0.wav").rename(folder / "sub" / "moved.wav")
    shutil.copy(folder / "song1.wav", folder / "copy.wav")
    with (folder / "song2.wav").open(
        "ab"
    ) as file:  # a chunk of no meaning: other bytes, same audio
        file.write(b"note\x04\0\0\0abcd")
    out, err = cli.index("--json", folder)
    assert statuses(out) == {"duplicate": 1, "moved": 1, "skipped": 2, "updated": 1}
    assert "1 moved, 1 duplicate, 1 updated, 2 skipped" in err
    after = tracks(cli)
    assert len(after) == 4
    moved = after[str(folder / "sub" / "moved.wav")]
    assert moved["id"] == before[str(folder / "song0.wav")]["id"]
    assert after[str(folder / "song2.wav")]["id"] == before[str(folder / "song2.wav")]["id"]
    assert cli("check")[0] == ""
    out, _ = cli.index("--json", folder)
    assert statuses(out) == {"skipped": 5}


def test_a_file_with_new_audio_is_a_new_track(cli, folder):
    cli.index(folder)
    before = tracks(cli)[str(folder / "song3.wav")]
    write_wav(folder / "song3.wav", song(30, seconds=12.0))
    out, _ = cli.index("--json", folder)
    assert statuses(out) == {"added": 1, "skipped": 3}
    after = tracks(cli)
    assert len(after) == 4
    assert after[str(folder / "song3.wav")]["id"] != before["id"]
    assert after[str(folder / "song3.wav")]["seconds"] == pytest.approx(12.0)


def test_an_empty_file_is_remembered_whoever_decodes(cli, folder, tmp_path):
    cli.environment["PATH"] = str(tmp_path)  # no ffmpeg there
    (folder / "empty.wav").touch()
    assert statuses(cli.index("--json", folder, status=3)[0]) == {"added": 4, "failed": 1}
    assert statuses(cli.index("--json", folder)[0]) == {"skipped": 5}
    assert cli("ls", "--failed")[0].startswith(f"{folder / 'empty.wav'}\t")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg on the PATH")
def test_failures_are_named_remembered_and_tried_again(cli, folder):
    (folder / "garbage.mp3").write_bytes(bytes(range(256)) * 40)
    (folder / "empty.wav").touch()
    out, err = cli.index("--json", folder, status=3)
    assert statuses(out) == {"added": 4, "failed": 2}
    assert f"afp: warning: failed: {folder / 'garbage.mp3'}: cannot be decoded" in err
    assert f"afp: warning: failed: {folder / 'empty.wav'}: is empty" in err
    out, err = cli.index("--json", folder)
    assert statuses(out) == {"skipped": 6}
    assert "2 skipped files failed before (afp ls --failed); try again with --retry-failed" in err
    out, _ = cli("ls", "--failed")
    assert sorted(line.split("\t")[0] for line in out.splitlines()) == [
        str(folder / "empty.wav"),
        str(folder / "garbage.mp3"),
    ]
    assert statuses(cli.index("--json", "--retry-failed", folder, status=3)[0]) == {
        "failed": 2,
        "skipped": 4,
    }
    write_wav(folder / "empty.wav", song(8, seconds=9.0))
    assert statuses(cli.index("--json", folder)[0]) == {"added": 1, "skipped": 5}
    assert len(cli("ls", "--failed")[0].splitlines()) == 1


def test_a_missing_path_fails_and_the_rest_is_stored(cli, folder):
    out, err = cli.index("--json", folder, folder / "nowhere", status=3)
    assert statuses(out) == {"added": 4, "failed": 1}
    assert "nowhere: No such file or directory" in err
    assert cli("ls", "--failed")[0] == ""


def test_a_terminal_sees_progress_and_failures_at_the_end(cli, folder):
    (folder / "garbage.mp3").write_bytes(bytes(range(256)) * 40)
    shown = cli.on_terminal("index", "-b", BACKEND, folder, folder / "nowhere", status=3)
    assert "× realtime" in shown
    assert "/5 files" in shown
    end = shown.rpartition("\x1b[2K")[2].splitlines()
    assert sum("afp: warning: failed: " in line for line in end) == 2
    assert "4 added, 2 failed; 1 min 20 s of audio in" in end[-1]


def test_nothing_to_do_makes_no_store(cli, tmp_path):
    (tmp_path / "nothing").mkdir()
    _, err = cli.index(tmp_path / "nothing")
    assert "no audio files found" in err
    assert not cli.store.exists()
    cli("index", status=2)
    for arguments in (["index", ""], ["index", tmp_path, ""], ["index", "--files-from", ""]):
        _, err = cli(*arguments, status=2)
        assert "a path is empty" in err
    _, err = cli("index", "-0", "--files-from", "-", stdin=b"nothing\0\0", status=2)
    assert "path 2 of --files-from - is empty" in err
    assert not cli.store.exists()
    _, err = cli("index", "-b", "no-such-backend", tmp_path, status=2)
    assert "no-such-backend" in err


@pytest.mark.parametrize(
    "name", ['it\'s "quoted" & $HOME; <b>.wav', "Ünïcødé 音楽 🎵.wav", "-n.wav"]
)
def test_difficult_names(cli, folder, name):
    (folder / "song0.wav").rename(folder / name)
    cli.index(folder)
    assert str(folder / name) in tracks(cli)
    out, _ = cli("query", folder / name)
    assert out.split("\t")[:2] == [str(folder / name)] * 2
    assert cli("rm", folder / name)[0].rstrip("\n").endswith(name)


def test_names_with_newlines_and_undecodable_bytes(cli, folder):
    name = b"new\nline\ttab \xff\xe9.wav"
    path = os.fsencode(folder / os.fsdecode(name))
    (folder / "song0.wav").rename(os.fsdecode(path))
    out, _ = cli.index("-0", "--files-from", "-", stdin=path + b"\0")
    assert out == ""
    escaped = os.fsdecode(path).replace("\n", "\\n").replace("\t", "\\t")
    out, _ = cli("ls")
    assert out.split("\t")[1] == escaped
    out, _ = cli("query", path)
    assert out.split("\t")[:2] == [escaped, escaped]
    out, _ = cli("query", "--json", path)
    assert out.count("\n") == 1
    assert out.isascii()
    assert json.loads(out)["matches"][0]["track"]["path"] == os.fsdecode(path)


def test_files_from_a_list(cli, folder):
    listed = f"{folder / 'song1.wav'}\n{folder / 'song2.wav'}\n".encode()
    cli.index("--files-from", "-", stdin=listed)
    assert set(tracks(cli)) == {str(folder / "song1.wav"), str(folder / "song2.wav")}


def test_paths_are_stored_in_full(cli, folder):
    process = cli.start("index", "-b", BACKEND, "song1.wav", cwd=folder)
    process.communicate()
    assert set(tracks(cli)) == {str(folder / "song1.wav")}


def test_a_partly_decodable_file_is_kept_as_far_as_it_goes(cli, folder):
    whole = (folder / "song0.wav").read_bytes()
    (folder / "song0.wav").write_bytes(whole[: len(whole) // 2])
    out, err = cli.index("--json", folder)
    assert statuses(out) == {"added": 4}
    assert f"afp: warning: only in part: {folder / 'song0.wav'}: " in err
    track = tracks(cli)[str(folder / "song0.wav")]
    assert track["partial"]
    assert statuses(cli("index", "--json", folder)[0]) == {"skipped": 4}
    assert statuses(cli("index", "--json", "--retry-failed", folder)[0]) == {
        "skipped": 3,
        "updated": 1,
    }
    assert track["seconds"] == pytest.approx(10.0, abs=0.1)


def test_a_second_backend_is_added_to_known_files(cli, folder):
    cli.index(folder)
    before = tracks(cli)
    out, _ = cli("index", "--json", "-b", "slow", folder)
    assert statuses(out) == {"updated": 4}
    after = tracks(cli)
    assert {path: track["id"] for path, track in after.items()} == {
        path: track["id"] for path, track in before.items()
    }
    assert after[str(folder / "song0.wav")]["backends"] == [BACKEND, "slow"]
    assert statuses(cli("index", "--json", folder)[0]) == {"skipped": 4}
    out, _ = cli("query", "-b", "slow", folder / "song1.wav")
    assert out.split("\t")[8].strip() == "slow"


def test_a_crash_of_a_decoder_costs_one_file(cli, folder):
    write_wav(folder / "deadly.wav", np.zeros(16_000 * 30, np.float32))  # the largest: comes first
    out, err = cli("index", "--json", "-b", "crashing", "-j", "2", folder, status=3)
    assert statuses(out) == {"added": 4, "failed": 1}
    assert f"{folder / 'deadly.wav'}: decoder crashed (signal 11)" in err
    out, _ = cli("query", folder / "song2.wav")
    assert out.split("\t")[1] == str(folder / "song2.wav")


def test_a_fault_in_a_backend_does_not_count_against_the_file(cli, folder):
    write_wav(folder / "short.wav", song(9, seconds=0.5))
    for _ in range(2):
        out, err = cli("index", "--json", "-b", "crashing", folder, status=3)
        assert statuses(out)["failed"] == 1
        assert f"failed: {folder / 'short.wav'}: ZeroDivisionError: a fault" in err
    assert cli("ls", "--failed")[0] == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_what_it_has_and_goes_on_later(
    cli, plugin, tmp_path, number, status
):
    for seed in range(30):
        write_wav(tmp_path / "music" / f"{seed:02d}.wav", song(seed, seconds=3.0))
    calls = plugin / "calls"
    calls.unlink(missing_ok=True)
    process = cli.start("index", "--json", "-b", "slow", "-j", "1", tmp_path / "music")
    deadline = time.monotonic() + 20
    while not calls.exists() or calls.stat().st_size < 6:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == status
    n_stored = statuses(out.decode())["added"]
    assert 3 <= n_stored < 25
    assert f"{n_stored} added" in err.decode()
    assert f"interrupted with {30 - n_stored} files to go" in err.decode()
    assert len(tracks(cli)) == n_stored
    out, _ = cli("index", "--json", tmp_path / "music")
    assert statuses(out) == {"added": 30 - n_stored, "skipped": n_stored}
    assert cli("check")[0] == ""


def test_a_second_writer_is_told_who_is_first(cli, plugin, folder, tmp_path):
    for seed in range(20):
        write_wav(tmp_path / "more" / f"{seed:02d}.wav", song(seed, seconds=3.0))
    calls = plugin / "calls"
    calls.unlink(missing_ok=True)
    first = cli.start("index", "-b", "slow", "-j", "1", tmp_path / "more")
    deadline = time.monotonic() + 20
    while not calls.exists() or calls.stat().st_size < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # however slow the second one is to start
    try:
        _, err = cli("index", folder, status=4)
    finally:
        first.send_signal(signal.SIGCONT)
    assert f"is being written by process {first.pid} (afp index -b slow -j 1 " in err
    out, _ = cli("index", "--json", "--wait", "20", "-b", "slow", folder)
    assert statuses(out) == {"added": 4}
    first.communicate(timeout=20)
    assert first.returncode == 0


def test_parameters_are_for_the_backend_to_judge(cli, folder):
    _, err = cli("index", "-b", "loudest", "-p", "no_such=1", folder, status=2)
    assert err.startswith("afp: error: backend 'loudest' has no parameter 'no_such'")
    for value in ("abc", "true", ""):
        _, err = cli("index", "-p", f"density={value}", folder, status=2)
        assert "parameter 'density' of backend 'shazam' takes a number, not " in err
    _, err = cli("index", "-b", "loudest", "-p", "nonsense", folder, status=2)
    assert "NAME=VALUE" in err
    _, err = cli("index", "-b", "loudest", "-b", "slow", "-p", "a=1", folder, status=2)
    assert "2 backends" in err


def test_a_store_goes_on_with_the_parameters_it_was_made_with(cli, folder):
    cli("index", "-b", "shazam", "-p", "density=40", folder / "song0.wav")
    cli("index", folder / "song1.wav")
    cli("index", "-p", "density=40", folder / "song2.wav")
    _, err = cli("index", "-p", "density=50", folder / "song3.wav", status=4)
    assert "density 40.0, not 50.0" in err
    assert len(tracks(cli)) == 3
    _, err = cli("index", "-p", "density=50", folder / "song2.wav", status=4)  # nothing to do
    assert "density 40.0, not 50.0" in err
    stats = json.loads(cli("stats", "--json")[0])
    assert stats["backends"]["shazam"]["parameters"]["density"] == 40.0
    cli("query", folder / "song2.wav")


def test_a_second_ctrl_c_ends_it_at_once(cli, plugin, tmp_path):
    for seed in range(4):
        write_wav(tmp_path / "music" / f"{seed}.wav", song(seed, seconds=3.0))
    calls = plugin / "calls"
    calls.unlink(missing_ok=True)
    process = cli.start("index", "-b", "slow", "-j", "1", tmp_path / "music")
    deadline = time.monotonic() + 20
    while not calls.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)  # a shell calls both 130
    cli("index", tmp_path / "music")
    assert cli("check")[0] == ""
