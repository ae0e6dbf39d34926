"""Rooms decay as long as asked for, and leave the direct sound where it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music, noise

from afp.distort.room import convolve, response
from afp.errors import InputError, UsageError

RATE = 16_000


def room(t60, seed=0, sample_rate=RATE):
    return response(t60=t60, sample_rate=sample_rate, rng=np.random.default_rng(seed))


def t30(samples, sample_rate=RATE):
    """Reverberation time by Schroeder's backward integration, fitted from -5 to -35 dB."""
    energy = np.cumsum(np.square(samples, dtype=np.float64)[::-1])[::-1]
    decay = 10 * np.log10(energy / energy[0])
    fitted = np.flatnonzero((decay <= -5) & (decay >= -35))
    return -60 / np.polyfit(fitted / sample_rate, decay[fitted], 1)[0]


def band(samples, low_hz, high_hz):
    spectrum = np.fft.rfft(samples, 2 * len(samples))
    hz = np.fft.rfftfreq(2 * len(samples), 1 / RATE)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    return np.fft.irfft(spectrum)[: len(samples)]


@pytest.mark.parametrize("t60", [0.05, 0.1, 0.2, 0.5, 0.8, 1.5, 3.0])
@pytest.mark.parametrize("sample_rate", [8000, 16_000, 44_100])
def test_t60_is_what_was_asked_for(t60, sample_rate):
    measured = [t30(room(t60, seed, sample_rate), sample_rate) / t60 for seed in range(8)]
    assert min(measured) > 0.85 and max(measured) < 1.15
    assert np.mean(measured) == pytest.approx(1.0, abs=0.05)


def test_high_frequencies_decay_sooner():
    for seed in range(5):
        heard = room(1.0, seed)
        times = [t30(band(heard, low, 2 * low)) for low in (250, 1000, 4000)]
        assert times[2] < 0.85 * times[1] < 0.95 * times[0]


@pytest.mark.parametrize("t60", [0.05, 0.3, 2.0])
def test_the_direct_sound_is_first_strongest_and_one_to_a_half_or_double(t60):
    for seed in range(20):
        heard = room(t60, seed).astype(np.float64)
        assert heard[0] == 1.0 > np.abs(heard[1:]).max()
        assert not heard[1 : RATE // 1000].any()
        assert -6.5 <= -10 * np.log10(np.sum(heard[1:] ** 2)) <= 6.5


def test_early_reflections_stand_out_of_the_tail():
    for seed in range(10):
        heard = np.abs(room(1.0, seed)[1 : RATE // 10])
        local = np.sqrt(np.convolve(heard**2, np.ones(201) / 201, "same"))
        reflections = np.count_nonzero(heard > 4 * np.median(local))
        assert 3 <= reflections <= 12


def test_rooms_follow_from_the_seed():
    heard = room(0.4, 7)
    assert (heard.dtype, heard.shape) == (np.float32, (6400,))
    assert np.array_equal(heard, room(0.4, 7))
    assert not np.array_equal(heard, room(0.4, 8))


@pytest.mark.parametrize("t60", [0.0, 0.049, 3.01, float("nan")])
def test_impossible_rooms_are_refused(t60):
    with pytest.raises(UsageError, match="reverberation time") as raised:
        room(t60)
    assert "0.05 to 3 s" in raised.value.hint


@given(st.integers(0, 300), st.integers(1, 200), st.integers(0, 2**32 - 1), st.floats(0.01, 1e4))
def test_convolution_against_the_definition(n, m, seed, level):
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(n).astype(np.float32)
    heard = (level * rng.standard_normal(m)).astype(np.float32)
    copies = samples.copy(), heard.copy()
    wet = convolve(samples, heard)
    direct = np.abs(heard).argmax()
    whole = np.zeros(n + m)
    for i, tap in enumerate(heard / np.linalg.norm(heard.astype(np.float64))):
        whole[i : i + n] += tap * samples
    assert wet == pytest.approx(whole[direct : direct + n], abs=1e-4)
    assert (wet.dtype, wet.shape) == (np.float32, (n,))
    assert np.array_equal(samples, copies[0]) and np.array_equal(heard, copies[1])


def test_the_direct_sound_keeps_its_place():
    samples, heard = music(2, 3, RATE), room(0.5, 2)
    late = np.concatenate([np.zeros(777, np.float32), -30 * heard])
    wet = convolve(samples, late)
    lags = np.fft.irfft(np.fft.rfft(wet, 1 << 16) * np.fft.rfft(samples, 1 << 16).conj())
    assert np.abs(lags).argmax() == 0
    assert wet == pytest.approx(-convolve(samples, heard), abs=1e-5)


def test_a_room_leaves_the_level_of_noise():
    for seed in range(5):
        samples = noise(4, seed, RATE)
        wet = convolve(samples, room(0.5, seed))
        assert 20 * np.log10(np.std(wet) / np.std(samples)) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("silent", [[], [0.0] * 9, [float("nan")]])
def test_a_silent_response_is_refused(silent):
    with pytest.raises(InputError, match="impulse response is silent") as raised:
        convolve(np.ones(9, np.float32), np.array(silent, np.float32))
    assert raised.value.hint
