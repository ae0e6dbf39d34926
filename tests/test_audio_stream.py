"""Resampling and identity, block by block."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music, noise, tone

from afp.audio import ContentHash, Resampler, decode

cuts = st.lists(st.integers(0, 20_000), max_size=8).map(sorted)


def resample(blocks, rate_in, rate_out):
    resampler = Resampler(rate_in, rate_out)
    parts = [resampler.process(block) for block in blocks]
    return np.concatenate([*parts, resampler.process(np.empty(0, np.float32), last=True)])


@pytest.mark.parametrize(
    ("rate_in", "rate_out"),
    [(44100, 8000), (8000, 44100), (16000, 8000), (11025, 8000), (8000, 8000), (100, 8000)],
)
@given(cuts=cuts)
def test_resampling_does_not_depend_on_the_blocks(rate_in, rate_out, cuts):
    samples = noise(20_000 / rate_in, sample_rate=rate_in)
    whole = resample([samples], rate_in, rate_out)
    assert abs(len(whole) - len(samples) * rate_out / rate_in) <= 1
    assert whole.dtype == np.float32
    np.testing.assert_allclose(
        resample(np.split(samples, cuts), rate_in, rate_out), whole, atol=1e-6
    )


def test_the_last_block_may_hold_samples():
    samples = noise(1, sample_rate=44100)
    np.testing.assert_array_equal(
        Resampler(44100, 8000).process(samples, last=True), resample([samples], 44100, 8000)
    )


def test_equal_rates_pass_through():
    samples = noise(0.1)
    assert Resampler(8000, 8000).process(samples) is samples


@pytest.mark.parametrize("rate", [16000, 44100, 48000, 96000])
@pytest.mark.parametrize("hz", [100, 1000, 3000, 3600])
def test_what_fits_passes_in_place(rate, hz):
    samples = resample([tone(1, hz, rate)], rate, 8000)
    np.testing.assert_allclose(samples[400:-400], tone(1, hz, 8000)[400:-400], atol=0.01)


@pytest.mark.parametrize("rate", [16000, 44100, 48000, 96000])
@pytest.mark.parametrize("hz", [4100, 5000, 7900])
def test_what_does_not_fit_leaves_no_alias(rate, hz):
    samples = resample([tone(1, hz, rate)], rate, 8000)
    assert np.abs(samples[400:-400]).max() < 1e-4


@pytest.mark.parametrize("rate", [768_000, 2**31 - 1])
def test_absurdly_high_rates(rate):
    assert abs(len(resample([noise(0.1)] * 10, rate, 8000)) - 8000 * 8000 / rate) <= 1


def digest(*blocks):
    content = ContentHash()
    for block in blocks:
        content.update(block)
    return content.hexdigest()


@given(cuts=cuts)
def test_identity_does_not_depend_on_the_blocks(cuts):
    samples = noise(20_000 / 8000)
    assert digest(*np.split(samples, cuts)) == digest(samples)


def test_identity_tells_recordings_apart():
    samples = noise(1)
    other = samples.copy()
    other[5] = np.nextafter(other[5], np.float32(1))
    assert len({digest(samples), digest(other), digest(samples[:-1]), digest()}) == 4
    assert len(digest()) == 32
    assert digest(np.repeat(samples, 2)[::2]) == digest(samples)


def test_identity_is_that_of_the_sound_not_of_the_file(tmp_path):
    def identity(path):
        with decode(path) as audio:
            return digest(*audio)

    piece = music(3, sample_rate=44100)
    soundfile.write(tmp_path / "a.wav", piece, 44100)
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 44100, 1, "PCM_16") as file:
        file.title = "another tag"
        file.write(soundfile.read(tmp_path / "a.wav", dtype="int16")[0])
    soundfile.write(tmp_path / "b.wav", piece[1:], 44100)
    assert identity(tmp_path / "a.wav") == identity(tmp_path / "a.flac")
    assert identity(tmp_path / "a.wav") != identity(tmp_path / "b.wav")
