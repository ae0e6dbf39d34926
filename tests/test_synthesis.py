"""The synthesised audio that other tests rely on."""

import numpy as np
import pytest
from synthesis import music, noise, silence, tone


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
@pytest.mark.parametrize("seconds", [0.0, 0.1, 2.5, 20.0])
def test_lengths_and_types(seconds, rate):
    for samples in (
        music(seconds, sample_rate=rate),
        tone(seconds, sample_rate=rate),
        noise(seconds, sample_rate=rate),
        silence(seconds, rate),
    ):
        assert samples.dtype == np.float32
        assert samples.shape == (round(seconds * rate),)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max(initial=0) <= 1


def test_a_seed_is_a_piece():
    np.testing.assert_array_equal(music(5, seed=3), music(5, seed=3))
    a, b = music(5, seed=3), music(5, seed=4)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


def test_music_never_rests_and_does_not_repeat():
    piece = music(30, seed=1)
    seconds = piece.reshape(30, -1)
    assert (seconds.std(axis=1) > 0.02).all()
    likeness = np.corrcoef(seconds) - np.eye(30)
    assert likeness.max() < 0.5
