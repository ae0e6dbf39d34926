"""Merging the matches of windows to one timeline."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.fingerprint import Match, Track
from afp.matching.timeline import best_of_each_track, claim, corrected, merge, shifted

TRACKS = [Track(id=i, content_id=str(i), path=f"{i}.wav", duration_seconds=300.0) for i in range(5)]


def match(track, query_start, query_end, track_start, *, speed=1.0, p=1e-9, score=10.0):
    track_end = track_start + speed * (query_end - query_start)
    return Match(
        TRACKS[track], query_start, query_end, track_start, track_end, score, p, speed=speed
    )


def test_shifted_moves_the_query_side_only():
    moved = shifted(match(0, 1, 4, 50), 10)
    assert (moved.query_start, moved.query_end) == (11, 14)
    assert (moved.track_start, moved.track_end) == (50, 53)


def test_corrected_is_bonferroni_and_stays_a_probability():
    assert corrected(match(0, 0, 5, 0, p=1e-6), 50).p_false == pytest.approx(5e-5)
    assert corrected(match(0, 0, 5, 0, p=0.1), 50).p_false == 1.0


def test_overlapping_windows_become_one_stretch():
    windows = [match(1, t, t + 10, 100 + t, p=10.0**-t, score=t) for t in (5, 10, 15, 20)]
    (stretch,) = merge(windows, gap_seconds=5)
    assert (stretch.query_start, stretch.query_end) == (5, 30)
    assert (stretch.track_start, stretch.track_end) == (105, 130)
    assert stretch.p_false == pytest.approx(1e-20)
    assert stretch.score == 20
    assert stretch.speed == pytest.approx(1)


def test_speed_of_a_stretch_comes_from_its_ends():
    windows = [match(1, t, t + 10, 100 + 1.02 * t, speed=1.02) for t in (0, 5, 10, 15)]
    (stretch,) = merge(windows, gap_seconds=5)
    assert stretch.speed == pytest.approx(1.02)
    assert stretch.track_end == pytest.approx(100 + 1.02 * 25)


def test_a_gap_is_bridged_up_to_its_limit():
    apart = [match(1, 0, 10, 50), match(1, 14, 20, 64)]
    assert len(merge(apart, gap_seconds=4)) == 1
    assert len(merge(apart, gap_seconds=3.9)) == 2


def test_other_alignments_and_other_tracks_stay_apart():
    windows = [match(1, 0, 10, 50), match(1, 5, 15, 56), match(2, 5, 15, 55)]
    assert len(merge(windows, gap_seconds=5)) == 3
    assert len(merge(windows[:2], gap_seconds=5, tolerance_seconds=1.1)) == 1


def test_two_alignments_of_a_track_interleaved_make_two_stretches():
    windows = [match(1, t, t + 10, base + t) for t in range(0, 40, 5) for base in (20, 90)]
    stretches = merge(windows, gap_seconds=5)
    assert sorted((s.track_start, s.query_end) for s in stretches) == [(20, 45), (90, 45)]


def test_the_stronger_claim_wins_where_tracks_overlap():
    strong, weak = match(1, 0, 30, 0, p=1e-30), match(2, 10, 20, 80, p=1e-5)
    assert claim([weak, strong]) == [strong]
    assert claim([weak, strong], limit=2) == [strong, weak]


def test_neighbours_that_overlap_at_their_edges_both_stay():
    first, second = match(1, 0, 32, 0), match(2, 28, 60, 0, p=1e-20)
    assert claim([second, first]) == [first, second]


def test_a_track_never_claims_a_stretch_twice():
    true, repeat = match(1, 0, 30, 0, p=1e-30), match(1, 5, 20, 65, p=1e-8)
    assert claim([true, repeat], limit=3) == [true]
    later = replace(repeat, query_start=100, query_end=115)
    assert claim([true, later]) == [true, later]


def test_best_of_each_track():
    matches = [match(1, 0, 10, 0, p=1e-3), match(1, 20, 30, 0, p=1e-8), match(2, 0, 10, 0, p=1e-5)]
    assert [(m.track.id, m.p_false) for m in best_of_each_track(matches)] == [(1, 1e-8), (2, 1e-5)]


@given(
    st.lists(
        st.builds(
            match,
            st.integers(0, 4),
            st.integers(0, 50),
            st.integers(51, 70),
            st.integers(0, 200),
            p=st.floats(0, 1),
            score=st.floats(0, 1e3),
        ),
        max_size=30,
    ),
    st.randoms(),
)
def test_merging_loses_nothing_and_hardly_depends_on_order(matches, random):
    merged = merge(matches, gap_seconds=5)
    assert merge([], gap_seconds=5) == []
    for each in matches:
        assert any(
            s.track == each.track
            and s.query_start <= each.query_start
            and s.query_end >= each.query_end
            and s.p_false <= each.p_false
            and s.score >= each.score
            for s in merged
        )
    kept = claim(merged)
    assert set(map(id, kept)) <= set(map(id, merged))
    assert [s.query_start for s in kept] == sorted(s.query_start for s in kept)
    shuffled = list(merged)
    random.shuffle(shuffled)
    assert {s.p_false for s in claim(shuffled)} == {s.p_false for s in kept}


def test_beyond_doubt_the_longer_stretch_claims_the_time():
    long = match(1, 72.0, 160.0, 10.0, p=8e-28)
    repeated = match(1, 138.0, 150.0, 30.0, p=6e-28)
    assert claim([repeated, long]) == [long]
