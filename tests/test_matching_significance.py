"""The null model and the rank of candidates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.matching.significance import (
    NullModel,
    expected_by_chance,
    expected_of,
    p_of,
    surprise,
)
from afp.matching.voting import Candidate

scores = st.floats(-10, 500)
hours = st.floats(0, 1e7)
models = st.builds(
    NullModel, score=st.floats(0, 20), decay=st.floats(0.1, 10), hours=st.floats(0.1, 1e5)
)


@given(models, scores, scores, hours, hours, st.floats(1, 1000), st.floats(1, 1000))
def test_p_false_is_a_probability_that_falls_with_score_and_rises_with_chances(
    model, score, other_score, size, other_size, trials, other_trials
):
    def p_false(score, size, trials):
        return model.p_false(score, store_hours=size, n_trials=trials)

    p = p_false(score, size, trials)
    assert 0.0 <= p <= 1.0
    assert p_false(max(score, other_score), size, trials) <= p
    assert p_false(score, max(size, other_size), trials) >= p
    assert p_false(score, size, max(trials, other_trials)) >= p


@given(models, st.floats(1, 1e5))
def test_p_false_is_exponential_in_its_tail_and_grows_with_the_store(model, size):
    tail = model.score + (20 + max(math.log(size / model.hours), 0)) / model.decay
    p = model.p_false(tail, store_hours=size)
    assert 0 < p < 1e-6
    further = model.p_false(tail + 1 / model.decay, store_hours=size)
    twice = model.p_false(tail, store_hours=2 * size)
    growth = max(2 * size / model.hours, 1) / max(size / model.hours, 1)
    assert math.isclose(p / further, math.e, rel_tol=1e-3)
    assert math.isclose(twice / p, growth, rel_tol=1e-3)
    thrice = model.p_false(tail, store_hours=size, n_trials=3)
    assert math.isclose(thrice / p, 3, rel_tol=1e-3)


def test_a_small_store_is_trusted_no_more_than_that_of_the_fit():
    model = NullModel(score=5.0, decay=2.0, hours=10.0)
    assert model.p_false(8.0, store_hours=0.1) == model.p_false(8.0, store_hours=10.0)


def test_a_score_that_chance_reaches_once_is_likely():
    model = NullModel(score=5.0, decay=2.0, hours=10.0)
    assert math.isclose(model.p_false(5.0, store_hours=10.0), 1 - math.exp(-1))


@given(st.integers(2, 500), st.integers(0, 100), st.floats(0, 300), st.floats(0, 300))
def test_more_aligned_hits_surprise_more_and_more_expected_ones_less(n, more, expected, other):
    def of(n_aligned, expected):
        return surprise(Candidate(1, 0.0, n_aligned, expected, 1.0))

    least, most = sorted((expected, other))
    assert of(n, most) >= 0
    assert of(n + more, most) >= of(n, most)
    assert of(n, least) >= of(n, most)
    if n > most + 1e-6:
        assert of(n, most) > 0


# Several judges of one place


shares = st.floats(1e-9, 1.0)
chances = st.lists(shares, max_size=3)


@given(shares, chances, st.integers(0, 3), st.floats(0.01, 1.0), st.floats(0.5, 50.0))
def test_agreement_of_judges_rises_with_each_of_them(share, others, which, factor, most):
    expected = share * most
    whole = expected_by_chance(expected, others, most=most)
    assert 0 < whole <= most * (1 + 1e-9)
    less = expected_by_chance(factor * expected, others, most=most)
    assert less <= whole * (1 + 1e-9)
    if others:
        better = [p * factor if i == which % len(others) else p for i, p in enumerate(others)]
        assert expected_by_chance(expected, better, most=most) <= whole * (1 + 1e-9)


@given(st.floats(0.0, 20.0))
def test_one_judge_alone_keeps_what_it_says(expected):
    assert expected_by_chance(expected, [], most=20.0) == expected


@pytest.mark.parametrize("n_others", [1, 2])
@pytest.mark.parametrize("most", [3.0, 12.0])
def test_places_of_no_worth_are_as_many_as_expected(n_others, most):
    """Uniform ranks and chances: so many queries in a thousand fall below a thousandth."""
    rng = np.random.default_rng(5)
    n_queries = 40_000
    n_places = rng.poisson(most, n_queries)
    values = np.array(
        [
            expected_by_chance(e, v, most=most)
            for e, v in zip(
                rng.uniform(0, most, n_places.sum()).tolist(),
                rng.uniform(size=(n_places.sum(), n_others)).tolist(),
                strict=True,
            )
        ]
    )
    for level in (0.3, 0.03, 0.003):
        nominal = level * n_queries
        assert abs((values <= level).sum() - nominal) < 4 * math.sqrt(nominal)


@given(st.floats(0, 30))
def test_probabilities_and_numbers_of_events_turn_into_each_other(expected):
    assert math.isclose(expected_of(p_of(expected)), expected, rel_tol=1e-2, abs_tol=1e-12)
    assert expected_of(1.0) == math.inf
