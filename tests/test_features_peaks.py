"""Peak picking against brute force, with the ties that fixed point makes common."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthesis import tone

from afp.features.peaks import Peaks, interpolated_bins, local_maxima, strongest
from afp.features.spectrogram import log_spectrogram, whiten

seeds = st.integers(0, 2**32 - 1)


def brute_force_maxima(cells, time_radius, frequency_radius):
    found = []
    for t, f in np.ndindex(cells.shape):
        low, high = max(f - frequency_radius, 0), f + frequency_radius + 1
        before = cells[max(t - time_radius, 0) : t, low:high]
        rest = cells[t : t + time_radius + 1, low:high]
        known = t >= time_radius
        tops = (before < cells[t, f]).all() and (rest <= cells[t, f]).all()
        if known and tops and cells[t, f] > 0:
            found.append((t, f, cells[t, f]))
    return found


def listed(peaks):
    return list(
        zip(peaks.frames.tolist(), peaks.bins.tolist(), peaks.saliences.tolist(), strict=True)
    )


@given(
    seeds,
    st.integers(0, 25),
    st.integers(1, 30),
    st.integers(0, 6),
    st.integers(1, 8),
    st.sampled_from([1, 3, 30, 7000]),
)
def test_maxima_are_those_of_brute_force(
    seed, n_frames, n_bins, time_radius, frequency_radius, height
):
    rng = np.random.default_rng(seed)
    cells = rng.integers(-height, height + 1, (n_frames, n_bins)).astype(np.int16)
    expected = brute_force_maxima(cells, time_radius, frequency_radius)
    peaks = local_maxima(cells, time_radius=time_radius, frequency_radius=frequency_radius)
    assert listed(peaks) == expected


def test_a_plateau_counts_once_where_it_begins():
    cells = np.full((20, 15), -5, np.int16)
    cells[6:14, 7] = 9
    assert listed(local_maxima(cells, time_radius=2, frequency_radius=3)) == [(6, 7, 9)]


def test_a_steady_tone_has_no_peak_after_its_start():
    spectrogram = log_spectrogram(
        tone(6, hz=1000.0), n_fft=1024, hop_length=256, first_bin=20, n_bins=456
    )
    salience = whiten(spectrogram, time_frames=32, frequency_bins=20)
    at_tone = np.abs(np.arange(20, 476) - 128) <= 2
    peaks = local_maxima(salience, time_radius=1, frequency_radius=4)
    assert not np.any((peaks.frames > 0) & at_tone[peaks.bins])


def test_nothing_at_or_below_zero_is_a_peak():
    cells = np.zeros((9, 9), np.int16)
    cells[4, 4] = -1
    assert len(local_maxima(cells - 1, time_radius=1, frequency_radius=1)) == 0
    assert len(local_maxima(cells, time_radius=1, frequency_radius=1)) == 0


@given(seeds, st.integers(0, 60), st.integers(0, 12), st.integers(1, 9))
def test_strongest_counts_the_higher_ones_around(seed, n, time_radius, most):
    rng = np.random.default_rng(seed)
    peaks = Peaks(
        np.sort(rng.integers(0, 50, n)).astype(np.int32),
        rng.integers(0, 30, n).astype(np.int32),
        rng.integers(1, 20, n).astype(np.int16),
    )
    expected = [
        peak
        for peak in listed(peaks)
        if sum(
            abs(other[0] - peak[0]) <= time_radius and other[2] > peak[2] for other in listed(peaks)
        )
        < most
    ]
    assert listed(strongest(peaks, time_radius=time_radius, most=most)) == expected


@given(st.floats(-0.5, 0.5), st.integers(50, 400), st.integers(1, 18))
def test_interpolation_finds_the_vertex_of_a_parabola(shift, bend, at):
    bins = np.arange(20)
    cells = np.rint(3000 - bend * (bins - at - shift) ** 2).clip(-7000).astype(np.int16)[None, :]
    peak = Peaks(np.zeros(1, np.int32), np.array([at], np.int32), cells[0, at : at + 1])
    refined = interpolated_bins(cells, peak)
    assert refined.dtype == np.float32
    assert refined[0] == pytest.approx(at + shift, abs=1 / bend)


@given(seeds)
def test_interpolation_stays_within_half_a_bin(seed):
    rng = np.random.default_rng(seed)
    cells = rng.integers(-7000, 1000, (12, 9)).astype(np.int16)
    peaks = local_maxima(cells - cells.min(), time_radius=1, frequency_radius=1)
    refined = interpolated_bins(cells, peaks)
    assert (np.abs(refined - peaks.bins) <= 0.5).all()
    flat = np.zeros((12, 9), np.int16)
    np.testing.assert_array_equal(interpolated_bins(flat, peaks), peaks.bins)


@pytest.mark.parametrize("hz", [700.0, 1003.3, 2222.2])
def test_a_tone_is_placed_to_a_twentieth_of_a_bin(hz):
    spectrogram = log_spectrogram(tone(1, hz), n_fft=1024, hop_length=256, first_bin=0, n_bins=513)
    at = round(hz * 1024 / 8000)
    peak = Peaks(np.array([3], np.int32), np.array([at], np.int32), spectrogram[3, at : at + 1])
    assert interpolated_bins(spectrogram, peak)[0] == pytest.approx(hz * 1024 / 8000, abs=0.05)
