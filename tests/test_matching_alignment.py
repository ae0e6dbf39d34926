"""Verification and fit on synthetic constellations whose alignment is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.fingerprint import Evidence
from afp.matching.alignment import (
    FREQUENCY_TOLERANCE,
    MOST_OF_FRAME,
    SNAP_FRAMES,
    TIME_TOLERANCE,
    dispersion,
    fit,
    reach,
    score_offsets,
    spread_peaks,
)

seeds = st.integers(0, 2**32 - 1)
N_BINS, FIRST_BIN, FINENESS = 456, 20, 4


def track_peaks(seed, n_frames=600, per_frame=1.2):
    rng = np.random.default_rng(seed)
    n = round(n_frames * per_frame)
    frames = np.sort(rng.integers(0, n_frames, n)).astype(np.uint32)
    return Evidence(frames, rng.integers(0, N_BINS, n).astype(np.uint32))


class Query:
    """What is heard of a track from `offset` (fine frames) on, at a speed, among other peaks."""

    def __init__(
        self, seed, track, *, offset, speed=1.0, n_frames=600, heard=(0, 1e9), lost=0.2, detuned=0.0
    ):
        rng = np.random.default_rng(seed)
        times = (FINENESS * track.frames.astype(np.float64) - offset) / speed
        times += rng.uniform(-0.4, 0.4, len(times))
        frequencies = (track.values + FIRST_BIN) * speed - FIRST_BIN
        frequencies += rng.uniform(-detuned, detuned, len(times))
        there = (rng.random(len(times)) >= lost) & (heard[0] <= times) & (times < heard[1])
        n_others = n_frames // 3
        times = np.append(times[there], rng.uniform(0, n_frames, n_others))
        frequencies = np.append(frequencies[there], rng.uniform(0, N_BINS, n_others))
        inside = (times >= 0) & (times < n_frames - 0.5)
        inside &= (frequencies >= 0) & (frequencies < N_BINS - 0.5)
        times, frequencies = times[inside], frequencies[inside]
        order = np.argsort(times, kind="stable")
        self.times = np.rint(times[order]).astype(np.int32)
        self.frequencies = frequencies[order].astype(np.float32)
        self.map = spread_peaks(
            self.times,
            np.rint(self.frequencies).astype(np.int32),
            rng.uniform(10, 40, len(self.times)).astype(np.float32),
            n_frames=n_frames,
            n_bins=N_BINS,
            first_bin=FIRST_BIN,
            fineness=FINENESS,
        )

    def fit(self, track, *, offset, speed=1.0, n_track_frames=600):
        return fit(
            self.map,
            track,
            self.times,
            self.frequencies,
            n_track_frames=n_track_frames,
            offset=offset,
            speed=speed,
        )


@given(seeds, st.integers(0, 40), st.integers(1, 50), st.integers(1, 30))
def test_a_map_holds_the_heaviest_peak_that_covers_each_cell(seed, n, n_frames, n_bins):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, n_frames, n)).astype(np.int32)
    bins = rng.integers(0, n_bins, n).astype(np.int32)
    weights = rng.integers(1, 9, n).astype(np.float32)  # with ties
    peaks = spread_peaks(
        times,
        bins,
        weights,
        n_frames=n_frames,
        n_bins=n_bins,
        first_bin=FIRST_BIN,
        fineness=FINENESS,
    )
    for t, f in np.ndindex(n_frames, n_bins):
        covering = (np.abs(times - t) <= TIME_TOLERANCE) & (np.abs(bins - f) <= FREQUENCY_TOLERANCE)
        assert peaks.weights[t, f] == weights[covering].max(initial=0)
        if covering.any():
            assert covering[peaks.peak_at[t, f]]
            assert weights[peaks.peak_at[t, f]] == peaks.weights[t, f]
        else:
            assert peaks.peak_at[t, f] == -1
    np.testing.assert_allclose(peaks.mean, peaks.weights.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        peaks.variance, peaks.weights.astype(np.float64).var(axis=0), rtol=1e-3, atol=2e-3
    )


def naive_score(track, peaks, offset, speed):
    """Score and number of peaks, one frame of the track after the other."""
    n_frames, n_bins = peaks.weights.shape
    expected, excess, spread, count = 1e-9, 0.0, 1.0, 0
    for frame in np.unique(track.frames):
        t = int(np.floor((FINENESS * int(frame) - offset) / speed + 0.5))
        bins = track.values[track.frames == frame].astype(np.int64)
        f = np.floor((bins + FIRST_BIN) * speed + 0.5).astype(int) - FIRST_BIN
        f = f[(f >= 0) & (f < n_bins)]
        if 0 <= t < n_frames and len(f):
            variance = peaks.variance[f].sum(dtype=float)
            of_frame = (peaks.weights[t, f].astype(float) - peaks.mean[f]).sum()
            excess += min(of_frame, MOST_OF_FRAME * variance**0.5)
            expected += peaks.mean[f].sum(dtype=float)
            spread += variance
            count += len(f)
    seen = max(expected + excess, 1e-9)
    deviance = 2 * (seen * np.log(seen / expected) - (seen - expected))
    return np.sign(excess) * (max(deviance, 0.0) * expected / spread) ** 0.5, count


@settings(max_examples=15)
@given(seeds, st.integers(-500, 2300), st.sampled_from([0.95, 0.98, 1.0, 1.03]))
def test_scores_are_those_of_the_naive_twin(seed, offset, speed):
    track = track_peaks(seed)
    query = Query(seed, track, offset=offset, speed=speed)
    offsets = offset + np.array([-3.0, 0.0, 7.5])
    scores, n_peaks = score_offsets(query.map, track, offsets, speed=speed)
    expected = [naive_score(track, query.map, o, speed) for o in offsets]
    np.testing.assert_allclose(scores, [score for score, _ in expected], rtol=1e-4, atol=1e-4)
    assert n_peaks.tolist() == [count for _, count in expected]
    first, last = reach(query.map, track, offsets.min(), offsets.max(), speed)
    assert last - first >= n_peaks.max()  # none that counts is left out


def test_one_moment_in_common_is_no_match():
    """An onset of very many peaks at once weighs no more than a few independent ones."""
    onset = Evidence(np.full(80, 75, np.uint32), np.arange(0, 400, 5).astype(np.uint32))
    query = Query(1, onset, offset=0, lost=0.0)
    (score,), (count,) = score_offsets(query.map, onset, np.zeros(1), speed=1.0)
    assert count == 80
    assert score <= MOST_OF_FRAME


def test_music_that_repeats_itself_scatters_more_widely():
    track = track_peaks(11)
    looped = Evidence(  # the first two seconds over and over
        np.concatenate([track.frames[track.frames < 60] + 60 * k for k in range(10)]).astype(
            np.uint32
        ),
        np.tile(track.values[track.frames < 60], 10),
    )
    scattered = dispersion(Query(12, track, offset=800).map, track, 800.0, speed=1.0)
    repeated = dispersion(Query(12, looped, offset=800).map, looped, 800.0, speed=1.0)
    assert 1 <= scattered < 1.5
    assert repeated > 2 * scattered


def test_far_offsets_reach_nothing_and_score_nothing():
    track = track_peaks(1)
    query = Query(2, track, offset=0)
    offsets = np.array([-600.0 - 8, 2400.0 + 8])
    for offset in offsets:
        scores, n_peaks = score_offsets(query.map, track, np.array([offset]), speed=1.0)
        assert scores.tolist() == n_peaks.tolist() == [0.0]


def test_a_track_without_peaks_scores_nothing():
    query = Query(2, track_peaks(1), offset=0)
    nothing = Evidence(np.empty(0, np.uint32), np.empty(0, np.uint32))
    scores, n_peaks = score_offsets(query.map, nothing, np.arange(3.0), speed=1.0)
    assert scores.tolist() == n_peaks.tolist() == [0.0] * 3


@settings(max_examples=15)
@given(seeds, st.integers(-300, 2100), st.sampled_from([0.97, 1.0, 1.02]))
def test_the_right_offset_scores_highest_by_far(seed, offset, speed):
    track = track_peaks(seed)
    query = Query(seed, track, offset=offset, speed=speed)
    # Offsets within the tolerance of the right one are right, too.
    wrong = offset + np.concatenate([np.arange(-60.0, -7, 3), np.arange(8.0, 61, 3)])
    (right,), _ = score_offsets(query.map, track, np.array([float(offset)]), speed=speed)
    others, _ = score_offsets(query.map, track, wrong, speed=speed)
    assert right > 2 * others.max() > 0 or right > 5 + others.max()


def test_wrong_offsets_score_low():
    """No higher than a standard normal variable does, so that no track and no map is favoured."""
    scores = []
    for seed in range(20):
        query = Query(seed, track_peaks(seed), offset=600)
        stranger = track_peaks(1000 + seed)
        found, _ = score_offsets(query.map, stranger, np.arange(0.0, 1800, 13), speed=1.0)
        scores.append(found)
    scores = np.concatenate(scores)
    assert -1 < scores.mean() < 0.25
    assert 0.5 < scores.std() < 1.3
    assert scores.max() < 6


@settings(max_examples=20)
@given(
    seeds,
    st.floats(0, 1700),
    st.floats(0.95, 1.05),
    st.integers(-3, 3),
    st.floats(-0.002, 0.002),
)
def test_fit_finds_offset_and_speed(seed, offset, speed, offset_error, speed_error):
    """From a start that is some steps away, as `score_offsets` on a grid leaves it."""
    track = track_peaks(seed)
    query = Query(seed, track, offset=offset, speed=speed)
    middle = 300  # where an error of speed is made up for by one of offset
    start = round(offset) - speed_error * middle + offset_error / 3
    line = query.fit(track, offset=start, speed=speed + speed_error)
    assert line.speed == pytest.approx(speed, abs=0.001)
    assert line.pitch == pytest.approx(speed, abs=0.002)
    assert line.offset + line.speed * middle == pytest.approx(offset + speed * middle, abs=0.5)
    assert line.query_start == pytest.approx(0, abs=1)
    assert line.query_end == pytest.approx(600, abs=1)
    assert line.n_aligned > 0.5 * naive_score(track, query.map, offset, speed)[1]


def test_speed_trusts_the_surer_of_times_and_frequencies():
    def errors(**how):
        both = []
        for seed in range(15):
            track = track_peaks(seed)
            line = Query(seed, track, offset=500, speed=1.01, **how).fit(
                track, offset=500, speed=1.01
            )
            both.append((line.speed - 1.01, line.pitch - 1.01))
        return np.sqrt(np.mean(np.square(both), axis=0))

    short, _ = errors(n_frames=100)  # some peaks, so near in time that their times say little
    assert short < 3e-4
    long, by_frequencies = errors(n_frames=1500, detuned=0.45)
    assert long < 0.6 * by_frequencies


def test_fit_finds_the_stretch_that_was_heard():
    """A coincidence beyond an end may carry it on a little."""
    errors = []
    for seed in range(40):
        start, stop = 150 + 5 * seed, 650 + 3 * seed
        track = track_peaks(seed)
        query = Query(seed, track, offset=500, n_frames=1000, heard=(start, stop))
        line = query.fit(track, offset=500)
        errors += [abs(line.query_start - start), abs(line.query_end - stop)]
    assert np.median(errors) < 15
    assert max(errors) < 150


@pytest.mark.parametrize("offset", [-250, 0, 1700, 2100])
def test_a_stretch_ends_where_the_track_does(offset):
    track = track_peaks(7)
    query = Query(8, track, offset=offset, n_frames=700)
    line = query.fit(track, offset=offset)
    assert line.query_start == pytest.approx(max(0, -offset), abs=2)
    assert line.query_end == pytest.approx(min(700, 2400 - offset), abs=2)


def test_a_stretch_snaps_to_an_end_nearby_only():
    track = track_peaks(9)
    near, far = SNAP_FRAMES * FINENESS // 2, SNAP_FRAMES * FINENESS * 2
    for missing, expected in ((near, 0), (far, far)):
        query = Query(9, track, offset=400, n_frames=1000, heard=(missing, 1e9))
        line = query.fit(track, offset=400)
        assert line.query_start == pytest.approx(expected, abs=40)


def test_too_few_aligned_peaks_leave_the_line_as_it_was():
    track = track_peaks(3)
    query = Query(4, track, offset=10_000)  # beyond the track: others' peaks alone
    line = query.fit(track, offset=2380.0, speed=1.01)
    assert (line.offset, line.speed, line.pitch) == (2380.0, 1.01, 1.01)
    beyond = query.fit(track, offset=10_000.0)
    assert beyond.n_aligned == 0
