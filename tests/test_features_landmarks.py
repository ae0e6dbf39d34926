"""Landmarks against naive twins; a query's probes cover what a reference may have stored."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.features.landmarks import pair_peaks, probe_landmarks

seeds = st.integers(0, 2**32 - 1)
N_BINS, FIRST_BIN, FINENESS = 456, 20, 4


def constellation(seed, n, extent):
    """Peaks of distinct cells, in the order of time, then of bin."""
    rng = np.random.default_rng(seed)
    cells = np.unique(rng.integers(0, max(extent, 1) * N_BINS, n))
    return (cells // N_BINS).astype(np.int32), (cells % N_BINS).astype(np.int32)


def landmark_hash(anchor, step, gap):
    return anchor * 2**14 + (step + 128) * 2**6 + gap


def naive_pairs(frames, bins, fan_out, target_frames, target_bins):
    pairs = []
    for i in range(len(frames)):
        targets = [
            (frames[i], landmark_hash(bins[i], bins[j] - bins[i], frames[j] - frames[i]))
            for j in range(i + 1, len(frames))
            if 1 <= frames[j] - frames[i] <= target_frames and abs(bins[j] - bins[i]) <= target_bins
        ]
        pairs += targets[:fan_out]
    return pairs


@given(
    seeds,
    st.integers(0, 80),
    st.integers(1, 60),
    st.integers(1, 8),
    st.integers(1, 63),
    st.integers(1, 127),
)
def test_pairs_are_those_of_the_naive_twin(seed, n, extent, fan_out, target_frames, target_bins):
    frames, bins = constellation(seed, n, extent)
    zone = {"fan_out": fan_out, "target_frames": target_frames, "target_bins": target_bins}
    anchors, hashes = pair_peaks(frames, bins, **zone)
    assert anchors.dtype == hashes.dtype == np.uint32
    assert (np.diff(anchors.astype(np.int64)) >= 0).all()
    got = list(zip(anchors.tolist(), hashes.tolist(), strict=True))
    assert got == naive_pairs(frames.tolist(), bins.tolist(), **zone)


@given(seeds, st.integers(0, 1000))
def test_pairs_of_later_peaks_are_the_same_pairs_later(seed, shift):
    frames, bins = constellation(seed, 60, 80)
    zone = {"fan_out": 5, "target_frames": 31, "target_bins": 127}
    anchors, hashes = pair_peaks(frames, bins, **zone)
    later, same = pair_peaks(frames + np.int32(shift), bins, **zone)
    np.testing.assert_array_equal(later, anchors + np.uint32(shift))
    np.testing.assert_array_equal(same, hashes)


def naive_probes(times, frequencies, target_frames, target_bins, speed):
    probes = []
    bins = [math.floor((f + FIRST_BIN) / speed + 0.5) - FIRST_BIN for f in frequencies]
    for i in range(len(times)):
        for j in range(i + 1, len(times)):
            gap = (times[j] - times[i]) * speed / FINENESS
            step = bins[j] - bins[i]
            inside = 0 <= bins[i] < N_BINS and 0 <= bins[j] < N_BINS
            if inside and gap < target_frames + 1 and abs(step) <= target_bins:
                probes += [
                    (math.floor(times[i] * speed + 0.5), landmark_hash(bins[i], step, whole))
                    for whole in sorted({math.floor(gap), math.ceil(gap)})
                    if 1 <= whole <= target_frames
                ]
    return probes


def probed(times, frequencies, target_frames=31, target_bins=127, speed=1.0):
    at, hashes = probe_landmarks(
        times,
        frequencies,
        fineness=FINENESS,
        first_bin=FIRST_BIN,
        n_bins=N_BINS,
        target_frames=target_frames,
        target_bins=target_bins,
        speed=speed,
    )
    assert at.dtype == np.int64
    assert hashes.dtype == np.uint32
    return list(zip(at.tolist(), hashes.tolist(), strict=True))


@given(
    seeds,
    st.integers(0, 60),
    st.integers(1, 250),
    st.integers(1, 63),
    st.integers(1, 127),
    st.floats(0.9, 1.1),
)
def test_probes_are_those_of_the_naive_twin(seed, n, extent, target_frames, target_bins, speed):
    times, bins = constellation(seed, n, extent)
    frequencies = bins + np.random.default_rng(seed).uniform(-0.5, 0.5, len(bins))
    frequencies = frequencies.astype(np.float32)
    expected = naive_probes(times.tolist(), frequencies.tolist(), target_frames, target_bins, speed)
    assert probed(times, frequencies, target_frames, target_bins, speed) == expected


@given(seeds, st.integers(2, 60), st.integers(1, 250), st.floats(0, 3.999))
def test_probes_hold_what_a_reference_makes_of_the_same_peaks_anywhere_in_a_hop(
    seed, n, extent, shift
):
    """However the frames of a reference fall among a query's finer ones."""
    times, bins = constellation(seed, n, extent)
    rng = np.random.default_rng(seed)
    frequencies = (bins + rng.uniform(-0.49, 0.49, len(bins))).astype(np.float32)
    frames = np.floor((times + shift) / FINENESS).astype(np.int32)
    _, stored = pair_peaks(frames, bins, fan_out=n, target_frames=31, target_bins=127)
    assert set(stored.tolist()) <= {value for _, value in probed(times, frequencies)}


@given(seeds, st.sampled_from([0.95, 0.98, 1.01, 1.05]), st.floats(0, 0.999))
def test_probes_undo_a_change_of_speed(seed, speed, shift):
    """A query that plays `speed` times as fast: times shrink by it, frequencies rise."""
    frames, bins = constellation(seed, 60, 100)
    times = ((frames + shift) * FINENESS / speed).astype(np.int32)  # cut to the fine grid
    frequencies = ((bins + FIRST_BIN) * speed - FIRST_BIN).astype(np.float32)
    _, stored = pair_peaks(frames, bins, fan_out=60, target_frames=31, target_bins=127)
    probes = probed(times, frequencies, speed=speed)
    assert set(stored.tolist()) <= {value for _, value in probes}


def test_an_anchor_outside_the_reference_s_bins_makes_no_probe():
    times, frequencies = np.array([0, 8], np.int32), np.array([0.0, 5.0], np.float32)
    assert len(probed(times, frequencies)) == 1
    assert probed(times, frequencies, speed=1.1) == []  # would lie below the first bin


def test_more_probes_than_room_was_made_for():
    times, bins = constellation(1, 400, 60)
    frequencies = bins.astype(np.float32)
    expected = naive_probes(times.tolist(), frequencies.tolist(), 31, 127, 1.0)
    assert len(expected) > 64 * len(times)
    assert probed(times, frequencies) == expected


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_peaks_make_no_landmark(n):
    frames, bins = constellation(1, n, 60)
    anchors, hashes = pair_peaks(frames, bins, fan_out=5, target_frames=31, target_bins=127)
    assert len(anchors) == len(hashes) == 0
    assert probed(frames, bins.astype(np.float32)) == []
