"""Stores in which a query of `shazam` has more hits than are counted at first."""

import pytest
from backend_contract import Shelf
from synthesis import noise

from afp.backends import shazam


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(shazam.Backend(), tmp_path_factory.mktemp("shelf") / "store")


def noisy(shelf, seed):
    clip = shelf.clip(seed)
    return clip + noise(6, seed, shelf.backend.sample_rate, level=clip.std())


def found(shelf, seeds):
    """Count the clips whose own track comes first, with a p_false that counts."""
    firsts = [next(iter(shelf.query(noisy(shelf, seed))), None) for seed in seeds]
    return sum(
        match is not None and match.track.path == f"/music/{seed}" and match.p_false <= 1e-3
        for seed, match in zip(seeds, firsts, strict=True)
    )


def test_all_hits_tell_what_the_rarest_do_not(shelf, monkeypatch):
    seeds = range(6)
    at_large = found(shelf, seeds)
    assert at_large >= 5
    monkeypatch.setattr(shazam, "MAX_HITS", 1)
    assert found(shelf, seeds) == at_large
    monkeypatch.setattr(shazam, "MANY_HITS", 1)
    assert found(shelf, seeds) < at_large
