"""What every backend that judges the places of others promises; see `backend_contract`."""

import math

import numpy as np
import pytest
import soxr
from backend_contract import N_TRACKS, TRACK_SECONDS
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesis import noise, silence

from afp.backends import Place, Verifier
from afp.backends.protocol import PLACE_SECONDS
from afp.errors import StoreError

pytest_plugins = ["backend_fixtures"]
pytestmark = pytest.mark.filterwarnings("error")

START, STOP = 6.0, 12.0


@pytest.fixture(scope="module")
def verifier(shelf):
    if not isinstance(shelf.backend, Verifier):
        pytest.skip(f"{shelf.backend.name} does not judge places")
    return shelf


def judged(shelf, samples, places):
    """Let a backend judge places; tracks are named by their seeds."""
    with shelf.index() as index:
        ids = {track.path: track.id for track in map(index.track, range(1, N_TRACKS + 1))}
        named = [Place(ids[f"/music/{seed}"], *rest) for seed, *rest in places]
        query = shelf.backend.extract(samples, dense=True)
        matches = shelf.backend.verify(query, index, named)
    assert [match.track.id for match in matches] == [place.track_id for place in named]
    for match in matches:
        assert 0 <= match.p_false <= 1
        assert match.query_start <= match.query_end
        assert math.isfinite(match.score)
    return matches


def noisy(shelf, seed, level=10**-0.25):
    clip = shelf.clip(seed, START, STOP)
    rate = shelf.backend.sample_rate
    return clip + noise(STOP - START, seed, rate, level=level * clip.std())[: len(clip)]


@pytest.mark.parametrize("error", [-0.8 * PLACE_SECONDS, 0.0, 0.8 * PLACE_SECONDS])
def test_a_true_place_is_recognised_within_the_tolerance(verifier, error):
    for seed in range(0, N_TRACKS, 3):
        (match,) = judged(verifier, noisy(verifier, seed), [(seed, START + error)])
        assert match.p_false < 1e-3
        offset = match.track_start - match.speed * match.query_start
        assert offset == pytest.approx(START, abs=verifier.backend.hop_seconds)


def test_other_places_and_tracks_are_not(verifier):
    rng = np.random.default_rng(3)
    chances = []
    for seed in range(N_TRACKS):
        others = [
            (int(other), float(rng.uniform(0, 14))) for other in rng.integers(N_TRACKS, size=6)
        ]
        places = [(other, offset) for other, offset in others if other != seed]
        chances += [match.p_false for match in judged(verifier, noisy(verifier, seed), places)]
    chances = np.array(chances)
    assert len(chances) > 60
    assert chances.min() > 1e-4
    assert (chances < 0.01).mean() < 0.06


def test_another_place_of_the_same_track_is_worse_than_the_true_one(verifier):
    for seed in range(0, N_TRACKS, 3):
        away = [(seed, START + d) for d in (-4.37, -1.61, 2.23, 5.71)]
        true, *others = judged(verifier, noisy(verifier, seed), [(seed, START), *away])
        assert true.p_false < 1e-2 * min(match.p_false for match in others)


def test_what_is_said_of_a_place_does_not_depend_on_the_others(verifier):
    places = [(seed, START) for seed in range(N_TRACKS)]
    samples = noisy(verifier, 4)
    together = judged(verifier, samples, places)
    for match, place in list(zip(together, places, strict=True))[::4]:
        assert judged(verifier, samples, [place]) == [match]


def test_verifying_after_matching_says_the_same(verifier):
    samples = noisy(verifier, 7)
    alone = judged(verifier, samples, [(7, START), (3, 2.0)])
    with verifier.index() as index:
        query = verifier.backend.extract(samples, dense=True)
        places = [
            Place(match.track.id, offset) for match, offset in zip(alone, (START, 2.0), strict=True)
        ]
        verifier.backend.match(
            verifier.backend.extract(samples[::-1].copy(), dense=True), index, limit=1
        )
        verifier.backend.match(query, index, limit=1)
        after = verifier.backend.verify(query, index, places)
    assert [match.p_false for match in after] == pytest.approx(
        [match.p_false for match in alone], rel=1e-6
    )


@pytest.mark.parametrize("speed", [0.97, 1.03])
def test_a_place_is_recognised_at_another_speed(verifier, speed):
    rate = verifier.backend.sample_rate
    for seed in (3, 9):
        clip = soxr.resample(verifier.clip(seed, 6, 6 + 6 * speed), speed * rate, rate)
        (match,) = judged(verifier, clip, [(seed, START, speed)])
        assert match.p_false < 1e-2


@pytest.mark.parametrize("kind", ["empty", "silence", "too short"])
def test_an_empty_query_is_nowhere(verifier, kind):
    rate = verifier.backend.sample_rate
    samples = {
        "empty": silence(0, rate),
        "silence": silence(5, rate),
        "too short": verifier.songs[1][: round(0.5 * verifier.backend.hop_seconds * rate)],
    }[kind]
    matches = judged(verifier, samples, [(1, 3.0), (2, 0.0)])
    assert [match.p_false for match in matches] == [1.0, 1.0]
    assert [match.query_end - match.query_start for match in matches] == [0.0, 0.0]
    assert judged(verifier, samples, []) == []


@settings(max_examples=12, deadline=None)
@given(beyond=st.floats(0.5, 1e5), before=st.booleans(), speed=st.sampled_from([0.95, 1.0, 1.05]))
def test_a_place_outside_the_track_is_none(verifier, beyond, before, speed):
    length = STOP - START
    offset = -1.1 * length - beyond if before else TRACK_SECONDS + beyond
    (match,) = judged(verifier, noisy(verifier, 5), [(5, offset, speed)])
    assert match.p_false > 0.1


def test_a_track_that_the_index_does_not_have_is_refused(verifier):
    query = verifier.backend.extract(verifier.clip(0), dense=True)
    with verifier.index() as index, pytest.raises(StoreError, match="has no fingerprint"):
        verifier.backend.verify(query, index, [Place(N_TRACKS + 100, 0.0)])
