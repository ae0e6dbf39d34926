"""Offset-histogram voting against a dictionary of hits."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.index import GAP_FRAMES, Hits, TimeAxis
from afp.matching.voting import _histogram_peaks, _sorted_diagonals, rarest, vote

FINENESS, WIDTH, MOST = 4, 4, 10
seeds = st.integers(0, 2**32 - 1)


def time_axis(lengths, alive):
    starts = GAP_FRAMES * (1 + np.arange(len(lengths))) + np.cumsum([0, *lengths[:-1]])
    return TimeAxis(
        bases=starts.astype(np.uint32),
        track_ids=100 + np.arange(len(lengths)),
        n_frames=np.array(lengths, np.uint32),
        alive=np.array(alive, np.bool_),
    )


def random_hits(seed, n_tracks, n_hits, *, dead=0.0):
    """Hits at random, some of them on a common offset, in tracks longer and shorter than a query.

    The query reaches over either end of a track: offsets are negative, or near its length.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 300, n_tracks)
    axis = time_axis(lengths, rng.random(n_tracks) >= dead)
    query_times = np.sort(rng.integers(0, 400 * FINENESS, 80))
    slots = rng.integers(0, n_tracks, n_hits)
    rows = rng.integers(0, len(query_times), n_hits).astype(np.uint32)
    frames = rng.integers(0, lengths[slots])
    for slot in range(n_tracks):
        offset = rng.integers(-400 * FINENESS, lengths[slot] * FINENESS)
        chosen = (slots == slot) & (rng.random(n_hits) < 0.5)
        aligned = (query_times[rows] + offset + rng.integers(-2, 3, n_hits)) // FINENESS
        frames = np.where(chosen & (aligned >= 0) & (aligned < lengths[slot]), aligned, frames)
    positions = (axis.bases[slots] + frames).astype(np.uint32)
    return Hits(rows, positions, axis), query_times, slots


def histograms(hits, query_times, slots):
    """For each live track, how many hits lie on each offset."""
    counted = {int(i): Counter() for i in hits.axis.track_ids[hits.axis.alive]}
    for row, position, slot in zip(hits.rows, hits.positions, slots, strict=True):
        if hits.axis.alive[slot]:
            frame = int(position) - int(hits.axis.bases[slot])
            offset = frame * FINENESS - int(query_times[row])
            counted[int(hits.axis.track_ids[slot])][offset] += 1
    return counted


def window_count(histogram, start):
    return sum(histogram[offset] for offset in range(start, start + WIDTH + 1))


@given(seeds, st.integers(1, 6), st.integers(0, 150), st.sampled_from([0.0, 0.5, 1.0]))
def test_candidates_are_the_fullest_windows_of_a_dictionary_histogram(seed, n_tracks, n_hits, dead):
    hits, query_times, slots = random_hits(seed, n_tracks, n_hits, dead=dead)
    counted = histograms(hits, query_times, slots)
    candidates = vote(hits, query_times, fineness=FINENESS, width=WIDTH, most=MOST, speed=1.02)
    fullest = max(
        (window_count(of_track, start) for of_track in counted.values() for start in of_track),
        default=0,
    )
    assert [c.n_aligned for c in candidates][:1] == ([fullest] if fullest >= 2 else [])
    for candidate in candidates:
        of_track = counted[candidate.track_id]  # of the right track, one that is not removed
        assert candidate.n_aligned == window_count(of_track, round(candidate.offset - WIDTH / 2))
        length = int(hits.axis.n_frames[candidate.track_id - 100]) * FINENESS
        chance = of_track.total() * (WIDTH + 1) / (length + int(query_times.max()))
        assert candidate.expected == pytest.approx(chance)
        assert candidate.speed == 1.02
    counts = [candidate.n_aligned for candidate in candidates]
    assert counts == sorted(counts, reverse=True)
    assert len(candidates) <= MOST


@given(seeds, st.integers(1, 6))
def test_candidates_of_a_track_do_not_overlap(seed, n_tracks):
    hits, query_times, _ = random_hits(seed, n_tracks, 150)
    candidates = vote(hits, query_times, fineness=FINENESS, width=WIDTH, most=200)
    for track_id in hits.axis.track_ids:
        offsets = sorted(c.offset for c in candidates if c.track_id == track_id)
        assert (np.diff(offsets) > WIDTH).all()


@pytest.mark.parametrize("offset", [-399, -200, -1, 0, 1, 150, 299])
def test_a_query_that_reaches_over_an_end_is_of_its_own_track(offset):
    axis = time_axis([300, 300, 300], [True] * 3)
    query_frames = np.arange(400)
    track_frames = query_frames + offset
    rows = np.flatnonzero((track_frames >= 0) & (track_frames < 300)).astype(np.uint32)
    # One agreement is enough of a vote when a hash was hit twice.
    rows = np.repeat(rows, 2)
    positions = (axis.bases[1] + track_frames[rows]).astype(np.uint32)
    (best, *_) = vote(
        Hits(rows, positions, axis),
        query_frames * FINENESS,
        fineness=FINENESS,
        width=WIDTH,
        most=MOST,
    )
    assert best.track_id == 101
    assert abs(best.offset - FINENESS * offset) <= WIDTH / 2
    assert best.n_aligned == len(rows)


def test_removed_tracks_hide_no_live_one():
    """However many peaks of the histogram the removed ones have."""
    axis = time_axis([1000, 1000], [False, True])
    removed = [axis.bases[0] + 20 * k for k in range(40) for _ in range(3)]
    live = [axis.bases[1] + 7] * 2
    positions = np.array(removed + live, np.uint32)
    hits = Hits(np.zeros(len(positions), np.uint32), positions, axis)
    candidates = vote(hits, np.array([0]), fineness=FINENESS, width=WIDTH, most=MOST)
    assert [candidate.track_id for candidate in candidates] == [101]


def test_no_hits_and_single_hits_make_no_candidate():
    axis = time_axis([300], [True])
    for n in (0, 1):
        hits = Hits(np.zeros(n, np.uint32), np.full(n, axis.bases[0], np.uint32), axis)
        assert vote(hits, np.array([3]), fineness=FINENESS, width=WIDTH, most=MOST) == []


@settings(max_examples=100, deadline=None)
@given(
    seeds,
    st.integers(1, 400) | st.sampled_from([8191, 8192, 40_000]),  # in one bucket, and in several
    st.sampled_from([1, 300, 2**20, 2**32 - 1]),
    st.sampled_from([1, 50, 2**20, 2**40]),
    st.sampled_from([1, 4]),
)
def test_diagonals_are_sorted(seed, n, largest_position, longest_query, fineness):
    rng = np.random.default_rng(seed)
    query_times = rng.integers(0, longest_query, 30)
    rows = rng.integers(0, 30, n).astype(np.uint32)
    positions = rng.integers(0, largest_position + 1, n).astype(np.uint32)
    hits = Hits(rows, positions, time_axis([300], [True]))
    expected = np.sort(positions.astype(np.int64) * fineness - query_times[rows])
    np.testing.assert_array_equal(_sorted_diagonals(hits, query_times, fineness), expected)


def naive_peaks(diagonals, width):
    """Start and hits of the fullest of each run of overlapping windows, those of one hit left out.

    A run ends with the first hit that lies behind its fullest window so far.
    """
    peaks, best = [], (0, 0)
    for start in diagonals:
        if best[1] and start - best[0] > width:
            peaks.append(best)
            best = (0, 0)
        n = sum(start <= other <= start + width for other in diagonals)
        if n > best[1]:
            best = (start, n)
    return [peak for peak in [*peaks, best] if peak[1] >= 2]


@settings(deadline=None, max_examples=200)
@given(seeds, st.integers(1, 100), st.integers(0, 9), st.integers(1, 4))
def test_histogram_peaks_are_the_fullest_of_all(seed, n, width, most):
    diagonals = np.sort(np.random.default_rng(seed).integers(0, 300, n)).tolist()
    where, n_aligned = np.zeros(most, np.int64), np.zeros(most, np.int64)
    _histogram_peaks(np.array(diagonals, np.int64), width, where, n_aligned)
    expected = naive_peaks(diagonals, width)
    found = [(int(w), int(n)) for w, n in zip(where, n_aligned, strict=True) if n]
    assert set(found) <= set(expected)
    assert len(set(found)) == len(found)
    counts = sorted((n for _, n in expected), reverse=True)[:most]
    assert sorted((n for _, n in found), reverse=True) == counts


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 60))
def test_the_rarest_hashes_are_chosen_that_can_be_afforded(counts, most):
    counts = np.array(counts, np.uint32)
    chosen = rarest(counts, most)
    assert not chosen[counts == 0].any()
    assert counts[chosen].sum() <= most
    left = counts[~chosen & (counts > 0)]
    if len(left):
        assert counts[chosen].max(initial=0) <= left.min()
        assert counts[chosen].sum() + left.min() > most
