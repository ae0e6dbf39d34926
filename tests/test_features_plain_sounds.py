import numpy as np

from afp.features.log_mel import SAMPLE_RATE, SEGMENT_SAMPLES
from afp.features.plain_sounds import plain_segments


def test_the_first_are_sines_an_eighth_of_a_tone_apart():
    sounds = plain_segments()
    assert sounds.dtype == np.float32
    assert sounds.shape[1] == SEGMENT_SAMPLES
    spectra = np.abs(np.fft.rfft(sounds[:200] * np.hanning(SEGMENT_SAMPLES)))
    peaks = spectra.argmax(axis=1) * SAMPLE_RATE / SEGMENT_SAMPLES
    np.testing.assert_allclose(peaks, 160 * 2 ** (np.arange(200) / 48), atol=1.1)


def test_none_aliases_and_none_is_silent():
    sounds = plain_segments()
    assert np.isfinite(sounds).all()
    assert sounds.std(axis=1).min() > 0.1
    assert 400 < len(sounds) < 700
