"""Noise is of the colour it is called by, and as loud as asked for."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music, noise, silence, tone

from afp.distort.noise import add, babble, pink, stretch, white
from afp.errors import InputError

RATE = 8000
pink_noise = partial(pink, sample_rate=RATE)
lengths = st.integers(0, 3000)
seeds = st.integers(0, 2**32 - 1)


def generator(seed=0):
    return np.random.default_rng(seed)


def power(samples):
    return np.mean(np.square(samples, dtype=np.float64))


def slope(samples):
    """Of the spectrum's density, in dB an octave."""
    density = np.abs(np.fft.rfft(samples)) ** 2
    edges = len(samples) // 2 ** np.arange(1, 9)  # octaves, from the top down
    octaves = [density[low:high].mean() for high, low in pairwise(edges)]
    return np.polyfit(-np.arange(len(octaves)), 10 * np.log10(octaves), 1)[0]


@pytest.mark.parametrize(("make", "db_an_octave"), [(white, 0.0), (pink_noise, -3.01)])
def test_colour_of_noise(make, db_an_octave):
    made = make(1 << 18, generator())
    assert slope(made) == pytest.approx(db_an_octave, abs=0.15)
    assert power(made) == pytest.approx(1.0, rel=0.15)


def test_nothing_of_pink_noise_is_below_20_hz():
    density = np.abs(np.fft.rfft(pink_noise(1 << 18, generator()))) ** 2
    heard = int(20 * (1 << 18) / RATE)
    assert density[: heard - 50].sum() < 1e-3 * density.sum()


@given(lengths, seeds)
def test_noise_follows_from_length_and_seed(n, seed):
    speech = [music(0.1, i) for i in range(3)]
    for make in (white, pink_noise, lambda n, rng: babble(n, speech, rng)):
        made = make(n, generator(seed))
        assert (made.dtype, made.shape) == (np.float32, (n,))
        assert np.array_equal(made, make(n, generator(seed)))
        assert n < 5 or not np.array_equal(made, make(n, generator(seed + 1)))


@pytest.mark.parametrize("snr_db", [-20, -5, 0, 0.5, 10, 40])
@pytest.mark.parametrize("past", [0, 1, 4000])
def test_ratio_holds_after_the_past(snr_db, past):
    samples, disturbance = music(2, 1), noise(2, 3, level=7.0)
    samples[:past] *= 5  # which must not count
    disturbance[: past // 2] = 0
    copies = samples.copy(), disturbance.copy()
    mixed = add(samples, disturbance, snr_db=snr_db, past=past)
    added = mixed.astype(np.float64) - samples
    ratio = power(samples[past:]) / power(added[past:])
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.01)
    assert np.corrcoef(added, disturbance)[0, 1] > 0.999
    assert (mixed.dtype, mixed.shape) == (np.float32, samples.shape)
    assert np.array_equal(samples, copies[0]) and np.array_equal(disturbance, copies[1])


@given(lengths, st.integers(0, 4000))
def test_silence_is_left_as_it_is(n, past):
    something, nothing = white(n, generator()), np.zeros(n, np.float32)
    for samples, disturbance in [(something, nothing), (nothing, something)]:
        mixed = add(samples, disturbance, snr_db=0.0, past=past)
        assert np.array_equal(mixed, samples)
        assert mixed is not samples
    assert n <= past or not np.array_equal(add(something, something, snr_db=0.0), something)


@given(lengths, st.lists(st.integers(1, 2000), min_size=1, max_size=4), seeds)
def test_a_stretch_is_of_one_recording(n, sizes, seed):
    starts = np.cumsum([1, *sizes])
    recordings = [np.arange(*span, dtype=np.float32) for span in pairwise(starts)]
    piece = stretch(n, recordings, generator(seed))
    assert (piece.dtype, piece.shape) == (np.float32, (n,))
    assert np.array_equal(piece, stretch(n, recordings, generator(seed)))
    if n:
        (recording,) = [r for r in recordings if r[0] <= piece[0] <= r[-1]]
        wraps = np.diff(piece) != 1
        assert np.all(piece[1:][wraps] == recording[0]) and np.all(
            piece[:-1][wraps] == recording[-1]
        )
        assert len(recording) < n or not wraps.any()
        piece[:] = 0
        assert recording.all()


def test_stretches_begin_everywhere():
    recording = np.arange(1, 101, dtype=np.float32)
    starts = {stretch(91, [recording], rng)[0] for rng in [generator()] for _ in range(200)}
    assert starts == set(range(1, 11))
    rolls = {stretch(150, [recording], rng)[0] for rng in [generator()] for _ in range(2000)}
    assert rolls == set(range(1, 101))


def test_silent_pieces_are_drawn_again():
    partly = np.concatenate([silence(50), tone(0.5), silence(50)])
    rng = generator()
    for _ in range(20):
        assert stretch(RATE, [silence(5), partly, np.zeros(0, np.float32)], rng).any()
    late = np.concatenate([silence(1), tone(1)])
    for _ in range(20):
        assert stretch(RATE, [late], rng, past=RATE - 10)[-10:].any()


def test_without_sound_it_says_so():
    with pytest.raises(InputError, match="no recordings") as raised:
        stretch(10, [], generator())
    assert raised.value.hint
    with pytest.raises(InputError, match="digitally silent") as raised:
        stretch(10, [silence(1), np.zeros(0, np.float32)], generator())
    assert raised.value.hint
    with pytest.raises(InputError, match="no speech"):
        babble(10, [], generator())


def test_babble_is_of_different_talkers_equally_loud():
    talkers = [tone(3, hz=200.0 * k, level=0.9 / k**2) for k in range(1, 9)]
    mix = babble(2 * RATE, talkers, generator(), n_talkers=5)
    spectrum = np.abs(np.fft.rfft(mix.astype(np.float64)))[400 : 8 * 400 + 1 : 400] / RATE
    loud = spectrum > 0.1
    assert np.count_nonzero(loud) == 5
    assert spectrum[loud] == pytest.approx(2**0.5, rel=0.01)
    assert power(mix) == pytest.approx(5.0, rel=0.01)


def test_few_talkers_speak_twice():
    mix = babble(RATE, [noise(4, 1), noise(4, 2)], generator(), n_talkers=6)
    assert power(mix) == pytest.approx(6.0, rel=0.2)
