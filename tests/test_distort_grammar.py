"""Distortions in words: what they mean, what they refuse, what they do to a clip."""

import pickle
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music

from afp.distort import CHAINS, FAMILIES, Clip, Recordings, Sounds, parse
from afp.distort.families import Severity
from afp.distort.grammar import Range
from afp.errors import UsageError

RATE = 8000
PAST, LENGTH = RATE // 2, RATE
EVERY = [*FAMILIES, *CHAINS]


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A recording of each kind."""
    path = tmp_path_factory.mktemp("sounds") / "samples"
    samples = music(3.0, seed=5)
    samples.tofile(path)
    recorded = Recordings(path, ("one.wav",), (0, len(samples)))
    room = Recordings(path, ("room.wav",), (0, 400))
    return Sounds(noise=recorded, rooms=room, speech=recorded)


def clip(distortion):
    n = PAST + round(distortion.reach_seconds(LENGTH / RATE) * RATE) + 1
    return Clip(music(n / RATE, seed=1)[:n], RATE, past=PAST, length=LENGTH)


@pytest.mark.parametrize("name", EVERY)
def test_every_name_means_something(name):
    distortions = parse(name)
    assert {d.name for d in distortions} == {name}
    defaults = [s.default.split(",") for s in FAMILIES[name].severities] if name in FAMILIES else []
    assert len(distortions) == reduce(lambda n, values: n * len(values), defaults, 1)
    assert len({d.condition for d in distortions}) == len(distortions)


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_what_it_stands_for(name):
    ((short,), (long,)) = parse(name), parse(CHAINS[name])
    assert short.steps == long.steps
    assert short.condition == name != long.condition


def numbers(severity: Severity):
    return st.floats(severity.low, severity.high)


def numbers_of(severity):
    return st.sampled_from(severity.only) if severity.only else numbers(severity)


@st.composite
def values(draw, severity):
    if draw(st.booleans()):
        return repr(draw(numbers_of(severity)))
    low, high = sorted((draw(numbers_of(severity)), draw(numbers_of(severity))))
    return f"{low!r}..{high!r}"


@st.composite
def steps(draw):
    family = FAMILIES[draw(st.sampled_from(list(FAMILIES)))]
    given_ = [s for s in family.severities if draw(st.booleans())]
    words = (
        f"{s.name}={','.join(draw(st.lists(values(s), min_size=1, max_size=2)))}" for s in given_
    )
    return ":".join(filter(None, (family.name, ",".join(words))))


@given(st.lists(steps(), min_size=1, max_size=3).map("+".join).filter(lambda t: "e+" not in t))
def test_a_condition_says_the_same_again(text):
    distortions = parse(text)
    for distortion in distortions:
        assert parse(distortion.condition) == [distortion]
        assert pickle.loads(pickle.dumps(distortion)) == distortion
        n_values = sum(len(step.values) for step in distortion.steps)
        assert len(dict(distortion.severity)) == n_values


def test_lists_multiply_and_blanks_do_not_count():
    found = [d.condition for d in parse(" echo:ms=50,100, percent = 10..20 + white:snr=-0,5 ")]
    assert found == [
        "echo:ms=50,percent=10..20+white:snr=0",
        "echo:ms=50,percent=10..20+white:snr=5",
        "echo:ms=100,percent=10..20+white:snr=0",
        "echo:ms=100,percent=10..20+white:snr=5",
    ]


def test_severities_are_named_by_their_family_in_chains():
    (distortion,) = parse("white:snr=1+pink:snr=0..2+white:snr=3")
    assert distortion.name == "white+pink+white"
    assert distortion.severity == (("white1.snr", 1), ("pink.snr", "0..2"), ("white2.snr", 3))
    (alone,) = parse("white:snr=1")
    assert alone.severity == (("snr", 1),)


def test_defaults():
    (distortion,) = parse("echo")
    assert distortion.severity == (("ms", 100), ("percent", 50))
    (half,) = parse("echo:percent=10")
    assert half.severity == (("ms", 100), ("percent", 10))


@pytest.mark.parametrize("name", ["nois", "", "noise ;", "white+", "+white"])
def test_an_unknown_name(name):
    with pytest.raises(UsageError, match="there is no distortion") as caught:
        parse(name)
    assert all(known in caught.value.hint for known in EVERY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise:sn=5", "no severity 'sn'; noise has snr"),
        ("noise:5", "'5' belongs to no severity; noise has snr"),
        ("clean:snr=5", "no severity 'snr'; clean has none"),
        ("echo:ms=5,decay=3", "no severity 'decay'; echo has ms, percent"),
        ("noise:snr=loud", "snr='loud' is no number"),
        ("noise:snr=", "snr='' is no number"),
        ("noise:snr=1,", "snr='' is no number"),
        ("noise:snr=0..", "snr='0..' is no number"),
        ("noise:snr=..5", r"snr='\.\.5' is no number"),
        ("noise:snr=nan", "snr=nan is not within -60 to 100 dB"),
        ("noise:snr=inf", "snr=inf is not within"),
        ("noise:snr=0..101", "snr=101 is not within"),
        ("gsm:errors=-1", "errors=-1 is not within 0 to 50 %"),
        ("noise:snr=5..0", r"the range '5\.\.0' ends before it begins"),
        ("room+phone", "the chain 'phone' stands alone"),
        ("phone:snr=5", "the chain 'phone' stands alone, without severities"),
    ],
)
def test_what_there_is_not(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EVERY)
def test_a_distortion_follows_from_the_seed_and_leaves_its_input_as_it_is(name, sounds):
    distortion = parse(name)[0]
    if reason := distortion.unavailable():
        pytest.skip(reason)
    before = clip(distortion)
    copy = before.samples.copy()
    after = distortion.apply(before, sounds, generator(3))
    assert np.array_equal(before.samples, copy)
    assert (before.past, before.length, before.drawn) == (PAST, LENGTH, {})
    body = after.body()
    assert (body.dtype, body.ndim) == (np.float32, 1)
    assert len(body) == (LENGTH // 2 if name == "crop" else LENGTH)
    assert np.isfinite(body).all()
    assert body.any()
    again = distortion.apply(before, sounds, generator(3))
    assert np.array_equal(body, again.body())
    assert after.drawn == again.drawn
    if name != "clean":
        same = np.array_equal(body, before.body())
        assert not same


@given(seed=st.integers(0, 2**32 - 1), low=st.floats(-10, 10), width=st.floats(0, 20))
def test_ranges_are_drawn_from_and_noted(seed, low, width):
    high = low + width
    (distortion,) = parse(f"white:snr={low!r}..{high!r}+speed:percent=-2..2")
    value = distortion.steps[0].values[0][1]
    assert value == Range(low, high)
    source = Clip(music(0.1), RATE, past=0, length=100)
    after = distortion.apply(source, Sounds(), generator(seed))
    assert low - 1e-4 <= after.drawn["white.snr"] <= high + 1e-4
    assert -2 <= after.drawn["speed.percent"] <= 2
    assert after.speed == pytest.approx(1 + after.drawn["speed.percent"] / 100, abs=1e-6)


def test_a_range_covers_its_span():
    (distortion,) = parse("white:snr=0..10")
    source = Clip(music(0.01), RATE, past=0, length=10)
    rng = generator()
    drawn = [distortion.apply(source, Sounds(), rng).drawn["snr"] for _ in range(400)]
    counts, _ = np.histogram(drawn, bins=4, range=(0, 10))
    assert counts.min() > 60


@pytest.mark.parametrize(
    ("text", "seconds", "reach"),
    [
        ("clean", 5, 5),
        ("speed:percent=4", 5, 5.2),
        ("speed:percent=-4", 5, 5),
        ("tempo:percent=-2..10", 5, 5.5),
        ("offset:ms=100..500", 5, 5.5),
        ("speed:percent=100+offset:ms=500+speed:percent=-50", 5, 6),
        ("offset:ms=500+speed:percent=100", 5, 10.5),
        ("offset:ms=500+offset:ms=250", 5, 5.75),
    ],
)
def test_reach(text, seconds, reach):
    (distortion,) = parse(text)
    assert distortion.reach_seconds(seconds) == pytest.approx(reach)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bandpass:low=4000,high=300", "bandpass:low=4000,high=300: a cut-off at 4000 Hz"),
        ("bandpass:low=300..5000,high=3400", "bandpass:low=300.*: a cut-off at 5000 Hz"),
        ("bandpass:low=300..5000,high=3400..6000", "bandpass:low=300.*: a cut-off at 5000 Hz"),
        ("clean+highpass:hz=9000", "highpass:hz=9000: a cut-off at 9000 Hz"),
        ("babble:snr=0", "babble:snr=0: babble is made of speech"),
    ],
)
def test_what_cannot_be_done_shows_when_it_is_tried_out(text, message):
    (distortion,) = parse(text)
    with pytest.raises(UsageError, match=message):
        distortion.try_out(Sounds(), sample_rate=RATE)


@pytest.mark.parametrize("name", EVERY)
def test_what_can_be_done_can_be_tried_out(name, sounds):
    for distortion in parse(name):
        if reason := distortion.unavailable():
            pytest.skip(reason)
        distortion.try_out(sounds, sample_rate=RATE)
