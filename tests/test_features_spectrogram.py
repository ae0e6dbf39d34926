"""Spectrograms and whitening against naive twins in double precision."""

import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music, noise, silence, tone

from afp.features import spectrogram
from afp.features.spectrogram import (
    BATCH_FRAMES,
    FLOOR_DB,
    STEPS_PER_OCTAVE,
    log_spectrogram,
    whiten,
)

seeds = st.integers(0, 2**32 - 1)
FLOOR = -36 * STEPS_PER_OCTAVE


def naive_log_power(samples, n_fft, hop_length, first_bin, n_bins):
    """Log-power in octaves, floored softly, of a Hann-windowed sine normalised to power 1."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    frames = [
        samples[start : start + n_fft].astype(np.float64) * window
        for start in range(0, len(samples) - n_fft + 1, hop_length)
    ]
    if not frames:
        return np.empty((0, n_bins))
    power = np.abs(np.fft.rfft(frames) * 4 / n_fft) ** 2
    return np.log2(power[:, first_bin : first_bin + n_bins] + 2.0**-36)


@given(
    seeds,
    st.integers(0, 3000),
    st.sampled_from([(64, 16), (256, 64), (256, 300), (1024, 256)]),
    st.integers(-120, 0),
    st.data(),
)
def test_log_power_is_that_of_a_float64_transform(seed, n_samples, sizes, level_db, data):
    n_fft, hop_length = sizes
    first_bin = data.draw(st.integers(0, n_fft // 4))
    n_bins = data.draw(st.integers(1, n_fft // 2 + 1 - first_bin))
    samples = noise(1, seed, sample_rate=n_samples, level=10 ** (level_db / 20))
    shape = {"n_fft": n_fft, "hop_length": hop_length, "first_bin": first_bin, "n_bins": n_bins}
    got = log_spectrogram(samples, **shape)
    expected = naive_log_power(samples, **shape)
    assert got.dtype == np.int16
    assert got.shape == expected.shape
    np.testing.assert_allclose(got / STEPS_PER_OCTAVE, expected, rtol=0, atol=0.02)


def test_log_power_of_music_over_several_batches():
    samples = music(12)
    shape = {"n_fft": 1024, "hop_length": 256, "first_bin": 20, "n_bins": 400}
    got = log_spectrogram(samples, **shape)
    assert len(got) > 2 * BATCH_FRAMES
    np.testing.assert_allclose(
        got / STEPS_PER_OCTAVE, naive_log_power(samples, **shape), rtol=0, atol=0.02
    )


@pytest.mark.parametrize("centre", [40, 100, 400])
def test_a_full_scale_sine_peaks_at_power_one(centre):
    samples = tone(1, hz=centre * 8000 / 1024, level=1.0)
    got = log_spectrogram(samples, n_fft=1024, hop_length=256, first_bin=0, n_bins=513)
    assert (got.argmax(axis=1) == centre).all()
    assert np.abs(got[:, centre]).max() <= 0.02 * STEPS_PER_OCTAVE


def test_silence_lies_on_the_floor():
    got = log_spectrogram(silence(1), n_fft=256, hop_length=64, first_bin=0, n_bins=129)
    assert (got == FLOOR).all()
    assert pytest.approx(10 * np.log10(2.0) * -36, abs=0.05) == FLOOR_DB


def test_a_constant_leaks_nothing_beyond_the_second_bin():
    samples = np.full(8000, 0.9, np.float32)
    got = log_spectrogram(samples, n_fft=1024, hop_length=256, first_bin=2, n_bins=511)
    assert (got == FLOOR).all()


@given(seeds, st.integers(0, 300))
def test_frames_do_not_depend_on_where_they_stand(seed, n_skipped):
    samples = noise(1, seed, sample_rate=64 * 400)
    shape = {"n_fft": 256, "hop_length": 64, "first_bin": 3, "n_bins": 100}
    whole = log_spectrogram(samples, **shape)
    np.testing.assert_array_equal(
        log_spectrogram(samples[64 * n_skipped :], **shape), whole[n_skipped:]
    )


def test_both_transforms_give_the_same_but_for_rounding(monkeypatch):
    """NumPy's and SciPy's FFT, chosen by length, may differ in the last step of a few cells."""
    samples = music(5, seed=3)
    shape = {"n_fft": 1024, "hop_length": 256, "first_bin": 20, "n_bins": 456}
    results = []
    for rfft in (np.fft.rfft, scipy.fft.rfft):
        monkeypatch.setattr(spectrogram, "_real_fft", lambda _, rfft=rfft: rfft)
        results.append(log_spectrogram(samples, **shape).astype(np.int32))
    difference = np.abs(results[0] - results[1])
    assert np.mean(difference > 0) < 0.02
    assert difference.max() <= 0.02 * STEPS_PER_OCTAVE


def naive_whiten(cells, time_frames, frequency_bins, breadth):
    out = np.empty(cells.shape)
    for t in range(cells.shape[0]):
        rows = cells[max(t - time_frames, 0) : t + time_frames + 1]
        for f in range(cells.shape[1]):
            near = rows[:, max(f - frequency_bins, 0) : f + frequency_bins + 1]
            out[t, f] = cells[t, f] - (1 - breadth) * near.mean() - breadth * rows.mean()
    return out


@given(
    seeds,
    st.integers(0, 20),
    st.integers(1, 30),
    st.integers(0, 25),
    st.integers(0, 35),
    st.floats(0, 1),
)
def test_whitening_subtracts_the_means(
    seed, n_frames, n_bins, time_frames, frequency_bins, breadth
):
    rng = np.random.default_rng(seed)
    cells = rng.integers(FLOOR, 1000, (n_frames, n_bins)).astype(np.int16)
    extent = {"time_frames": time_frames, "frequency_bins": frequency_bins, "breadth": breadth}
    got = whiten(cells, **extent)
    assert got.dtype == np.int16
    assert got.shape == cells.shape
    # Less than one step: the fraction is cut off.
    np.testing.assert_allclose(got, naive_whiten(cells, **extent), rtol=0, atol=1.01)


@given(seeds, st.integers(-3000, 3000), st.floats(0, 1))
def test_whitening_removes_a_level(seed, level, breadth):
    cells = np.random.default_rng(seed).integers(-3000, 1000, (12, 20))
    extent = {"time_frames": 4, "frequency_bins": 3, "breadth": breadth}
    plain = whiten(cells.astype(np.int16), **extent)
    louder = whiten((cells + level).astype(np.int16), **extent)
    assert np.abs(plain.astype(np.int32) - louder).max() <= 1


def test_whitening_depends_on_no_frame_beyond_its_reach():
    cells = np.random.default_rng(5).integers(FLOOR, 0, (200, 30)).astype(np.int16)
    extent = {"time_frames": 7, "frequency_bins": 4, "breadth": 0.3}
    whole = whiten(cells, **extent)
    np.testing.assert_array_equal(whiten(cells[50:], **extent)[7:], whole[57:])
