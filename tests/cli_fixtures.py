"""Fixtures: a small music library, its store, and the command line."""

import shutil
from pathlib import Path

import pytest
from cli_runner import Cli, write_wav

from afp.synthesis import song

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_backend.py"

PLUGIN = '''
"""Backends that misbehave."""

import os, signal, time
from pathlib import Path
from own_backend import Backend as Loudest

class Slow(Loudest):
    """Takes its time and writes down every call."""
    name = "slow"
    def extract(self, samples, *, dense=False):
        with Path(__file__).with_name("calls").open("a") as calls:
            calls.write("x")
        time.sleep(0.05)
        return super().extract(samples, dense=dense)

class Crashing(Loudest):
    """Takes the process down when the audio is silent, and raises when it is short."""
    name = "crashing"
    def extract(self, samples, *, dense=False):
        if not samples.any():
            os.kill(os.getpid(), signal.SIGSEGV)
        if len(samples) < 8000:
            raise ZeroDivisionError("a fault")
        return super().extract(samples, dense=dense)
'''


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on PYTHONPATH, is an installed package of backends."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copy(EXAMPLE, folder)
    (folder / "misbehaving.py").write_text(PLUGIN)
    info = folder / "own_backend-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-backend\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[afp.backends]\nloudest = own_backend:Backend\n"
        "slow = misbehaving:Slow\ncrashing = misbehaving:Crashing\n"
    )
    return folder


@pytest.fixture
def cli(tmp_path: Path, plugin: Path) -> Cli:
    """The command line with an empty store."""
    return Cli(tmp_path / "store", plugin)


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four songs of 20 s: ``song0.wav`` to ``song3.wav``. Not to be changed."""
    folder = tmp_path_factory.mktemp("music")
    for seed in range(4):
        write_wav(folder / f"song{seed}.wav", song(seed, seconds=20.0))
    return folder


@pytest.fixture(scope="session")
def indexed(music: Path, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command line with a store that holds `music`. Not to be changed."""
    cli = Cli(tmp_path_factory.mktemp("indexed") / "store", plugin)
    cli.index(music)
    return cli
