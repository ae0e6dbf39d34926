"""Fixtures and settings that all tests share."""

# ruff: noqa: E402 - before NumPy is imported
import os

# Tests start workers of their own, which compute in one thread; the sums of several differ in
# their last bit.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import signal
from pathlib import Path

import hypothesis
import pytest

# Ignored where a script runs the tests in the background, and then by what they start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("afp", deadline=None, max_examples=50)
hypothesis.settings.load_profile("afp")


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """Folder of real recordings beside the repository, which not everybody has."""
    folder = Path(__file__).parents[2] / "shared" / "audio"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}")
    return folder
