"""The distortions by name, with their severities: what ``--distort`` takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from afp.distort.clip import Clip
from afp.distort.codec import AMR_KBPS, MP3_KBPS, aac, amr, gsm, mp3, opus, vorbis
from afp.distort.device import loudspeaker, microphone
from afp.distort.dynamics import clip as clipped
from afp.distort.dynamics import compand, compress, gain
from afp.distort.echo import echo
from afp.distort.filters import (
    all_pass,
    alternating,
    band_pass,
    equalise,
    high_pass,
    low_pass,
    telephone,
)
from afp.distort.noise import add, babble, pink, stretch, white
from afp.distort.recordings import Sounds
from afp.distort.room import convolve, response
from afp.distort.time_pitch import pitch, resample, speed, tempo
from afp.errors import UsageError
from afp.fingerprint import F32

Values = Mapping[str, float]
Generator = np.random.Generator

SYNTHETIC_T60 = (0.2, 0.8)  # seconds: rooms where none are recorded
COMPRESSION_THRESHOLD_DB = -30.0
COMPRESSION_ATTACK_SECONDS = 0.005
COMPRESSION_RELEASE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Severity:
    """A number that says how strong a distortion is.

    Attributes
    ----------
    name, unit : str
    default : str
        What is meant where it is not given: a number, several, or a range.
    low, high : float
        Smallest and largest value that makes sense.
    only : tuple of float
        The values that there are, where there are but a few.
    """

    name: str
    unit: str
    default: str
    low: float
    high: float
    only: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of distortion.

    Attributes
    ----------
    name, help : str
    severities : tuple of Severity
    apply : callable
        Takes a clip, a value for each severity, what there is to distort with, and a generator.
    codec : str
        The codec that it needs, if any; see `afp.distort.codec.unavailable`.
    speed : callable
        From values to how many seconds of the source play in a second.
    delay_seconds : callable
        From values to how much later the clip begins, at most.
    """

    name: str
    help: str
    severities: tuple[Severity, ...]
    apply: Callable[[Clip, Values, Sounds, Generator], Clip]
    codec: str = ""
    speed: Callable[[Values], float] = lambda values: 1.0
    delay_seconds: Callable[[Values], float] = lambda values: 0.0


def _noise(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    if sounds.noise is None:
        return _pink(clip, values, sounds, rng).drew("colour", "pink")
    name, recording = sounds.noise.draw(rng)
    piece = stretch(len(clip.samples), [recording], rng, past=clip.past)
    return _mixed(clip, piece, values).drew("file", name)


def _white(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    return _mixed(clip, white(len(clip.samples), rng), values)


def _pink(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    return _mixed(clip, pink(len(clip.samples), rng, sample_rate=clip.sample_rate), values)


def _babble(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    if sounds.speech is None:
        raise UsageError("babble is made of speech", hint="name a folder with --speech DIR")
    speech = [sounds.speech[i] for i in range(len(sounds.speech))]
    return _mixed(clip, babble(len(clip.samples), speech, rng), values)


def _mixed(clip: Clip, piece: F32, values: Values) -> Clip:
    return clip.through(lambda x: add(x, piece, snr_db=values["snr"], past=clip.past))


def _room(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    if sounds.rooms is None:
        t60 = float(rng.uniform(*SYNTHETIC_T60))
        return _reverb(clip, {"t60": t60}, sounds, rng).drew("t60", round(t60, 3))
    name, recorded = sounds.rooms.draw(rng)
    return clip.through(lambda x: convolve(x, recorded)).drew("file", name)


def _reverb(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    made = response(t60=values["t60"], sample_rate=clip.sample_rate, rng=rng)
    return clip.through(lambda x: convolve(x, made))


def _through(function: Callable[..., F32], **severities: str) -> Callable[..., Clip]:
    """Apply a function of samples and sample rate; each severity is one of its arguments."""

    def apply(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
        given = {argument: values[name] for argument, name in severities.items()}
        return clip.through(lambda x: function(x, sample_rate=clip.sample_rate, **given))

    return apply


def _microphone(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    return clip.through(lambda x: microphone(x, sample_rate=clip.sample_rate, rng=rng))


def _loudspeaker(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    return clip.through(
        lambda x: loudspeaker(x, sample_rate=clip.sample_rate, rng=rng, past=clip.past)
    )


def _gsm(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    error_rate = values["errors"] / 100
    return clip.through(
        lambda x: gsm(x, sample_rate=clip.sample_rate, error_rate=error_rate, rng=rng)
    )


def _equaliser(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    gains = alternating(values["db"])
    return clip.through(lambda x: equalise(x, sample_rate=clip.sample_rate, gains_db=gains))


def _compression(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    return clip.through(
        lambda x: compress(
            x,
            sample_rate=clip.sample_rate,
            threshold_db=COMPRESSION_THRESHOLD_DB,
            ratio=values["ratio"],
            attack_seconds=COMPRESSION_ATTACK_SECONDS,
            release_seconds=COMPRESSION_RELEASE_SECONDS,
        )
    )


def _echo(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    delay_seconds, decay = values["ms"] / 1000, values["percent"] / 100
    return clip.through(
        lambda x: echo(x, sample_rate=clip.sample_rate, delay_seconds=delay_seconds, decay=decay)
    )


def _factor(values: Values) -> float:
    return 1 + values["percent"] / 100


def _speed(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    factor = _factor(values)
    return clip.played(lambda x: speed(x, factor=factor), factor)


def _tempo(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    factor = _factor(values)
    return clip.played(lambda x: tempo(x, factor=factor, sample_rate=clip.sample_rate), factor)


def _crop(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    kept = max(1, round(clip.length * values["percent"] / 100))
    skipped = int(rng.integers(clip.length - kept + 1))
    return replace(clip.later(skipped / clip.sample_rate), length=kept)


def _offset(clip: Clip, values: Values, sounds: Sounds, rng: Generator) -> Clip:
    return clip.later(values["ms"] / 1000)


SNR = Severity("snr", "dB", "-5,0,5,10", -60, 100)


def _kbps(*only: float, low: float = 0.0, high: float = 0.0, default: str = "32") -> Severity:
    return Severity("kbps", "kbit/s", default, min(only or (low,)), max(only or (high,)), only)


PERCENT_SPEED = Severity("percent", "%", "-4,-2,2,4", -50, 100)

_ALL = (
    Family("clean", "nothing", (), lambda clip, values, sounds, rng: clip),
    Family("noise", "recorded noise (--noise DIR; pink without)", (SNR,), _noise),
    Family("white", "white noise", (SNR,), _white),
    Family("pink", "pink noise", (SNR,), _pink),
    Family("babble", "several talkers at once (--speech DIR)", (SNR,), _babble),
    Family("room", "recorded room (--ir DIR; synthetic ones without)", (), _room),
    Family(
        "reverb",
        "synthetic room with a reverberation time",
        (Severity("t60", "s", "0.2,0.5,0.8", 0.05, 3.0),),
        _reverb,
    ),
    Family(
        "echo",
        "one echo after another",
        (Severity("ms", "ms", "100", 1, 2000), Severity("percent", "%", "50", 0, 95)),
        _echo,
    ),
    Family("microphone", "small microphone", (), _microphone),
    Family("loudspeaker", "small loudspeaker", (), _loudspeaker),
    Family("mp3", "MP3 and back", (_kbps(*MP3_KBPS),), _through(mp3, kbps="kbps"), codec="mp3"),
    Family(
        "aac", "AAC and back", (_kbps(low=8, high=192),), _through(aac, kbps="kbps"), codec="aac"
    ),
    Family(
        "opus",
        "Opus and back",
        (_kbps(low=6, high=256),),
        _through(opus, kbps="kbps"),
        codec="opus",
    ),
    Family(
        "vorbis",
        "Vorbis and back",
        (_kbps(low=8, high=500),),
        _through(vorbis, kbps="kbps"),
        codec="vorbis",
    ),
    Family(
        "gsm",
        "GSM full rate and back, with bit errors on the way",
        (Severity("errors", "%", "0", 0, 50),),
        _gsm,
        codec="gsm",
    ),
    Family(
        "amr",
        "AMR narrow band and back",
        (_kbps(*AMR_KBPS, default="12.2"),),
        _through(amr, kbps="kbps"),
        codec="amr",
    ),
    Family("telephone", "what a telephone line lets through", (), _through(telephone)),
    Family(
        "bandpass",
        "band-pass filter",
        (Severity("low", "Hz", "300", 1, 20_000), Severity("high", "Hz", "3400", 1, 20_000)),
        _through(band_pass, low_hz="low", high_hz="high"),
    ),
    Family(
        "lowpass",
        "low-pass filter",
        (Severity("hz", "Hz", "1000,2000,4000", 20, 20_000),),
        _through(low_pass, hz="hz"),
    ),
    Family(
        "highpass",
        "high-pass filter",
        (Severity("hz", "Hz", "300,600,1200", 1, 20_000),),
        _through(high_pass, hz="hz"),
    ),
    Family(
        "equaliser",
        "ten octaves, up and down in turn",
        (Severity("db", "dB", "3", -24, 24),),
        _equaliser,
    ),
    Family(
        "allpass",
        "phases turned, magnitudes as they are",
        (),
        lambda clip, values, sounds, rng: clip.through(all_pass),
    ),
    Family(
        "compression",
        "dynamic compression above -30 dB",
        (Severity("ratio", ": 1", "4", 1, 100),),
        _compression,
    ),
    Family(
        "companding",
        "loud parts compressed 8.94 : 1, faint ones expanded 1 : 1.61",
        (),
        _through(compand),
    ),
    Family(
        "clip",
        "clipped so far below the loudest sample",
        (Severity("db", "dB", "6,12,18", 0, 60),),
        lambda clip, values, sounds, rng: clip.through(
            lambda x: clipped(x, db=values["db"], past=clip.past)
        ),
    ),
    Family(
        "gain",
        "fainter",
        (Severity("db", "dB", "-40,-20", -90, 0),),
        lambda clip, values, sounds, rng: clip.through(lambda x: gain(x, db=values["db"])),
    ),
    Family(
        "resample",
        "down to a sample rate and back",
        (Severity("hz", "Hz", "11025", 1000, 192_000),),
        _through(resample, hz="hz"),
    ),
    Family("speed", "played faster, tempo and pitch", (PERCENT_SPEED,), _speed, speed=_factor),
    Family("tempo", "played faster at the same pitch", (PERCENT_SPEED,), _tempo, speed=_factor),
    Family(
        "pitch",
        "higher at the same tempo",
        (Severity("semitones", "semitones", "-1,1", -24, 24),),
        _through(pitch, semitones="semitones"),
    ),
    Family(
        "crop",
        "only a part of the clip",
        (Severity("percent", "%", "50", 1, 100),),
        _crop,
    ),
    Family(
        "offset",
        "begins later",
        (Severity("ms", "ms", "0..500", 0, 10_000),),
        _offset,
        delay_seconds=lambda values: values["ms"] / 1000,
    ),
)
FAMILIES = {family.name: family for family in _ALL}

CHAINS = {
    # A telephone held up to a loudspeaker across the room.
    "phone": "room+noise:snr=0..10+microphone+mp3:kbps=32+telephone",
    # A broadcaster's processing, a turntable or CD player that is a little off, a stream.
    "radio": "compression:ratio=4+speed:percent=-2..2+mp3:kbps=64",
    # The queries of Chang et al., ICASSP 2021.
    "chang": "room+noise:snr=0..10",
}
