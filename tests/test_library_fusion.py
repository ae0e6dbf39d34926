"""Fusion of several backends, with parts that say what they are told to."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.backends import Verifier
from afp.fingerprint import Fingerprint, Match, Track
from afp.library.fusion import ALONE, CERTAIN, CONFIRMED, FUSED, MOST_PLACES, Fusion
from afp.matching.significance import p_of

SECONDS = 5.0


def track(track_id, backends=("coarse", "fine")):
    return Track(track_id, f"{track_id:x}", f"/music/{track_id}", 100.0, backends=backends)


def match(track_id, p_false, *, at=10.0, **more):
    of = more.pop("of", None) or track(track_id)
    return Match(of, 0.0, SECONDS, at, at + SECONDS, 1.0, p_false, **more)


@dataclass(eq=False)
class Part:
    """A backend that names `named`, and says `said` of the places of others, by track."""

    name: str
    hop_seconds: float
    named: list = field(default_factory=list)
    said: dict = field(default_factory=dict)
    deaf: bool = False
    sample_rate: int = 8000
    version: int = 1
    context_seconds: float = 1.0
    window_seconds: float = 12.0
    heard: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    def parameters(self):
        return {"keen": True}

    def extract(self, samples, *, dense=False):
        assert dense
        self.heard.append(len(samples))
        return Fingerprint(1, np.zeros(0 if self.deaf else 1, np.uint32))

    def match(self, query, index, *, limit):
        assert index == f"index of {self.name}"
        return self.named[:limit]

    def verify(self, query, index, places):
        self.asked += places
        return [self.said[place.track_id] for place in places]


def fused(*parts, limit=5):
    assert all(isinstance(part, Verifier) for part in parts)
    indexes = {part.name: f"index of {part.name}" for part in parts}
    return Fusion(parts).match(np.zeros(40_000, np.float32), indexes, limit=limit)


def pair(p, said, *, by="coarse", **more):
    """One part names a place, the other judges it."""
    coarse, fine = Part("coarse", 0.5), Part("fine", 0.03)
    proposer, verifier = (coarse, fine) if by == "coarse" else (fine, coarse)
    proposer.named, verifier.said = [match(1, p, **more)], {1: match(1, said, at=10.02, speed=1.01)}
    return fused(coarse, fine)[0]


probabilities = st.floats(1e-12, 0.99)


@given(probabilities, probabilities, st.floats(0.01, 1.0))
def test_better_in_the_eyes_of_either_is_better_for_both(p, said, factor):
    together = pair(p, said)
    assert 0 < together.p_false <= 1
    for better in (pair(factor * p, said), pair(p, factor * said)):
        assert better.p_false <= together.p_false * (1 + 1e-9)
        assert better.score >= together.score - 1e-9


@given(st.floats(1e-12, 1e-3), st.floats(0.0, 1.0))
def test_what_one_part_finds_alone_keeps_a_share_of_its_chance(p, said):
    assert pair(p, said).p_false <= 2 * p / ALONE * 1.001


def test_agreement_is_worth_more_than_either():
    assert pair(1e-2, 1e-3).p_false < 1e-3
    assert pair(0.5, 1e-5).p_false < 1e-3
    assert pair(1e-2, 0.5).p_false > 1e-2


@pytest.mark.parametrize("by", ["coarse", "fine"])
def test_the_finest_part_that_recognises_the_place_tells_it(by):
    own = {"at": 10.1, "speed": 1.02} if by == "fine" else {"at": 10.3}
    found = pair(1e-3, 1e-3, by=by, **own)
    assert (found.track_start, found.speed) == ((10.1, 1.02) if by == "fine" else (10.02, 1.01))
    unsure = pair(1e-3, 1.5 * CONFIRMED, by=by, **own)
    assert unsure.track_start == own["at"]


@pytest.mark.parametrize(
    ("said", "stretch", "in_track"),
    [(10 * CERTAIN, (2.0, 4.0), (12.02, 14.02)), (0.1 * CERTAIN, (0.0, 5.0), (10.02, 15.02))],
)
def test_how_far_a_match_reaches_is_told_by_a_part_that_is_certain(said, stretch, in_track):
    coarse, fine = Part("coarse", 0.5), Part("fine", 0.03)
    coarse.named = [Match(track(1), 2.0, 4.0, 12.0, 14.0, 1.0, 1e-5)]
    fine.said = {1: match(1, said, at=10.02)}
    found = fused(coarse, fine)[0]
    assert (found.query_start, found.query_end) == stretch
    assert (found.track_start, found.track_end) == pytest.approx(in_track)


def test_details_tell_what_each_part_thought():
    found = pair(0.01, 0.002)
    assert found.details == {"coarse": 0.01, "fine": 0.002}
    assert found.backend == FUSED
    assert found.p_false == pytest.approx(p_of(10**-found.score))


def test_uniform_ranks_and_chances_give_uniform_p():
    """Queries of nothing: no more of them below a p than the p says, and not far fewer."""
    rng = np.random.default_rng(0)
    lowest = []
    for _ in range(4000):
        coarse, fine = Part("coarse", 0.5), Part("fine", 0.03)
        for i, (proposer, verifier) in enumerate([(coarse, fine), (fine, coarse)]):
            ranks = np.sort(rng.uniform(0, MOST_PLACES, rng.poisson(MOST_PLACES)))[:16]
            ids = [100 * i + k for k in range(len(ranks))]
            proposer.named = [match(k, p_of(e)) for k, e in zip(ids, ranks, strict=True)]
            verifier.said = {k: match(k, rng.uniform()) for k in ids}
        lowest.append(fused(coarse, fine)[0].p_false)
    lowest = np.array(lowest)
    for level in (0.1, 0.01):
        nominal = level * len(lowest)
        seen = (lowest <= level).sum()
        assert seen <= nominal + 3 * math.sqrt(nominal)
        assert seen >= 0.4 * nominal - 3 * math.sqrt(nominal)


def test_a_track_is_answered_once_at_its_best_place():
    coarse, fine = Part("coarse", 0.5), Part("fine", 0.03)
    coarse.named = [match(1, 1e-3, at=50.0), match(2, 0.1)]
    fine.named = [match(1, 1e-3, at=10.0), match(3, 1e-6)]
    coarse.said = {1: match(1, 1e-6, at=10.0), 3: match(3, 0.9)}
    fine.said = {1: match(1, 0.8, at=50.0), 2: match(2, 0.9)}
    found = fused(coarse, fine)
    assert [each.track.id for each in found] == [1, 3, 2]
    assert found[0].track_start == 10.0
    assert [each.p_false for each in found] == sorted(each.p_false for each in found)
    assert [each.track.id for each in fused(coarse, fine, limit=2)] == [1, 3]


def test_a_part_is_not_asked_about_tracks_that_it_does_not_have():
    coarse, fine = Part("coarse", 0.5), Part("fine", 0.03)
    only = track(7, backends=("coarse",))
    coarse.named, fine.said = [match(7, 1e-6, of=only), match(1, 0.1)], {1: match(1, 0.5)}
    found = fused(coarse, fine)
    assert [place.track_id for place in fine.asked] == [1]
    assert found[0].track.id == 7
    assert found[0].p_false <= 2 * 1e-6 / (1 - ALONE) * 1.001
    assert found[0].details == {"coarse": 1e-6}


def test_a_part_that_hears_nothing_is_left_out():
    coarse, fine = Part("coarse", 0.5, deaf=True), Part("fine", 0.03, [match(1, 1e-6)])
    found = fused(coarse, fine)
    assert found[0].details == {"fine": 1e-6}
    assert coarse.asked == []
    fine.deaf = True
    assert fused(coarse, fine) is None


def test_each_part_gets_its_sample_rate():
    parts = Part("coarse", 0.5, window_seconds=9.0), Part("fine", 0.03, sample_rate=5000)
    assert fused(*parts) == []
    assert [part.heard for part in parts] == [[40_000], [25_000]]
    fusion = Fusion(parts)
    assert (fusion.sample_rate, fusion.window_seconds) == (8000, 9.0)
    assert fusion.parameters() == {"coarse.keen": True, "fine.keen": True}


def test_one_part_is_too_few():
    with pytest.raises(ValueError, match="two parts at least, not 1"):
        Fusion([Part("alone", 0.1)])
