"""Every command has help with an example, and starts fast."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from afp import __version__
from afp.cli import COMMANDS, app, terminal
from afp.cli.index import _tell as tell
from afp.library import IndexReport


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"], prog_name="afp")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: afp {command} ")
    assert f"\n  afp {command}" in result.output.partition("Examples:")[2]
    assert CliRunner().invoke(app, [command, "-h"], prog_name="afp").output == result.output


def test_help_lists_every_command():
    output = CliRunner().invoke(app, ["--help"], prog_name="afp").output
    for command, summary in COMMANDS.items():
        assert f"\n  {command}" in output
        assert summary in output
    assert __version__ in CliRunner().invoke(app, ["--version"]).output


def modules_of(*arguments):
    code = (
        "import sys\nfrom afp.cli import app\n"
        f"try: app({list(arguments)!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_help_imports_next_to_nothing():
    assert not modules_of("--help") & {"numpy", "lmdb", "rich", "afp.library"}


def test_query_imports_only_what_it_uses(tmp_path):
    modules = modules_of("query", "-d", str(tmp_path / "none"), "x.wav")
    assert "afp.library.querying" in modules
    assert not modules & {"rich", "numba", "scipy", "tinytag"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ünïcødé 音楽", "plain ünïcødé 音楽"),
        ("\x1b[31mred\x07\n", "\\x1b[31mred\\x07\\x0a"),
        ("\x9b31m", "\\u009b31m"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("two\u2028lines", "two\\u2028lines"),
        (b"\xff.wav".decode("utf-8", "surrogateescape"), "\\xff.wav"),
    ],
)
def test_printable(text, expected):
    assert terminal.printable(text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcødé 音楽 🎵", "plain ünïcødé 音楽 🎵"),
        ("\x1b[31m\x7f\x9b", r"\u001b[31m\u007f\u009b"),
        ("evil\u202egnp\u2028", r"evil\u202egnp\u2028"),
        (b"\xff".decode("utf-8", "surrogateescape"), r"\udcff"),
    ],
)
def test_json_is_safe_to_look_at_and_means_the_same(text, shown, capsys):
    terminal.json_line({"title": text})
    out = capsys.readouterr().out
    assert out == f'{{"title": "{shown}"}}\n'
    assert json.loads(out) == {"title": text}


def test_an_interruption_while_looking_for_files_does_not_say_how_many(capsys):
    tell(IndexReport(interrupted=2, n_left=None), Path("store"))
    assert "interrupted while looking for files; the same command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0:00.0"),
        (59.96, "1:00.0"),
        (187.25, "3:07.2"),
        (-2.5, "-0:02.5"),
        (-0.01, "0:00.0"),
        (3723, "1:02:03.0"),
    ],
)
def test_clock(seconds, expected):
    assert terminal.clock(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.123, "0.123 s"), (42, "42 s"), (187, "3 min 7 s"), (59.96, "60 s"), (43500, "12 h 5 min")],
)
def test_duration(seconds, expected):
    assert terminal.duration(seconds) == expected


@pytest.mark.parametrize(
    ("n_bytes", "expected"), [(0, "0 B"), (999, "999 B"), (41_200, "41.2 kB"), (3.2e13, "32 TB")]
)
def test_size(n_bytes, expected):
    assert terminal.size(n_bytes) == expected


def test_doctor_prepares_the_kernels_of_the_store_too():
    code = (
        "import sys, afp.compiled\n"
        "afp.compiled.prepare = lambda: print('afp.store.postings' in sys.modules)\n"
        "from afp.cli.doctor import _kernels\n_kernels()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_demo_says_which_backend_it_uses():
    output = CliRunner().invoke(app, ["demo", "--help"], prog_name="afp").output
    assert "Backend.  [default: shazam]" in output
