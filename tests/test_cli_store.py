"""The commands that look after a store, end to end."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from cli_runner import AFP, BACKEND, RATE, write_wav
from click.testing import CliRunner

from afp.cli import app
from afp.cli.terminal import printable
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def folder(music, tmp_path):
    return shutil.copytree(music, tmp_path / "music")


@pytest.fixture
def filled(cli, folder):
    cli.index(folder)
    return cli


def paths(cli):
    return sorted(json.loads(line)["path"] for line in cli("ls", "--json")[0].splitlines())


def answers(cli, clip):
    """List the paths of the tracks that a clip is found in, however weakly."""
    process = cli.start("query", "--json", "-n", "9", "--max-p", "1", clip)
    out, _ = process.communicate()
    return [match["track"]["path"] for match in json.loads(out)["matches"]]


def test_ls_prints_lines_and_filters(indexed, music):
    out, _ = indexed("ls")
    rows = [line.split("\t") for line in out.splitlines()]
    assert sorted(row[1] for row in rows) == [str(music / f"song{i}.wav") for i in range(4)]
    assert {tuple(row[2:]) for row in rows} == {("20.000", "", "", BACKEND, "")}
    out, _ = indexed("ls", "SONG2", "--json")
    track = json.loads(out)
    assert set(track) == {"id", "path", "seconds", "title", "artist", "backends", "partial"}
    assert track["path"] == str(music / "song2.wav")
    assert indexed("ls", "nothing like it")[0] == ""
    assert indexed("ls", "--failed", "--json")[0] == ""


def test_stats(indexed):
    out, _ = indexed("stats")
    assert "tracks      4 (1 min 20 s of audio)" in out
    stats = json.loads(indexed("stats", "--json")[0])
    assert stats["tracks"] == stats["files"] == 4
    assert stats["failures"] == 0
    assert stats["seconds"] == pytest.approx(80.0)
    backend = stats["backends"][BACKEND]
    assert backend["tracks"] == 4
    assert backend["postings"] > 100
    assert backend["bytes_per_second"] > 0


def test_rm_by_id_path_and_content(filled, folder):
    track = json.loads(filled("ls", "--json", "song0")[0])
    out, err = filled("rm", "--dry-run", str(track["id"]))
    assert out == f"{track['id']}\t{folder / 'song0.wav'}\n"
    assert "1 track would be removed" in err
    assert len(paths(filled)) == 4
    filled("rm", str(track["id"]), folder / "song1.wav")
    assert paths(filled) == [str(folder / "song2.wav"), str(folder / "song3.wav")]
    assert str(folder / "song1.wav") not in answers(filled, folder / "song1.wav")
    assert str(folder / "song2.wav") in answers(filled, folder / "song2.wav")
    _, err = filled("rm", folder / "song2.wav", folder / "song1.wav", status=2)
    assert "song1.wav" in err
    assert len(paths(filled)) == 2  # all or nothing


def test_prune_forgets_what_is_gone(filled, folder):
    (folder / "song1.wav").unlink()
    (folder / "sub").mkdir()
    shutil.copy(folder / "song2.wav", folder / "sub" / "copy.wav")
    filled.index(folder)
    (folder / "song2.wav").unlink()
    out, err = filled("prune", "--dry-run")
    assert out.split() == [str(folder / "song1.wav"), str(folder / "song2.wav")]
    assert "2 paths and 1 track would be removed" in err
    assert len(paths(filled)) == 4
    filled("prune")
    assert paths(filled) == [
        str(folder / name) for name in ("song0.wav", "song3.wav", "sub/copy.wav")
    ]
    assert filled("check")[0] == ""
    out, err = filled("prune")
    assert out == ""
    assert "0 paths and 0 tracks removed" in err


def test_prune_refuses_when_a_disk_seems_not_to_be_mounted(filled, folder):
    for path in folder.iterdir():
        path.unlink()
    _, err = filled("prune", status=4)
    assert "4 of 4 files are missing" in err
    assert "afp prune --force" in err
    shutil.rmtree(folder)
    _, err = filled("prune", status=4)
    assert "4 of 4 files are missing" in err
    assert len(paths(filled)) == 4
    filled("prune", "--force")
    assert paths(filled) == []


def test_compact_and_check(filled, folder):
    filled("rm", folder / "song0.wav")
    _, err = filled("compact")
    assert "before" in err
    out, err = filled("check")
    assert out == ""
    assert "is whole" in err
    assert str(folder / "song3.wav") in answers(filled, folder / "song3.wav")
    assert str(folder / "song0.wav") not in answers(filled, folder / "song0.wav")


def test_check_finds_damage(filled):
    for segment in filled.store.rglob("*.segment"):
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 0x40
        segment.write_bytes(content)
    out, err = filled("check", status=4)
    assert out
    assert "fault" in err


@pytest.mark.parametrize("command", ["ls", "stats", "check", "compact", "prune"])
def test_commands_make_no_store(cli, command):
    _, err = cli(command, status=4)
    assert err.startswith("afp: error: there is no store at")
    assert "hint: " in err
    assert not cli.store.exists()


def test_a_folder_of_something_else_is_left_alone(cli, folder):
    cli.store = folder
    cli.environment["AFP_DB"] = str(folder)
    _, err = cli.index(folder, status=4)
    assert "is no afp store" in err
    assert sorted(path.name for path in folder.iterdir()) == [f"song{i}.wav" for i in range(4)]


def test_where_the_store_is(cli, folder, tmp_path):
    cli.index("-d", tmp_path / "elsewhere", folder)
    assert (tmp_path / "elsewhere").is_dir()
    assert not cli.store.exists()
    del cli.environment["AFP_DB"]
    cli.environment["XDG_DATA_HOME"] = str(tmp_path / "data")
    cli.index(folder)
    assert (tmp_path / "data" / "afp" / "store").is_dir()
    cli("query", folder / "song0.wav")


def test_backends(indexed):
    out, _ = indexed("backends")
    assert "loudest 1: Loudest bins of two neighbouring bands" in out
    found = {
        line["name"]: line
        for line in map(json.loads, indexed("backends", "--json")[0].splitlines())
    }
    assert {"loudest", "slow", "crashing"} <= set(found)
    assert found["loudest"]["sample_rate"] == 8000
    assert found["loudest"]["parameters"] == {}


def test_doctor(indexed):
    out, _ = indexed("doctor")
    assert "    ok  lmdb: " in out
    assert f"    ok  store: {indexed.store}: 4 tracks" in out
    findings = [json.loads(line) for line in indexed("doctor", "--json")[0].splitlines()]
    assert {"kernels", "backend shazam", "numba"} <= {finding["what"] for finding in findings}
    assert {finding["state"] for finding in findings} <= {"ok", "note"}


def test_doctor_says_what_is_broken(filled):
    for data in filled.store.glob("data-*.mdb"):
        data.write_bytes(data.read_bytes()[:5000])
    out, _ = filled("doctor", status=1)
    assert "broken  store: " in out


def test_doctor_misses_the_model_of_a_store(cli, music, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes((files("afp") / "models" / "neural.onnx").read_bytes())
    cli("index", "-b", "neural", "-p", f"model={model}", music / "song0.wav")
    assert not [line for line in cli("doctor")[0].splitlines() if line.split()[0] == "broken"]
    model.rename(tmp_path / "moved.onnx")
    out, _ = cli("doctor", status=1)
    assert f"broken  store: backend 'neural': the model {model} cannot be read" in out
    assert "put the model with the weights " in out


def test_a_stream_made_with_a_model_says_how_it_is_taken(cli, music, tmp_path):
    model, stream = tmp_path / "model.onnx", tmp_path / "music.afp"
    shipped = (files("afp") / "models" / "neural.onnx").read_bytes()
    model.write_bytes(shipped + b"\xfa\x07\x00")  # with an empty field that nobody knows
    cli("index", "-b", "neural", "-p", f"model={model}", music / "song0.wav")
    stream.write_text(cli("export")[0])
    other = ("-d", tmp_path / "other")
    _, err = cli("import", *other, stream, status=4)
    said = f"afp index -b neural -p model={model} -p weights="
    assert said in err
    weights = err.partition(said)[2].split()[0]
    parameters = ("-p", f"model={model}", "-p", f"weights={weights}")
    cli("index", *other, "-b", "neural", *parameters, music / "song1.wav")
    cli("import", *other, stream)
    assert len(cli("ls", *other)[0].splitlines()) == 2


def test_tags_cannot_write_to_the_terminal(cli, tmp_path):
    path = write_wav(tmp_path / "music" / "a\x1b[2Jb.wav", song(5, seconds=5.0))
    _, err = cli.index(path, tmp_path / "\x1b[31mnowhere", status=3)
    assert "\x1b" not in err
    assert "\\x1b[31mnowhere" in err


def test_demo(cli, tmp_path):
    out, err = cli("demo", "-b", BACKEND, "--keep", tmp_path / "demo")
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["clip of", "music/noise", "", "answer", "found at", "error", "p_false"]
    assert len(rows) == 8
    assert all(row[2] == "✓" for row in rows[1:])
    assert rows[-1][3] == "no match"
    assert "7 of 7 right" in err
    assert "afp index ~/Music" in err
    assert len(list((tmp_path / "demo" / "music").iterdir())) == 12
    assert not cli.store.exists()


@pytest.mark.parametrize("name", ["77", "9" * 19, "9" * 25, "9" * 5000, "0", "-1"])
def test_rm_of_an_id_that_is_not_there(filled, name):
    _, err = filled("rm", "--", name, status=2)
    assert "no track has the id, path or content id" in err
    assert len(paths(filled)) == 4


def test_rm_of_a_file_whose_name_is_a_number(filled, folder):
    for name in ("77", "2"):
        write_wav(folder / name, song(20 + int(name), seconds=6.0))
    filled.index(folder / "77", folder / "2")

    def rm(*arguments):
        process = filled.start("rm", *arguments, cwd=folder)
        out, err = process.communicate()
        return process.returncode, out.decode(), err.decode()

    assert rm("77")[0] == 0
    assert str(folder / "77") not in paths(filled)
    status, _, err = rm("2")
    assert status == 2
    assert "'2' is a file in the store and also names track 2" in err
    assert "./2 is the file" in err
    assert rm("./2")[0] == 0
    assert str(folder / "2") not in paths(filled)
    assert len(paths(filled)) == 4


def test_names_of_files_cannot_write_to_the_terminal(cli, folder):
    names = ["a\x1b[2Jb.wav", "c\x9b31md.wav"]
    for name in names:
        (folder / "song0.wav").rename(folder / name)
        cli.index(folder)
        assert printable(name) in cli("rm", "--dry-run", folder / name)[0]
        shown = cli.on_terminal("rm", folder / name)
        assert name not in shown
        assert printable(name) in shown
        cli.index(folder)
        (folder / name).rename(folder / "song0.wav")
        shown = cli.on_terminal("prune")
        assert name not in shown
        assert printable(name) in shown
        cli.index(folder)


def test_prune_counts_forgotten_failures(filled, folder):
    (folder / "empty.wav").touch()
    filled.index(folder, status=3)
    (folder / "empty.wav").unlink()
    assert "would be removed, 1 failed file forgotten" in filled("prune", "--dry-run")[1]
    assert filled("ls", "--failed")[0] != ""
    assert "0 paths and 0 tracks removed, 1 failed file forgotten" in filled("prune")[1]
    assert filled("ls", "--failed")[0] == ""


def test_a_broken_plug_in_breaks_nothing_else(indexed, tmp_path):
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[afp.backends]\nbroken = no_such_module:Backend\n")
    cli = type(indexed)(indexed.store, tmp_path)
    out, _ = cli("backends")
    assert re.search("broken cannot be used: .*No module named 'no_such_module'", out)
    assert "shazam 1: " in out
    found = [json.loads(line) for line in cli("backends", "--json")[0].splitlines()]
    errors = {line["name"]: line["error"] for line in found}
    assert "no_such_module" in errors.pop("broken")
    assert set(errors.values()) == {None}
    assert "broken  backend broken: " in cli("doctor", status=1)[0]


def test_closed_streams_are_no_reason_to_crash(filled, folder, tmp_path):
    def run(*arguments, closed):
        command = shlex.join([*AFP, *map(str, arguments)])
        return subprocess.run(
            ["sh", "-c", f"{command} {closed}"],
            env=filled.environment,
            capture_output=True,
            check=False,
        )

    for arguments in (["query", "-"], ["index", "--files-from", "-"]):
        done = run(*arguments, closed="<&-")
        assert done.returncode == 2
        assert done.stderr.startswith(b"afp: error: standard input is closed\n")
    write_wav(folder / "new.wav", song(50, seconds=5.0))
    done = run("index", folder, folder / "nowhere", closed="<&- >&- 2>&-")
    assert done.returncode == 3
    assert done.stdout == done.stderr == b""
    assert filled("check")[0] == ""
    assert len(paths(filled)) == 5


def test_prune_and_its_dry_run_refuse_alike(filled, folder):
    folder.rename(folder.with_name("elsewhere"))
    foreseen, why = filled("prune", "--dry-run", status=4)
    assert len(foreseen.splitlines()) == 4
    out, err = filled("prune", status=4)
    assert out == ""
    assert "4 of 4 files are missing" in err
    assert why == f"4 paths and 4 tracks missing\n{err}"
    assert filled("prune", "--dry-run", "--force")[0] == foreseen
    assert len(paths(filled)) == 4


def test_rm_of_a_path_that_is_not_there(filled, folder):
    assert "no track has" in filled("rm", folder / "nowhere.wav", status=2)[1]


@pytest.mark.parametrize("command", [["stats"], ["ls", "x"], ["demo", "--keep"]])
def test_an_empty_path_is_no_path(indexed, command):
    arguments = [*command, ""] if command[0] == "demo" else [*command, "-d", ""]
    assert "a path is empty" in indexed(*arguments, status=2)[1]


def test_whether_a_store_may_be_read_is_for_the_store_to_tell(filled, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    for command in ("doctor", "stats"):
        arguments = [command, "-d", str(filled.store)]
        output = CliRunner().invoke(app, arguments, prog_name="afp").output
        assert str(filled.store) in output
        assert "Usage" not in output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_store_that_may_not_be_read(filled, music):
    filled.store.chmod(0)
    try:
        for arguments in (["query", "x.wav"], ["index", music], ["stats"]):
            assert "\nhint: " in filled(*arguments, status=4)[1]
        assert "broken  store: " in filled("doctor", status=1)[0]
    finally:
        filled.store.chmod(0o755)


@pytest.fixture
def forgetful(indexed, tmp_path):
    """The command line without a place for compiled kernels."""
    (tmp_path / "file").touch()
    cli = type(indexed)(indexed.store, tmp_path)
    cli.environment["AFP_CACHE"] = str(tmp_path / "file" / "cache")
    return cli


def test_kernels_that_cannot_be_kept_are_told_in_one_line(forgetful, tmp_path):
    silence = write_wav(tmp_path / "silence.wav", np.zeros(3 * RATE))  # takes few kernels
    _, err = forgetful("query", silence, status=1)
    warning, answer = err.splitlines()
    assert warning.startswith("afp: warning: kernels are compiled anew in each process: cannot")
    assert warning.endswith("; set AFP_CACHE")
    assert answer.endswith("silence.wav: no match: too short, or too quiet, for shazam")


def test_doctor_misses_a_place_for_kernels(forgetful):
    # Without the backends, whose many kernels would all be compiled.
    script = "from afp.cli import doctor; print(*doctor._kernels(), sep='; ')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=forgetful.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said = "compiled anew in each process; set AFP_CACHE to a folder that can be written to"
    assert done.stdout.strip() == f"kernels; broken; {said}"


@pytest.mark.slow
def test_doctor_ends_with_a_status_when_kernels_have_no_place(forgetful):
    out, _ = forgetful("doctor", status=1)
    assert "broken  kernels: compiled anew in each process; set AFP_CACHE to a folder" in out
