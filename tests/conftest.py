"""Fixtures and settings that all tests share."""

from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("afp", deadline=None, max_examples=50)
hypothesis.settings.load_profile("afp")


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """Folder of real recordings beside the repository, which not everybody has."""
    folder = Path(__file__).parents[2] / "shared" / "audio"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}")
    return folder
