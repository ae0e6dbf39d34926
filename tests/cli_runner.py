"""The real command line in a subprocess, and audio for it."""

import os
import pty
import subprocess
import sys
import termios
import time
import wave
from pathlib import Path

import numpy as np

from afp.synthesis import song

SCRIPT = Path(sys.executable).with_name("afp")
AFP = [os.fspath(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "afp"]
"""The command that is installed beside the interpreter; without one, the module."""

RATE = 16_000
BACKEND = "shazam"


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


def excerpt(seed: int, start: float, seconds: float, *, length: float = 20.0) -> np.ndarray:
    """Cut a clip out of a song of the library and add a little noise."""
    clip = song(seed, seconds=length)[round(start * RATE) :][: round(seconds * RATE)]
    noise = np.random.default_rng(seed).standard_normal(len(clip)).astype(np.float32)
    return (clip + 0.1 * clip.std() * noise) / 2


def is_running(pid: int) -> bool:
    """Tell whether a process has not ended; one that nobody has waited for yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] not in "XZ"


def assert_ends(*pids: int) -> None:
    """Wait until processes that nobody waits for have ended."""
    deadline = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Cli:
    """The command line, with a store of its own."""

    def __init__(self, store: Path, plugin: Path) -> None:
        self.store = store
        size = ("COLUMNS", "LINES")  # of the terminal that the tests run in
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AFP_") and k not in size}
        python_path = os.pathsep.join([str(plugin), *filter(None, [kept.get("PYTHONPATH")])])
        self.environment = {**kept, "AFP_DB": str(store), "PYTHONPATH": python_path}

    def start(self, *arguments: str | bytes | Path, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*AFP, *map(os.fsencode, arguments)],
            env=self.environment,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )

    def __call__(
        self, *arguments: str | bytes | Path, status: int = 0, stdin: bytes = b""
    ) -> tuple[str, str]:
        """Run a command; return stdout and stderr, undecodable bytes as surrogates."""
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=60)
        assert process.returncode == status, os.fsdecode(err)
        return os.fsdecode(out), os.fsdecode(err)

    def index(self, *arguments: str | bytes | Path, status: int = 0, **options: bytes):
        return self("index", "-b", BACKEND, *arguments, status=status, **options)

    def on_terminal(self, *arguments: str | Path, status: int = 0, columns: int = 100) -> str:
        """Run a command on a terminal; return what it showed."""
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        environment = {**self.environment, "TERM": "xterm"}
        command = [*AFP, *map(os.fspath, arguments)]
        process = subprocess.Popen(
            command, env=environment, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += os.read(master, 4096)
            except OSError:  # the other end is closed
                break
        os.close(master)
        assert process.wait(60) == status, shown
        return shown.decode()
