"""Filters, echo, dynamics and devices, measured with impulses and tones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music, noise, silence, tone

from afp.distort.device import loudspeaker, microphone
from afp.distort.dynamics import _follow, clip, compand, compress, gain
from afp.distort.echo import echo
from afp.distort.filters import (
    OCTAVES_HZ,
    all_pass,
    alternating,
    band_pass,
    equalise,
    high_pass,
    low_pass,
    telephone,
)
from afp.errors import UsageError

RATE = 16_000
COMPRESSOR = {"threshold_db": -20, "ratio": 4, "attack_seconds": 0.005, "release_seconds": 0.1}

EVERYTHING = {
    "low_pass": lambda x, rng: low_pass(x, sample_rate=RATE, hz=2000),
    "low_pass above": lambda x, rng: low_pass(x, sample_rate=RATE, hz=RATE / 2),
    "high_pass": lambda x, rng: high_pass(x, sample_rate=RATE, hz=500),
    "band_pass": lambda x, rng: band_pass(x, sample_rate=RATE, low_hz=100, high_hz=6000),
    "telephone": lambda x, rng: telephone(x, sample_rate=RATE),
    "equalise": lambda x, rng: equalise(x, sample_rate=RATE, gains_db=alternating(3)),
    "all_pass": lambda x, rng: all_pass(x),
    "echo": lambda x, rng: echo(x, sample_rate=RATE, delay_seconds=0.01, decay=0.5),
    "gain": lambda x, rng: gain(x, db=3),
    "clip": lambda x, rng: clip(x, db=10),
    "compress": lambda x, rng: compress(x, sample_rate=RATE, **COMPRESSOR),
    "compand": lambda x, rng: compand(x, sample_rate=RATE),
    "microphone": lambda x, rng: microphone(x, sample_rate=RATE, rng=rng),
    "loudspeaker": lambda x, rng: loudspeaker(x, sample_rate=RATE, rng=rng),
}


@pytest.mark.parametrize("name", EVERYTHING)
@given(n=st.integers(0, 2000), seed=st.integers(0, 2**32 - 1))
def test_each_is_a_pure_function(name, n, seed):
    distort = EVERYTHING[name]
    samples = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    samples.flags.writeable = False
    result = distort(samples, np.random.default_rng(seed))
    assert (result.dtype, result.shape) == (np.float32, (n,))
    assert np.isfinite(result).all()
    assert not np.shares_memory(result, samples)
    assert np.array_equal(result, distort(samples, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", EVERYTHING)
def test_silence_stays_silent(name):
    assert not EVERYTHING[name](silence(0.1, RATE), np.random.default_rng(0)).any()


def gain_db(distort, hz, sample_rate=RATE, level=0.01):
    """Of tones, once the filter has settled."""
    gains = []
    for each in np.atleast_1d(hz):
        played = tone(2, hz=each, sample_rate=sample_rate, level=level)
        half = slice(sample_rate, None)
        wave = np.exp(-2j * np.pi * each * np.arange(len(played)) / sample_rate)
        before, after = (abs(np.dot(x[half], wave[half])) for x in (played, distort(played)))
        gains.append(20 * np.log10(after / before))
    return np.array(gains)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_low_and_high_pass_are_butterworth(order):
    hz = np.array([250, 500, 1000, 2000, 4000])
    warped = np.tan(np.pi * hz / RATE) / np.tan(np.pi * 1000 / RATE)
    expected = -10 * np.log10(1 + warped ** (2 * order))
    low = gain_db(lambda x: low_pass(x, sample_rate=RATE, hz=1000, order=order), hz)
    high = gain_db(lambda x: high_pass(x, sample_rate=RATE, hz=1000, order=order), hz)
    assert low == pytest.approx(expected, abs=0.05)
    assert high == pytest.approx(-10 * np.log10(1 + warped ** (-2 * order)), abs=0.05)
    assert low[2] == pytest.approx(-3.01, abs=0.02)


def test_band_pass_keeps_its_band():
    gains = gain_db(
        lambda x: band_pass(x, sample_rate=RATE, low_hz=300, high_hz=3000),
        [30, 150, 300, 950, 3000, 6000],
    )
    assert gains[[2, 4]] == pytest.approx(-3.01, abs=0.05)
    assert gains[3] == pytest.approx(0, abs=0.05)
    assert gains[0] < -70 and gains[1] < -20 and gains[5] < -20


def test_telephone_is_flat_inside_and_steep_outside():
    for sample_rate in (11_025, RATE, 44_100):
        inside = gain_db(
            lambda x, r=sample_rate: telephone(x, sample_rate=r),
            [300, 400, 1000, 2000, 3000, 3400],
            sample_rate,
        )
        outside = gain_db(
            lambda x, r=sample_rate: telephone(x, sample_rate=r), [50, 60, 4600, 5400], sample_rate
        )
        assert inside.min() >= -0.55 and inside.max() <= 0.05
        assert outside.max() < -35
    narrow = gain_db(lambda x: telephone(x, sample_rate=6000), [50, 1000, 2900], 6000)
    assert narrow[0] < -35 and narrow[1:] == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("sample_rate", [8000, RATE, 44_100])
@pytest.mark.parametrize(
    "gains_db", [alternating(3), alternating(-12), [0, 0, 6, 0, 0, -6, -6, -6, 12, 0], [0.0] * 10]
)
def test_equaliser_has_the_gains_asked_for(sample_rate, gains_db):
    centres = OCTAVES_HZ[sample_rate > 2 * OCTAVES_HZ]
    measured = gain_db(
        lambda x: equalise(x, sample_rate=sample_rate, gains_db=gains_db), centres, sample_rate
    )
    assert measured == pytest.approx(gains_db[: len(centres)], abs=0.1)


def test_alternating_gains_are_those_of_the_paper():
    assert alternating(3) == [-3, 3] * 5
    assert pytest.approx([31.25, 62.5, 125, 250, 500, 1e3, 2e3, 4e3, 8e3, 16e3]) == OCTAVES_HZ


def test_all_pass_turns_phases_only():
    impulse = np.zeros(1 << 14, np.float32)
    impulse[0] = 1
    heard = all_pass(impulse).astype(np.float64)
    spectrum = np.fft.rfft(heard)
    assert np.abs(spectrum) == pytest.approx(1, abs=1e-5)
    assert np.ptp(np.unwrap(np.angle(spectrum))) == pytest.approx(2 * np.pi, rel=0.01)
    assert heard[:2] == pytest.approx([0.81, -1.64 + 1.64 * 0.81])


@pytest.mark.parametrize(
    "distort",
    [
        lambda x: low_pass(x, sample_rate=RATE, hz=0),
        lambda x: high_pass(x, sample_rate=RATE, hz=-1),
        lambda x: high_pass(x, sample_rate=RATE, hz=RATE / 2),
        lambda x: band_pass(x, sample_rate=RATE, low_hz=RATE, high_hz=2 * RATE),
        lambda x: band_pass(x, sample_rate=RATE, low_hz=3000, high_hz=300),
        lambda x: band_pass(x, sample_rate=RATE, low_hz=300, high_hz=300),
        lambda x: telephone(x, sample_rate=600),
    ],
)
def test_filters_that_leave_nothing_are_refused(distort):
    with pytest.raises(UsageError, match="leaves nothing") as raised:
        distort(tone(0.1, sample_rate=RATE))
    assert raised.value.hint


def test_a_band_open_above_is_a_high_pass():
    samples = noise(1, sample_rate=RATE)
    open_band = band_pass(samples, sample_rate=RATE, low_hz=500, high_hz=20_000)
    assert np.array_equal(open_band, high_pass(samples, sample_rate=RATE, hz=500))


def test_an_equaliser_has_ten_bands():
    with pytest.raises(UsageError, match="ten bands, not 3"):
        equalise(silence(1), sample_rate=8000, gains_db=[1, 2, 3])


@given(st.integers(0, 400), st.integers(1, 60), st.floats(0, 0.95))
def test_echoes_against_the_recursion(n, delay, decay):
    samples = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    expected = samples.astype(np.float64)
    for i in range(delay, n):
        expected[i] += decay * expected[i - delay]
    heard = echo(samples, sample_rate=1000, delay_seconds=delay / 1000, decay=decay)
    assert heard == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("delay_seconds", "decay", "match"),
    [(0.0, 0.5, "no echo"), (-1.0, 0.5, "no echo"), (0.1, 1.0, "fade"), (0.1, -0.1, "fade")],
)
def test_impossible_echoes_are_refused(delay_seconds, decay, match):
    with pytest.raises(UsageError, match=match):
        echo(silence(1), sample_rate=8000, delay_seconds=delay_seconds, decay=decay)


def test_gain_is_in_decibels():
    samples = music(0.5)
    assert gain(samples, db=-20) == pytest.approx(samples / 10)
    assert gain(samples, db=6.0206) == pytest.approx(samples * 2, rel=1e-5)


@pytest.mark.parametrize("db", [0, 3, 12, 40])
def test_clipping_is_below_the_loudest(db):
    samples = music(0.5)
    clipped = clip(samples, db=db)
    limit = np.abs(samples).max() * 10 ** (-db / 20)
    assert np.abs(clipped).max() == pytest.approx(limit)
    quiet = np.abs(samples) < limit
    assert np.array_equal(clipped[quiet], samples[quiet])
    assert np.array_equal(np.sign(clipped), np.sign(samples))


def test_no_limit_is_above_the_loudest():
    with pytest.raises(UsageError, match="louder than the loudest"):
        clip(music(0.1), db=-1)


def level_after(distort, level_db, seconds=2.0):
    """Peak level in dB of a tone, once the level has settled."""
    played = tone(seconds, hz=997.0, sample_rate=RATE, level=10 ** (level_db / 20))
    return 20 * np.log10(np.abs(distort(played)[-RATE // 4 :]).max())


@pytest.mark.parametrize("ratio", [1, 2, 4, 100, np.inf])
def test_static_curve_of_the_compressor(ratio):
    def distort(samples):
        return compress(samples, sample_rate=RATE, **{**COMPRESSOR, "ratio": ratio})

    for level in (-60, -40, -21):
        assert level_after(distort, level) == pytest.approx(level, abs=0.05)
    for level in (-15, -10, 0):
        assert level_after(distort, level) == pytest.approx(-20 + (level + 20) / ratio, abs=0.15)


def test_attack_and_release_take_their_time():
    quiet, loud = (tone(1, hz=997.0, sample_rate=RATE, level=x) for x in (0.01, 1.0))
    samples = np.concatenate([quiet, loud, quiet])
    heard = compress(
        samples,
        sample_rate=RATE,
        threshold_db=-20,
        ratio=4,
        attack_seconds=0.02,
        release_seconds=0.2,
    )

    def gain_at(seconds):
        near = slice(round((seconds - 0.002) * RATE), round((seconds + 0.002) * RATE))
        return 20 * np.log10(np.abs(heard[near]).max() / np.abs(samples[near]).max())

    assert gain_at(0.9) == pytest.approx(0, abs=0.01)
    attacked = 20 * np.log10(1 - np.exp(-1))  # after one time constant, at 20 ms
    assert gain_at(1.02) == pytest.approx(-0.75 * (20 + attacked), abs=0.7)
    assert gain_at(1.9) == pytest.approx(-15, abs=0.1)
    released = 20 * np.log10(np.exp(-1))
    assert gain_at(2.2) == pytest.approx(-0.75 * (20 + released), abs=1.0)
    assert gain_at(2.9) == pytest.approx(0, abs=0.01)


@given(st.integers(0, 300), st.floats(0, 0.9999), st.floats(0, 0.9999), st.integers(0, 2**32 - 1))
def test_envelope_against_its_definition(n, attack, release, seed):
    samples = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    envelope = np.empty_like(samples)
    _follow(samples, attack, release, envelope)
    peak = level = 0.0
    expected = []
    for sample in np.abs(samples.astype(np.float64)):
        peak = max(sample, release * peak)
        level = attack * level + (1 - attack) * peak
        expected.append(level)
    assert envelope == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"ratio": 0.5}, "does not compress"),
        ({"attack_seconds": -0.1}, "look ahead"),
        ({"release_seconds": -0.1}, "look ahead"),
    ],
)
def test_impossible_compressors_are_refused(changed, match):
    with pytest.raises(UsageError, match=match):
        compress(silence(1), sample_rate=RATE, **{**COMPRESSOR, **changed})


def test_companding_has_the_ratios_of_the_paper():
    def after(level):
        return level_after(lambda x: compand(x, sample_rate=RATE), level)

    assert after(0) == pytest.approx(0, abs=0.1)
    assert 20 / (after(-4) - after(-24)) == pytest.approx(8.94, rel=0.03)
    assert 14 / (after(-30) - after(-44)) == pytest.approx(1.73, rel=0.03)
    assert (after(-50) - after(-70)) / 20 == pytest.approx(1.61, rel=0.03)


def test_companding_is_never_louder_than_full_scale():
    samples = np.clip(noise(1, sample_rate=RATE, level=0.5), -1, 1)
    assert np.abs(compand(samples, sample_rate=RATE)).max() <= 1.0001


def test_microphones_are_small_and_differ():
    hz = [30, 60, 1000, 2500, 3500, 5000]
    gains = np.array(
        [
            gain_db(lambda x, s=seed: EVERYTHING["microphone"](x, np.random.default_rng(s)), hz)
            for seed in range(12)
        ]
    )
    assert gains[:, 0].max() < -11
    assert np.all(gains[:, 0] < gains[:, 1] - 4)
    assert np.abs(gains[:, 2]).max() < 4
    assert gains[:, 3:].min() > -8 and gains[:, 3:].max() < 22
    assert np.delete(gains, 2, axis=1).std(axis=0).min() > 2


def test_loudspeakers_lack_bass_and_differ():
    hz = [50, 100, 1000, 3000]
    gains = np.array(
        [
            gain_db(lambda x, s=seed: EVERYTHING["loudspeaker"](x, np.random.default_rng(s)), hz)
            for seed in range(12)
        ]
    )
    assert gains[:, 1].max() < -20
    assert gains[:, 1] - gains[:, 0] == pytest.approx(24, abs=2)
    assert np.abs(gains[:, 2]).max() < 8
    assert gains[:, 1:].std(axis=0).min() > 0.5


def test_loudspeakers_distort_a_little_whatever_the_level():
    shares = []
    for level in (1.0, 0.001):
        for seed in range(8):
            played = tone(2, hz=800.0, sample_rate=RATE, level=level)
            heard = EVERYTHING["loudspeaker"](played, np.random.default_rng(seed))[RATE:]
            spectrum = np.abs(np.fft.rfft(heard.astype(np.float64)))
            shares.append(np.linalg.norm(spectrum[1600::800]) / spectrum[800])
            assert spectrum[0] < 1e-4 * spectrum[800]
    assert min(shares) > 0.001 and max(shares) < 0.12
    assert shares[:8] == pytest.approx(shares[8:], rel=0.05)
    assert np.median(shares) < 0.05


def test_devices_work_at_low_sample_rates():
    for distort in (microphone, loudspeaker):
        for seed in range(10):
            heard = distort(noise(1), sample_rate=5512, rng=np.random.default_rng(seed))
            assert np.isfinite(heard).all() and np.std(heard) > 0.01
