"""Memory does not grow with the length of a file."""

import os
import subprocess
import sys

import numpy as np
import pytest
from cli_runner import write_wav

pytest_plugins = ["cli_fixtures"]

MEASURE = """
import resource, sys
from afp.library import Searcher, index
if sys.argv[1] == "index":
    index(sys.argv[2], sys.argv[3:], backends=["loudest"], n_workers=1)
else:
    with Searcher.open(sys.argv[2]) as searcher:
        searcher.query(sys.argv[3], timeline=True)
who = resource.RUSAGE_CHILDREN if sys.argv[1] == "index" else resource.RUSAGE_SELF
print(resource.getrusage(who).ru_maxrss // 1024)
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Noise of 6 min and of an hour, at 8 kHz."""
    folder = tmp_path_factory.mktemp("recordings")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000 * 360).astype(np.float32)
    short = write_wav(folder / "short.wav", noise, rate=8000)
    long = write_wav(folder / "long.wav", np.tile(noise, 10), rate=8000)
    return short, long


@pytest.mark.parametrize("task", ["index", "query"])
def test_an_hour_takes_no_more_than_six_minutes(task, recordings, music, cli, tmp_path):
    cli("index", "-b", "loudest", music)
    megabytes = []
    for recording in recordings:
        store = cli.store if task == "query" else tmp_path / recording.stem
        command = [sys.executable, "-c", MEASURE, task, store, recording]
        environment = {**os.environ, **cli.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        megabytes.append(int(done.stdout))
    assert megabytes[1] < megabytes[0] + 60
