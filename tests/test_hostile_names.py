"""File names and tags that are control sequences, options, addresses, or no text at all."""

import json
import os
import re
import shutil
import socket
import subprocess

import click
import pytest
import soundfile
from cli_runner import Cli, write_wav
from click.testing import CliRunner

from afp.cli import app, ls
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="the ffmpeg program is not on the PATH"
)

# A title for the window, a colour, the same in one character, a deletion, the turn of direction.
SEQUENCES = "\x1b]0;owned\x07\x1b[31m\x9b31m\x7f\u202e\u2066"
NAMES = [
    os.fsencode(f"{SEQUENCES}.wav"),
    b"tab\tline\nreturn\rback\\slash.wav",
    b"undecodable \xff\xe9.wav",
    "Ünïcødé 音楽.wav".encode(),
    b"<img src=x onerror=alert(1)>.wav",
    b"[red]markup[red].wav",
]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Settings under which Python's own streams take ASCII alone.
NARROW = (
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Songs with these names, and with the first as their tags."""
    folder = tmp_path_factory.mktemp("named")
    for seed, name in enumerate(NAMES):
        path = os.fsencode(folder) + b"/" + name
        with soundfile.SoundFile(path, "w", 16_000, 1, format="WAV") as file:
            file.title, file.artist = SEQUENCES + f"{seed}", "<b>A</b>"
            file.write(song(seed, seconds=8.0))
    return folder


@pytest.fixture(scope="module")
def cli_of_named(named, plugin, tmp_path_factory):
    """The command line with a store that holds `named`."""
    cli = Cli(tmp_path_factory.mktemp("store") / "store", plugin)
    cli.index(named)
    return cli


def paths(folder):
    return [os.fsencode(folder) + b"/" + name for name in NAMES]


def restored(field):
    """Undo the escapes of a field, as ``printf %b`` does."""
    done = subprocess.run(
        ["bash", "-c", 'printf %b "$1"', "bash", os.fsencode(field)],
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    return done.stdout


def test_a_pipe_gets_one_line_a_name_without_control_characters(cli_of_named, named):
    for out in (cli_of_named("query", *paths(named))[0], cli_of_named("ls")[0]):
        lines = out.removesuffix("\n").split("\n")
        assert len(lines) == len(NAMES)
        assert not CONTROL.search(out)
        assert sorted(restored(line.split("\t")[1]) for line in lines) == sorted(paths(named))
    titles = [line.split("\t")[3] for line in cli_of_named("ls")[0].splitlines()]
    assert sorted(map(restored, titles)) == [f"{SEQUENCES}{i}".encode() for i in range(len(NAMES))]


def test_json_is_utf8_and_keeps_every_name(cli_of_named, named):
    for command in (["query", "--json", *paths(named)], ["ls", "--json"]):
        out = os.fsencode(cli_of_named(*command)[0]).decode("utf-8", "strict")
        assert not CONTROL.search(out)
        objects = [json.loads(line) for line in out.splitlines()]
        found = [each.get("path") or each["matches"][0]["track"]["path"] for each in objects]
        assert sorted(map(os.fsencode, found)) == sorted(paths(named))


def test_a_terminal_gets_no_control_sequence(cli_of_named, named, monkeypatch):
    monkeypatch.setitem(cli_of_named.environment, "NO_COLOR", "1")
    for command in (["query", *map(os.fsdecode, paths(named))], ["ls"]):
        shown = cli_of_named.on_terminal(*command, columns=200)
        assert not CONTROL.search(shown.replace("\r\n", "\n"))
    assert "[red]markup[red].wav" in cli_of_named.on_terminal("ls", columns=400)


def test_warnings_and_errors_are_one_line_without_control_characters(cli, tmp_path):
    for name in NAMES[:3]:
        (tmp_path / "music").mkdir(exist_ok=True)
        (tmp_path / "music" / os.fsdecode(name)).write_bytes(b"no audio at all")
    write_wav(tmp_path / "music" / "sound.wav", song(1, seconds=8.0))
    _, err = cli.index(tmp_path / "music", status=3)
    assert not CONTROL.search(err)
    assert err.count("\n") == err.count("afp: warning: failed: ") + 1 == 4
    garbage = paths(tmp_path / "music")[:3]
    _, err = cli("query", *garbage, status=3)
    assert not CONTROL.search(err)
    assert err.count("\n") == 3
    # As an option, which `afp query *` makes of a name, as a number, as a command.
    for arguments in (
        ["query", f"--{SEQUENCES}"],
        ["query", "-n", SEQUENCES, "x.wav"],
        [SEQUENCES],
    ):
        assert not CONTROL.search(cli(*arguments, status=2)[1])
    assert not CONTROL.search(cli("query", "-d", tmp_path / SEQUENCES, "x.wav", status=4)[1])


def test_what_click_quotes_is_escaped(monkeypatch):
    def fail(context):
        raise click.UsageError(f"no such option: {SEQUENCES}")  # as its releases before 8.2 do

    monkeypatch.setattr(ls.command, "invoke", fail)
    result = CliRunner().invoke(app, ["ls"])
    assert "no such option: " in result.output
    assert not CONTROL.search(result.output)


@pytest.mark.parametrize("settings", NARROW, ids=["ascii", "C locale"])
def test_no_encoding_of_the_streams_is_too_narrow(cli_of_named, named, settings, monkeypatch):
    for name, value in {**settings, "NO_COLOR": "1"}.items():
        monkeypatch.setitem(cli_of_named.environment, name, value)
    out, err = cli_of_named("query", *paths(named), named / "missing \udcff 音.wav", status=3)
    assert out.count("\n") == len(NAMES)
    assert err.count("\n") == 1
    assert cli_of_named("ls", "--json")[0].count("\n") == len(NAMES)
    shown = cli_of_named.on_terminal("ls", columns=400)
    assert "n?c?d? ??.wav" in shown
    assert f"{len(NAMES)} tracks" in shown


@needs_ffmpeg
def test_no_name_is_an_option_an_address_or_a_pattern_to_ffmpeg(cli, tmp_path):
    wave = write_wav(tmp_path / "song.wav", song(1, seconds=8.0))
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", wave, "-c:a", "aac", tmp_path / "song.m4a"],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    folder = tmp_path / "music"
    folder.mkdir()
    names = [
        *("-i.m4a", "http:x.m4a", "concat:a|b.m4a", "pipe:0", "%03d.m4a"),
        "new\nline '$(touch x)`touch y`;.m4a",
    ]
    for name in names:
        shutil.copy(tmp_path / "song.m4a", folder / name)
    before = sorted(folder.iterdir())
    index = cli.start("index", "-b", "shazam", "--", *names, cwd=folder)
    assert b"1 added, 5 duplicate" in index.communicate(timeout=60)[1]
    assert index.returncode == 0
    query = cli.start("query", "--json", "--", *names, cwd=folder)
    out, _ = query.communicate(timeout=60)
    results = [json.loads(line) for line in out.splitlines()]
    assert [result["query"] for result in results] == names
    assert all(result["matches"] for result in results)
    assert sorted(folder.iterdir()) == before


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "concat.mp3": "ffconcat version 1.0\nfile '{}'\n",
    "session.mp3": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    "manifest.m4a": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType='
    '"audio/mp4"><Representation id="0"><BaseURL>{}</BaseURL></Representation></AdaptationSet>'
    "</Period></MPD>",
    "old.asf": "[Reference]\nRef1={}\n",
    "real.rm": "{}\n",
}


@needs_ffmpeg
def test_a_playlist_reaches_neither_the_network_nor_other_files(cli, tmp_path):
    write_wav(tmp_path / "secret.wav", song(1, seconds=8.0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        for place, address in enumerate(
            (
                f"http://127.0.0.1:{port}/a.ts",
                f"file:{tmp_path}/secret.wav",
            )
        ):
            folder = tmp_path / "lists" / str(place)
            folder.mkdir(parents=True)
            for name, text in PLAYLISTS.items():
                (folder / name).write_text(text.format(address))
        files = sorted(map(str, (tmp_path / "lists").rglob("*.*")))
        out, _ = cli.index("--json", *files, status=3)
        outcomes = [json.loads(line) for line in out.splitlines()]
        assert sorted(outcome["path"] for outcome in outcomes) == files
        assert all(outcome["error"].startswith("cannot be decoded: ") for outcome in outcomes)
        with pytest.raises(BlockingIOError, match="unavailable"):
            server.accept()
