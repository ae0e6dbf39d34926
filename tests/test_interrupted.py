"""Ctrl-C, SIGTERM and readers that go away: a line and a status, never a traceback."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from cli_runner import write_wav

from afp.store import Store, interchange
from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


START = """
import sys
class Here:
    def find_spec(name, path=None, target=None):
        if name == "afp.cli":
            print("here", file=sys.stderr)
sys.meta_path.insert(0, Here)
from afp.__main__ import main
main()
"""
"""The command line, which says when Python has started and its imports begin."""


def start(*arguments):
    """Start the command line; return as its imports begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr.readline() == b"here\n"
    return process


def ended(process, number, status):
    """Send a signal, and return what is said; the process has ended by it, or was through."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err, err
    assert b"Exception" not in err, err
    assert process.returncode in (0, status, -number), err
    return out, err


@pytest.mark.parametrize("hundredths", range(0, 10, 2))
def test_imports_are_interrupted_quietly(hundredths):
    number, status = SIGNALS[hundredths // 2 % 2]
    process = start("query", "--help")
    time.sleep(hundredths / 100)
    ended(process, number, status)


DESTRUCTOR = """
import os, signal, sys
from afp.cli import interrupt
interrupt.install()
class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.Signals.SIGTERM)
        sum(range(1000))
Destroyed()
print("not reached")
"""


def test_a_signal_that_meets_a_destructor_ends_the_program_too():
    done = subprocess.run([sys.executable, "-c", DESTRUCTOR], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, b"", b"afp: interrupted\n")


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_an_early_interruption_of_index_is_quiet(tmp_path, number, status, seconds):
    write_wav(tmp_path / "music" / "song.wav", song(1, seconds=3.0))
    process = start("index", "-d", tmp_path / "store", tmp_path / "music")
    time.sleep(seconds)
    _, err = ended(process, number, status)
    assert b"no audio files" not in err


STUCK = """
import sys, time
from afp.library import planning
def walk(paths, **options):
    print("walking", file=sys.stderr, flush=True)
    time.sleep(60)
    yield
planning.walk = walk
from afp.cli import main
main()
"""
"""The command line, on a disk that does not answer."""


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_index_is_interrupted_while_it_looks_for_files(tmp_path, number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, "index", "-d", tmp_path / "store", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr.readline() == b"walking\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert err.decode().splitlines() == [
        f"no file done; store: {tmp_path / 'store'}",
        "interrupted while looking for files; the same command goes on from here",
    ]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", ["index", "rm", "prune", "compact", "check", "import", "merge"])
def test_who_waits_for_a_writer_says_so_and_can_be_interrupted(tmp_path, command):
    other, stream = tmp_path / "other", tmp_path / "stream.afp"
    Store.open(other, write=True).close()
    header = interchange.header_line(interchange.Header(0, {}))
    stream.write_bytes(header + interchange.end_line(0))
    arguments = {
        "index": [tmp_path],
        "rm": ["1"],
        "check": ["--repair"],
        "import": [stream],
        "merge": [other],
    }.get(command, [])
    number, status = SIGNALS[len(command) % 2]
    with Store.open(tmp_path / "store", write=True):
        process = start(command, "-d", tmp_path / "store", "--wait", "60", *arguments)
        said = process.stderr.readline().decode()
        assert f"waiting: {tmp_path / 'store'} is being written by process {os.getpid()} (" in said
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert b"interrupted" in err
    assert b"Traceback" not in err


def test_sigterm_ends_a_query_with_what_was_printed_before(indexed, music, tmp_path):
    (tmp_path / "list").write_text(f"{music / 'song1.wav'}\n" * 500)
    process = indexed.start("query", "--files-from", tmp_path / "list", "--json")
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err == b"afp: interrupted\n"
    results = [json.loads(line) for line in (first + out).splitlines()]
    assert 1 <= len(results) < 500


def ignoring():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("command", ["index", "query"])
def test_an_ignored_signal_stays_ignored(indexed, music, command):
    """As the shell has it for what a script runs in the background."""
    process = indexed.start(command, music / "song1.wav", preexec_fn=ignoring)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = process.communicate()
    assert process.returncode == 0, err


@pytest.mark.parametrize("arguments", [("ls",), ("ls", "--json"), ("backends",)])
def test_who_stops_reading_is_not_told(indexed, arguments):
    process = indexed.start(*arguments)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) in (0, 141)


def test_index_whose_reader_goes_away_keeps_what_it_had_stored(cli, music):
    process = cli.start("index", "--json", music, stderr=subprocess.STDOUT)
    process.stdout.close()
    assert process.wait(60) == 141
    out, _ = cli("index", "--json", music)
    assert {json.loads(line)["status"] for line in out.splitlines()} == {"skipped"}
    assert cli("check")[0] == ""
