"""A clip knows which part of its source it is, whatever has been done to time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music

from afp.distort import Clip, Sounds, parse

RATE = 16_000
START_SECONDS = 2.3  # of the clip in the source
PAST = round(1.1 * RATE)
SECONDS = 4.0
CLICKS = 0.2 + np.cumsum([0.31, 0.37, 0.42] * 12)  # in seconds: irregular, well apart


def clicking(seconds):
    samples = np.zeros(round(seconds * RATE), np.float32)
    pulse = np.hanning(33).astype(np.float32)
    for at in np.rint(CLICKS * RATE).astype(int):
        if at + 17 < len(samples):
            samples[at - 16 : at + 17] += pulse
    return samples


def cut(distortion, samples):
    begin = round(START_SECONDS * RATE)
    n = round(distortion.reach_seconds(SECONDS) * RATE) + 1
    piece = samples[begin - PAST : begin + n]
    return Clip(piece, RATE, past=PAST, length=round(SECONDS * RATE))


@pytest.mark.parametrize(
    ("text", "within_ms"),
    [
        ("clean", 0.1),
        ("speed:percent=4", 0.1),
        ("speed:percent=-4", 0.1),
        ("speed:percent=-30..30", 0.1),
        ("tempo:percent=4", 10),
        ("tempo:percent=-4", 10),
        ("pitch:semitones=1", 10),
        ("offset:ms=100..400", 0.1),
        ("crop:percent=60", 0.1),
        ("offset:ms=300+speed:percent=10", 0.1),
        ("speed:percent=10+offset:ms=300", 0.1),
        ("speed:percent=-10+offset:ms=0..500+speed:percent=20+crop:percent=70", 0.1),
        ("crop:percent=50+speed:percent=5+offset:ms=200", 0.1),
        ("offset:ms=250+tempo:percent=-8", 10),
        ("lowpass:hz=2000", 2),
        ("mp3:kbps=64", 3),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_clip_is_where_it_says(text, within_ms, seed):
    (distortion,) = parse(text)
    if reason := distortion.unavailable():
        pytest.skip(reason)
    clip = distortion.apply(cut(distortion, clicking(14.0)), Sounds(), np.random.default_rng(seed))
    body = np.abs(clip.body())
    begin = START_SECONDS + clip.delay_seconds
    expected = (CLICKS - begin) / clip.speed
    margin = 0.06
    inside = expected[(expected > margin) & (expected < len(body) / RATE - margin)]
    assert len(inside) >= 3
    for seconds in inside:
        low = round((seconds - margin) * RATE)
        at = (low + int(body[low : round((seconds + margin) * RATE)].argmax())) / RATE
        assert 1000 * abs(at - seconds) <= within_ms


@given(
    st.lists(st.tuples(st.sampled_from(["speed", "offset", "crop"]), st.floats(0, 1)), max_size=4)
)
def test_there_is_enough_of_the_source(steps):
    words = {
        "speed": lambda x: f"speed:percent={100 * x - 50}",
        "offset": lambda x: f"offset:ms={500 * x}",
        "crop": lambda x: f"crop:percent={1 + 99 * x}",
    }
    text = "+".join(words[name](float(f"{x:.3f}")) for name, x in steps) or "clean"
    (distortion,) = parse(text)
    clip = distortion.apply(cut(distortion, clicking(60.0)), Sounds(), np.random.default_rng(0))
    assert len(clip.body()) == clip.length
    cropped = any(name == "crop" for name, _ in steps)
    assert clip.length <= round(SECONDS * RATE) if cropped else clip.length == SECONDS * RATE


def residue(text, seed):
    """What a distortion adds to a clip, at a power of one."""
    (distortion,) = parse(text)
    samples = music(3.0, sample_rate=RATE)
    clip = Clip(samples, RATE, past=RATE, length=RATE)
    added = distortion.apply(clip, Sounds(), np.random.default_rng(seed)).body() - clip.body()
    return added / np.sqrt(np.mean(added**2))


@pytest.mark.parametrize("name", ["white", "pink", "noise"])
def test_severities_share_their_chance(name):
    mild, strong = residue(f"{name}:snr=10", 4), residue(f"{name}:snr=-5", 4)
    np.testing.assert_allclose(mild, strong, atol=1e-3)
    other = residue(f"{name}:snr=10", 5)
    assert abs(np.mean(mild * other)) < 0.3


def test_a_stretch_that_ends_early_makes_a_shorter_clip():
    clip = Clip(np.ones(100, np.float32), RATE, past=20, length=100)
    assert len(clip.body()) == 80
    assert len(clip.later(1.0).body()) == 0


def test_what_is_drawn_adds_up():
    clip = Clip(np.ones(9, np.float32), RATE, past=0, length=9)
    assert clip.drew("a", 1).drew("b", "x").drawn == {"a": 1, "b": "x"}
    assert clip.drawn == {}
