"""Moving tracks between stores, end to end: `afp export`, `afp import`, `afp merge`."""

import json
import shutil
import signal
import subprocess
import sys
import time
import zlib

import pytest
from cli_runner import Cli, excerpt, write_wav

from afp.library import Searcher, index
from afp.library.receiver import TransferReport
from afp.library.transfer import export, merge
from afp.store import Store
from afp.store.check import check
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]

BACKENDS = ("shazam", "philips", "neural")


def made(folder, backends):
    """Make stores of songs 0 and 1, of 1 and 2, and of all three."""
    sounds = [write_wav(folder / "music" / f"{i}.wav", song(i, seconds=12.0)) for i in range(3)]
    for name, files in (("one", sounds[:2]), ("other", sounds[1:]), ("all", sounds)):
        index(folder / name, files, backends=backends, n_workers=1)
    return folder


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Stores of one backend. Not to be changed."""
    return made(tmp_path_factory.mktemp("machines"), BACKENDS[:1])


@pytest.fixture(scope="module")
def machines_of_all(tmp_path_factory):
    """Stores of all backends. Not to be changed."""
    return made(tmp_path_factory.mktemp("machines"), BACKENDS)


def rows(cli):
    """What a store has, which is sound: path, title, backends of each track."""
    with Store.open(cli.store) as store, store.snapshot() as snapshot:
        assert check(snapshot) == []
        return sorted((t.path, t.title, sorted(t.backends)) for t in snapshot.tracks())


def stream_of(folder):
    """What `afp export` writes; that it does so is tested by itself."""
    lines = []
    with Store.open(folder) as store, store.snapshot() as snapshot:
        export(snapshot, lines.append)
    return b"".join(lines)


def answers(store, backend, clip):
    with Searcher.open(store, backend) as searcher:
        return {
            match.track.path: (match.score, match.p_false, match.track_start, match.query_end)
            for match in searcher.query(clip, max_p=1.0, limit=9).matches
        }


def test_a_merged_store_answers_as_one_that_was_made_at_once(machines_of_all, tmp_path, plugin):
    cli = Cli(tmp_path / "merged", plugin)
    _, err = cli("merge", machines_of_all / "one", machines_of_all / "other")
    assert err.startswith("3 added, 1 known; ")
    assert rows(cli) == rows(Cli(machines_of_all / "all", plugin))
    # Through a stream, the one behind the other.
    streamed = Cli(tmp_path / "streamed", plugin)
    for name in ("other", "one"):
        streamed("import", "-", stdin=stream_of(machines_of_all / name))
    assert rows(streamed) == rows(cli)
    clip = write_wav(tmp_path / "clip.wav", excerpt(2, 4.0, 5.0, length=12.0))
    for backend in BACKENDS:
        expected = answers(machines_of_all / "all", backend, clip)
        assert expected
        for store in ("merged", "streamed"):
            found = answers(tmp_path / store, backend, clip)
            assert found.keys() == expected.keys()
            for path, values in expected.items():
                assert found[path] == pytest.approx(values, rel=1e-5, abs=1e-9)


def test_export_import_export_gives_the_same_bytes(machines_of_all, tmp_path, plugin):
    stream, _ = Cli(machines_of_all / "one", plugin)("export")
    file = tmp_path / "music.afp"
    file.write_text(stream)
    cli = Cli(tmp_path / 'a store\'s "new" place', plugin)
    out, _ = cli("import", file, "--json")
    summary = json.loads(out)
    assert summary.pop("seconds") > 0 and summary.pop("postings") > 1000
    assert summary == {"added": 2, "extended": 0, "known": 0, "renamed": []}
    assert stream_of(cli.store) == stream.encode()
    out, err = cli("import", file, file)
    assert out == "" and err.startswith("4 known; store: ")
    assert [json.loads(line).keys() >= {"crc32"} for line in stream.splitlines()] == [True] * 4


def test_one_backend_then_the_others(machines_of_all, tmp_path, plugin):
    source = Cli(machines_of_all / "one", plugin)
    cli = Cli(tmp_path / "new", plugin)
    cli("import", "-", stdin=source("export", "-b", "shazam")[0].encode())
    assert [row[2] for row in rows(cli)] == [["shazam"]] * 2
    _, err = cli("import", "-", stdin=stream_of(source.store))
    assert err.startswith("2 extended; ")
    assert stream_of(cli.store) == stream_of(source.store)


def test_the_fingerprints_of_a_plug_in_are_carried(machines, tmp_path, plugin):
    """Its postings are all that there is; where it is missing, its fingerprints are refused."""
    source = Cli(tmp_path / "source", plugin)
    source("index", "-b", "loudest", machines / "music" / "0.wav")
    stream = stream_of(source.store)
    cli = Cli(tmp_path / "new", plugin)
    cli("import", "-", stdin=stream)
    assert stream_of(cli.store) == stream
    assert cli("query", machines / "music" / "0.wav")[0]
    _, err = Cli(tmp_path / "none", tmp_path)("import", "-", stdin=stream, status=2)
    assert "backend 'loudest' is not here" in err
    assert not (tmp_path / "none").exists()


def test_tracks_are_named_as_for_rm(machines, plugin):
    cli = Cli(machines / "one", plugin)
    track = json.loads(cli("ls", "--json")[0].splitlines()[0])
    for name in (str(track["id"]), track["path"]):
        header, line, end = map(json.loads, cli("export", name)[0].splitlines())
        assert line["files"][0][0] == track["path"]
        assert header["tracks"] == end["end"] == 1
    _, err = cli("export", "nothing-like-it", status=2)
    assert "no track has the id, path or content id" in err
    _, err = cli("export", "-b", "nothing", status=2)
    assert "no index of backend 'nothing'" in err


def test_nothing_is_written_to_a_terminal(machines, plugin):
    shown = Cli(machines / "one", plugin).on_terminal("export", status=2)
    assert "afp export > music.afp" in shown and "crc32" not in shown


def test_a_pipe_that_closes_ends_the_export(machines, plugin):
    cli = Cli(machines / "one", plugin)
    process = cli.start("export")
    process.stdout.close()
    assert process.wait(60) == 128 + signal.SIGPIPE
    assert process.stderr.read() == b""


def test_index_recognises_what_was_imported(machines, tmp_path, plugin):
    music = shutil.copytree(machines / "music", tmp_path / "music")
    source = Cli(tmp_path / "source", plugin)
    source.index(music)
    cli = Cli(tmp_path / "new", plugin)
    cli("import", "-", stdin=stream_of(source.store))
    # Unchanged at its path: by size and date alone. Elsewhere: by its audio.
    _, err = cli("index", music)
    assert err.startswith("3 skipped; ")
    music.rename(tmp_path / "moved")
    _, err = cli("index", tmp_path / "moved")
    assert err.startswith("3 moved; ")
    assert len(rows(cli)) == 3


def test_what_was_removed_or_failed_is_not_carried(machines, tmp_path, plugin):
    shutil.copytree(machines / "one", tmp_path / "one")
    source = Cli(tmp_path / "one", plugin)
    source("rm", machines / "music" / "0.wav")
    broken = tmp_path / "broken.wav"
    broken.touch()
    source("index", "-b", "shazam", broken, status=3)
    assert source("ls", "--failed")[0]
    cli = Cli(tmp_path / "new", plugin)
    cli("merge", tmp_path / "one")
    assert [row[0] for row in rows(cli)] == [str(machines / "music" / "1.wav")]
    assert cli("ls", "--failed")[0] == ""


def test_a_store_is_not_merged_into_itself(machines, tmp_path, plugin):
    link = tmp_path / "link"
    link.symlink_to(machines / "one")
    cli = Cli(machines / "one", plugin)
    before = stream_of(cli.store)
    _, err = cli("merge", machines / "other", link, status=2)
    assert "is the store itself" in err
    assert stream_of(cli.store) == before


def test_other_parameters_are_refused_before_anything_is_written(machines, tmp_path, plugin):
    strange = Cli(tmp_path / "strange", plugin)
    strange.index("-p", "density=50", machines / "music" / "2.wav")
    cli = Cli(tmp_path / "new", plugin)
    _, err = cli("merge", machines / "one", tmp_path / "strange", status=4)
    assert "density 94.0, not 50.0" in err and f"leave {tmp_path / 'strange'} out" in err
    assert "Traceback" not in err
    assert not (tmp_path / "new").exists()
    shutil.copytree(machines / "one", tmp_path / "mine")
    mine = Cli(tmp_path / "mine", plugin)
    before = stream_of(mine.store)
    mine("merge", machines / "other", tmp_path / "strange", status=4)
    _, err = mine("import", "-", status=4, stdin=stream_of(strange.store))
    assert "density 94.0, not 50.0" in err and "another store (--db)" in err
    assert stream_of(mine.store) == before


@pytest.mark.parametrize("command", ["merge", "import"])
def test_what_is_not_there(tmp_path, plugin, command):
    cli = Cli(tmp_path / "new", plugin)
    _, err = cli(command, tmp_path / "missing", status={"merge": 4, "import": 3}[command])
    assert str(tmp_path / "missing") in err and "Traceback" not in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 999])
def test_what_is_no_stream_makes_no_store(tmp_path, plugin, content):
    cli = Cli(tmp_path / "new", plugin)
    _, err = cli("import", "-", status=3, stdin=content)
    assert "afp: error: standard input: line 1: " in err and "hint: " in err
    assert not (tmp_path / "new").exists()


def test_a_stream_that_breaks_keeps_what_came_before(machines, tmp_path, plugin):
    lines = stream_of(machines / "all").splitlines(keepends=True)
    cli = Cli(tmp_path / "new", plugin)
    _, err = cli("import", "-", status=3, stdin=b"".join([*lines[:3], lines[3][:99]]))
    assert err.startswith("2 added; ") and "line 4: it is cut short" in err
    assert len(rows(cli)) == 2
    _, err = cli("import", "-", stdin=b"".join(lines))
    assert err.startswith("1 added, 2 known; ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_keeps_what_came(machines, tmp_path, plugin, number):
    lines = stream_of(machines / "all").splitlines(keepends=True)
    cli = Cli(tmp_path / "new", plugin)
    process = cli.start("import", "-", stdin=subprocess.PIPE)
    process.stdin.write(b"".join(lines[:3]))  # the other end has more, and says nothing
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not (tmp_path / "new" / "writer.lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.startswith(b"2 added; ") and b"interrupted with 1 track to go" in err
    _, err = cli("import", "-", stdin=b"".join(lines))
    assert err.startswith("1 added, 2 known; ")


INTERRUPTED = """
import os, signal
from afp import cli
from afp.library import receiver
from afp.store import forward
forward.CHUNK_TRACKS = 1
receive = receiver.Receiver.receive
def receive_and_signal(self, tracks):
    receive(self, tracks)
    os.kill(os.getpid(), signal.SIGINT)
receiver.Receiver.receive = receive_and_signal
cli.main()
"""


def test_an_interrupted_merge_goes_on(machines, tmp_path, plugin):
    cli = Cli(tmp_path / "new", plugin)
    for n_before in (0, 1):
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, "merge", machines / "one", machines / "other"],
            env=cli.environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 130, done.stderr
        assert len(rows(cli)) == n_before + 1
    _, err = cli("merge", machines / "one", machines / "other")
    assert err.startswith("1 added, 3 known; ")


def test_a_store_that_is_being_written_is_read_as_it_is(machines, tmp_path):
    other = shutil.copytree(machines / "other", tmp_path / "other")
    with Store.open(other, write=True) as writer:
        report = TransferReport()
        merge(tmp_path / "new", [other], report=report)
        assert report.added == 2
        writer.remove([1])
        merge(tmp_path / "newer", [other], report=(later := TransferReport()))
        assert later.added == 1


def test_the_others_are_only_read(machines, tmp_path, plugin):
    other = shutil.copytree(machines / "other", tmp_path / "other")
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    for path in (*before, *[path for path in other.rglob("*") if path.is_dir()], other):
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        Cli(tmp_path / "new", plugin)("merge", other)
    finally:
        for path in (other, *[path for path in other.rglob("*") if path.is_dir()]):
            path.chmod(0o700)
    after = {path: path.read_bytes() for path in before if "lock" not in path.name}
    assert after == {path: content for path, content in before.items() if "lock" not in path.name}


def test_exporting_into_importing(machines, tmp_path, plugin):
    """As `ssh host afp export | afp import -` does."""
    source, cli = Cli(machines / "one", plugin), Cli(tmp_path / "new", plugin)
    first = source.start("export")
    second = cli.start("import", "-", stdin=first.stdout)
    first.stdout.close()
    _, err = second.communicate(timeout=60)
    assert (first.wait(60), second.returncode) == (0, 0)
    assert err.startswith(b"2 added; ")


def test_hostile_texts_reach_no_terminal(machines, tmp_path, plugin):
    header, line, *_ = stream_of(machines / "one").splitlines()
    value = json.loads(line)
    del value["crc32"]
    value["title"] = "\x1b]0;owned\x07"
    value["files"][0][0] = "/music/\x1b[31m\u202egnp.wav"
    rest = json.dumps(value).encode()[1:]
    evil = b'{"crc32":"%08x",%b\n' % (zlib.crc32(rest), rest)
    end = b'"end":1}'
    stream = header + b"\n" + evil + b'{"crc32":"%08x",%b\n' % (zlib.crc32(end), end)
    cli = Cli(tmp_path / "new", plugin)
    cli("import", "-", stdin=stream)
    shown = cli.on_terminal("ls")
    assert "owned" in shown and "\x1b]0" not in shown and "\u202e" not in shown
    out, _ = cli("ls", "--json")
    assert "\x1b" not in out


@pytest.mark.parametrize("way", ["merge", "import"])
def test_a_recording_that_both_hold_keeps_all_of_its_paths(tmp_path, plugin, way):
    song_file = write_wav(tmp_path / "first" / "song.wav", excerpt(2, 0.0, 6.0, length=12.0))
    (tmp_path / "second").mkdir()
    copy = shutil.copy(song_file, tmp_path / "second" / "copy.wav")
    here, other = Cli(tmp_path / "here", plugin), Cli(tmp_path / "other", plugin)
    here("index", "-b", "shazam", song_file)
    other("index", "-b", "shazam", copy)
    for _ in range(2):
        if way == "merge":
            _, err = here("merge", other.store)
        else:
            _, err = here("import", "-", stdin=stream_of(other.store))
        assert err.startswith("1 known")
        with Store.open(here.store) as store, store.snapshot() as snapshot:
            assert snapshot.paths().keys() == {str(song_file), str(copy)}
            assert [track.path for track in snapshot.tracks()] == [str(song_file)]
    shutil.rmtree(tmp_path / "first")
    here("prune", "--force")
    assert [row[0] for row in rows(here)] == [str(copy)]
