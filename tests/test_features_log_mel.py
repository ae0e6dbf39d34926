"""Log-mel segments: what a model hears."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music, noise, tone

from afp.features.log_mel import (
    FLOOR,
    HIGHEST_HZ,
    HOP_LENGTH,
    LOWEST_HZ,
    N_BANDS,
    N_FFT,
    N_FRAMES,
    SAMPLE_RATE,
    SEGMENT_SAMPLES,
    mel_powers,
    normalised,
    segments,
)


def naive_powers(samples):
    """One frame and one band after the other, in double precision."""
    edges = 700 * np.expm1(
        np.linspace(
            1127 * np.log1p(LOWEST_HZ / 700), 1127 * np.log1p(HIGHEST_HZ / 700), N_BANDS + 2
        )
        / 1127
    )
    hz = np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    powers = []
    for start in range(0, len(samples) - N_FFT + 1, HOP_LENGTH):
        spectrum = np.fft.rfft(samples[start : start + N_FFT].astype(float) * window)
        power = np.abs(spectrum * 4 / N_FFT) ** 2
        frame = []
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
            weights = np.interp(hz, [low, centre, high], [0, 1, 0])
            frame.append((weights * power).sum() / weights.sum())
        powers.append(frame)
    return np.array(powers)


def naive_normalised(powers):
    logarithms = np.log(powers / powers.mean() + FLOOR)
    return (logarithms - logarithms.mean()) / logarithms.std()


def test_powers_equal_the_naive_ones():
    samples = music(2.0, seed=3)
    expected = naive_powers(samples)
    found = mel_powers(samples)
    assert found.shape == expected.shape == ((len(samples) - N_FFT) // HOP_LENGTH + 1, N_BANDS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)


def test_normalised_equals_the_naive_one():
    powers = mel_powers(music(1.0, seed=4))[:N_FRAMES]
    np.testing.assert_allclose(
        normalised(powers), naive_normalised(powers.astype(float)), atol=1e-3
    )


@given(st.integers(0, 5), st.floats(-40, 40))
def test_level_does_not_matter(seed, db):
    samples = music(1.0, seed=seed)[:SEGMENT_SAMPLES]
    louder = samples * np.float32(10 ** (db / 20))
    np.testing.assert_allclose(
        normalised(mel_powers(louder)), normalised(mel_powers(samples)), atol=1e-3
    )


def test_a_shift_by_frames_shifts_the_frames():
    samples = music(4.0, seed=1)
    shifted = mel_powers(np.ascontiguousarray(samples[5 * HOP_LENGTH :]))
    np.testing.assert_allclose(shifted, mel_powers(samples)[5:], rtol=1e-4, atol=1e-10)


def test_segments_are_those_of_the_samples_under_them():
    samples = music(3.0, seed=2)
    cut = normalised(segments(mel_powers(samples), hop_frames=16))
    for i, segment in enumerate(cut):
        alone = samples[i * 16 * HOP_LENGTH :][:SEGMENT_SAMPLES]
        np.testing.assert_allclose(segment, normalised(mel_powers(alone)), atol=1e-3)
    assert len(cut) == (len(samples) - SEGMENT_SAMPLES) // (16 * HOP_LENGTH) + 1


def test_several_signals_at_once():
    signals = np.stack([music(1.0, seed=seed) for seed in range(3)])
    together = normalised(mel_powers(signals)[:, :N_FRAMES])
    for signal, found in zip(signals, together, strict=True):
        np.testing.assert_allclose(found, normalised(mel_powers(signal)[:N_FRAMES]), atol=1e-5)


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3500.0])
def test_a_tone_is_loudest_in_its_band(hz):
    powers = mel_powers(tone(1.0, hz))
    band = powers.sum(axis=0).argmax()
    mel = 1127 * np.log1p(np.array([LOWEST_HZ, hz, HIGHEST_HZ]) / 700)
    expected = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (N_BANDS + 1) - 1
    assert abs(band - expected) <= 1


def test_segments_have_zero_mean_and_unit_variance():
    cut = normalised(segments(mel_powers(noise(3.0)), hop_frames=7))
    np.testing.assert_allclose(cut.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(cut.std(axis=(1, 2)), 1, atol=1e-4)


def test_silence_is_zero():
    assert not normalised(mel_powers(np.zeros(SEGMENT_SAMPLES, np.float32))).any()


@pytest.mark.parametrize("n", [0, N_FFT - 1, SEGMENT_SAMPLES - 1])
def test_too_short_gives_no_segment(n):
    cut = segments(mel_powers(np.ones(n, np.float32)), hop_frames=16)
    assert normalised(cut).shape == (0, N_FRAMES, N_BANDS)


def test_a_second_fills_a_segment():
    assert len(segments(mel_powers(noise(1.0)), hop_frames=16)) == 1
