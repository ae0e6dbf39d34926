"""Speed, tempo, pitch and resampling: by the places of clicks and the frequencies of tones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesis import music, tone

from afp.distort.time_pitch import pitch, resample, speed, tempo
from afp.errors import UsageError

RATE = 16_000
CLICKS = np.arange(0.4, 9.6, 0.7137)  # seconds
MIDDLE = 0.0004  # of a click's energy, in seconds after its start


def frequency(samples):
    """Measure the frequency of a tone in Hz, by the peak of its spectrum."""
    middle = samples[len(samples) // 10 : -len(samples) // 10]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 20))
    return np.argmax(spectrum) * RATE / (1 << 20)


def level(samples):
    middle = samples[len(samples) // 10 : -len(samples) // 10]
    return float(np.sqrt(2 * np.mean(np.square(middle))))


def clicks(background):
    """Short bursts, above faint noise or silence."""
    rng = np.random.default_rng(5)
    samples = background * rng.standard_normal(10 * RATE)
    for start in np.rint(CLICKS * RATE).astype(int):
        samples[start : start + 160] += 0.5 * np.exp(-np.arange(160) / 20)
    return samples.astype(np.float32)


def heard_at(samples, expected_seconds):
    """Return when the energy around each expected time comes, half before and half after."""
    reach = round(0.08 * RATE)
    for seconds in expected_seconds:
        first = round(seconds * RATE) - reach
        energy = np.cumsum(np.square(samples[first : first + 2 * reach], dtype=np.float64))
        yield (first + np.searchsorted(energy, energy[-1] / 2)) / RATE


@pytest.mark.parametrize("factor", [0.5, 0.96, 1.0, 1.02, 1.7])
def test_speed_moves_clicks_and_tones_together(factor):
    samples = clicks(0.0)
    faster = speed(samples, factor=factor)
    assert len(faster) == round(len(samples) / factor)
    expected = (CLICKS + MIDDLE) / factor
    assert list(heard_at(faster, expected)) == pytest.approx(list(expected), abs=0.001)
    assert frequency(speed(tone(3, 700, RATE), factor=factor)) == pytest.approx(
        700 * factor, rel=1e-4
    )


def test_speed_folds_nothing_back():
    faster = speed(tone(2, 7000, RATE), factor=1.3)  # to 9100 Hz, above half the rate
    assert level(faster) < 1e-3


@pytest.mark.parametrize("factor", [0.8, 0.9, 0.96, 1.04, 1.1, 1.25])
@pytest.mark.parametrize("background", [0.0, 0.003])
def test_tempo_keeps_time_from_start_to_end(factor, background):
    samples = clicks(background)
    faster = tempo(samples, factor=factor)
    assert len(faster) == round(len(samples) / factor)
    expected = (CLICKS + MIDDLE) / factor
    assert list(heard_at(faster, expected)) == pytest.approx(list(expected), abs=0.01)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
@pytest.mark.parametrize("hz", [110.0, 440.0, 3000.0, 7000.0])
def test_tempo_keeps_tones(factor, hz):
    faster = tempo(tone(3, hz, RATE), factor=factor)
    assert frequency(faster) == pytest.approx(hz, rel=0.001)
    assert level(faster) == pytest.approx(0.5, rel=0.02)


def test_tempo_keeps_a_chord_in_proportion():
    notes = (220.0, 277.2, 329.6)
    chord = sum(tone(3, hz, RATE, level=0.2) for hz in notes)
    faster = tempo(chord, factor=1.15)[RATE // 4 :][: 2 * RATE]
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster)))) * 4 / len(faster)
    for hz in notes:
        near = slice(round(hz * 2) - 3, round(hz * 2) + 4)
        assert spectrum[near].max() == pytest.approx(0.2, rel=0.2)


def test_tempo_leaves_music_alone_at_factor_one():
    samples = music(2, sample_rate=RATE)
    np.testing.assert_allclose(tempo(samples, factor=1.0), samples, atol=1e-4)


@pytest.mark.parametrize("factor", [0.9, 1.2])
def test_tempo_keeps_the_spectrum_of_music(factor):
    samples = music(5, sample_rate=RATE)

    def bands(sound):
        spectrum = np.square(np.abs(np.fft.rfft(sound)) / len(sound))
        hz = np.fft.rfftfreq(len(sound), 1 / RATE)
        edges = 125.0 * 2.0 ** np.arange(6)
        return [10 * np.log10(spectrum[(hz >= e) & (hz < 2 * e)].sum()) for e in edges]

    assert bands(tempo(samples, factor=factor)) == pytest.approx(bands(samples), abs=1.5)


@pytest.mark.parametrize("sample_rate", [8000, 44_100])
def test_tempo_works_at_other_sample_rates(sample_rate):
    samples = tone(2, 440, sample_rate)
    faster = tempo(samples, factor=1.1, sample_rate=sample_rate)
    assert frequency(faster) * sample_rate / RATE == pytest.approx(440, rel=0.001)


@pytest.mark.parametrize("semitones", [-12, -1, 0, 0.5, 1, 3])
def test_pitch_moves_tones_alone(semitones):
    samples = tone(3, 440, RATE)
    higher = pitch(samples, semitones=semitones)
    assert len(higher) == len(samples)
    assert frequency(higher) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.001)


@pytest.mark.parametrize("semitones", [-2, 1])
def test_pitch_keeps_time(semitones):
    expected = CLICKS + MIDDLE
    higher = pitch(clicks(0.003), semitones=semitones)
    assert list(heard_at(higher, expected)) == pytest.approx(list(expected), abs=0.01)


def test_resampling_leaves_what_the_lower_rate_can_hold():
    low, high = tone(2, 1000, RATE), tone(2, 3500, RATE)
    mixed = low + high
    back = resample(mixed, sample_rate=RATE, hz=5512.5)
    assert back.shape == mixed.shape
    inside = slice(RATE // 4, -RATE // 4)
    np.testing.assert_allclose(back[inside], low[inside], atol=2e-3)
    np.testing.assert_allclose(
        resample(mixed, sample_rate=RATE, hz=22_050)[inside], mixed[inside], atol=2e-3
    )


CHANGES = {
    "speed": lambda x: speed(x, factor=1.03),
    "slower": lambda x: speed(x, factor=0.7),
    "same": lambda x: speed(x, factor=1.0),
    "tempo": lambda x: tempo(x, factor=1.3),
    "longer": lambda x: tempo(x, factor=0.6),
    "pitch": lambda x: pitch(x, semitones=-1.5),
    "resample": lambda x: resample(x, sample_rate=RATE, hz=8000),
    "not resampled": lambda x: resample(x, sample_rate=RATE, hz=RATE),
}
FACTORS = {"speed": 1.03, "slower": 0.7, "tempo": 1.3, "longer": 0.6}


@given(n=st.integers(0, 5000), change=st.sampled_from(sorted(CHANGES)))
@settings(max_examples=100)
def test_any_length_leaves_its_input_alone_and_gives_the_same_twice(n, change):
    samples = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    before = samples.copy()
    changed = CHANGES[change](samples)
    assert changed.dtype == np.float32
    assert len(changed) == round(n / FACTORS.get(change, 1.0))
    assert np.all(np.isfinite(changed))
    np.testing.assert_array_equal(CHANGES[change](samples), changed)
    changed[:] = 7.0
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("factor", [0.0, -1.0, np.inf, np.nan])
def test_impossible_factors_are_refused(factor):
    for change in (speed, tempo):
        with pytest.raises(UsageError, match="on time cannot be played"):
            change(np.zeros(10, np.float32), factor=factor)
    with pytest.raises(UsageError, match="sample rate"):
        resample(np.zeros(10, np.float32), sample_rate=RATE, hz=factor)
