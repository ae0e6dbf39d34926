"""Codecs: what comes out is in time, resembles what went in, and was really coded."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthesis import music, tone

from afp.distort import bitstream, codec
from afp.errors import UsageError

RATE = 16_000
CASES = [
    ("mp3", 8),
    ("mp3", 32),
    ("mp3", 128),
    ("aac", 16),
    ("aac", 128),
    ("opus", 12),
    ("opus", 64),
    ("vorbis", 40),
    ("gsm", None),
    ("amr", 4.75),
    ("amr", 12.2),
]
IN_PROCESS = [case for case in CASES if case[0] not in {"aac", "amr"}]


def coded(name, samples, kbps, sample_rate=RATE, **more):
    if (reason := codec.unavailable(name)) is not None:
        pytest.skip(f"no {name}: {reason}")
    severity = {} if kbps is None else {"kbps": kbps}
    return getattr(codec, name)(samples, sample_rate=sample_rate, **severity, **more)


def drums(seconds, sample_rate=RATE):
    """Noise that comes and goes, which cannot be mistaken for itself at another time."""
    n = round(seconds * sample_rate)
    rng = np.random.default_rng(3)
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 5 * np.arange(n) / sample_rate)
    return (0.2 * swell * rng.standard_normal(n)).astype(np.float32)


def delay_seconds(before, after, sample_rate):
    """Measure by the cross-correlation between 400 and 3000 Hz, on a grid of 1/16 sample."""
    n_fft = 1 << (2 * len(before)).bit_length()
    cross = np.fft.rfft(after, n_fft) * np.fft.rfft(before, n_fft).conj()
    frequencies = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    cross[(frequencies < 400) | (frequencies > 3000)] = 0
    correlation = np.fft.irfft(cross, 16 * n_fft)
    lag = int(np.argmax(correlation))
    return (lag if lag < 8 * n_fft else lag - 16 * n_fft) / 16 / sample_rate


def snr_db(before, after):
    gain = (before @ after) / (after @ after)
    noise = before - gain * after
    return 10 * np.log10((before @ before) / (noise @ noise))


@pytest.mark.parametrize(("name", "kbps"), CASES)
@pytest.mark.parametrize("seconds", [0.5, 2.00037, 15])
def test_what_comes_out_is_in_time(name, kbps, seconds):
    samples = drums(seconds)
    heard = coded(name, samples, kbps)
    assert heard.shape == samples.shape
    assert heard.dtype == np.float32
    assert abs(delay_seconds(samples, heard, RATE)) < 0.001


@pytest.mark.parametrize(("name", "kbps"), CASES)
@pytest.mark.parametrize("sample_rate", [8000, 11_000, 44_100])
def test_it_is_in_time_at_every_sample_rate(name, kbps, sample_rate):
    samples = drums(1.1, sample_rate)
    heard = coded(name, samples, kbps, sample_rate)
    assert heard.shape == samples.shape
    assert abs(delay_seconds(samples, heard, sample_rate)) < 0.001


@pytest.mark.parametrize(
    ("name", "low_kbps", "high_kbps", "floor_db"),
    [("mp3", 16, 128, 15), ("aac", 16, 128, 14), ("opus", 12, 128, 20), ("vorbis", 8, 128, 25)],
)
def test_high_bit_rates_lose_little(name, low_kbps, high_kbps, floor_db):
    samples = music(3, sample_rate=RATE)
    at_high = snr_db(samples, coded(name, samples, high_kbps))
    assert at_high > floor_db
    assert snr_db(samples, coded(name, samples, low_kbps)) < at_high - 2


def test_telephones_keep_the_voice_band_alone():
    samples = music(3, sample_rate=RATE)
    for name, kbps in (("gsm", None), ("amr", 12.2)):
        if codec.unavailable(name) is None:
            heard = coded(name, samples, kbps)
            spectrum = np.abs(np.fft.rfft(heard)) ** 2
            above = np.fft.rfftfreq(len(heard), 1 / RATE) > 4200
            assert spectrum[above].sum() < 1e-4 * spectrum.sum()
    assert snr_db(samples, coded("gsm", samples, None)) > 5


@pytest.mark.parametrize(
    ("kbps", "sample_rate", "magic"),
    [
        (8, 16_000, 0xFFF3),
        (32, 16_000, 0xFFF3),
        (160, 16_000, 0xFFF3),
        (32, 44_100, 0xFFFB),
        (320, 44_100, 0xFFFB),
        (8, 8000, 0xFFE3),
        (64, 8000, 0xFFE3),
    ],
)
def test_mp3_has_the_version_and_the_bit_rate(kbps, sample_rate, magic):
    """The first frame's header: sync word, MPEG 1, 2 or 2.5, Layer III, no checksum."""
    seconds = 8
    data = bitstream.encode_mp3(
        music(seconds, sample_rate=sample_rate), sample_rate=sample_rate, kbps=kbps
    )
    assert int.from_bytes(data[:2], "big") == magic
    assert 8e-3 * len(data) / seconds == pytest.approx(kbps, rel=0.05)


@pytest.mark.parametrize("kbps", [8, 16, 32, 128])
def test_opus_has_its_head_and_the_bit_rate(kbps):
    data = bitstream.encode_opus(music(6, sample_rate=RATE), sample_rate=RATE, kbps=kbps)
    assert data.startswith(b"OggS")
    assert data[28:36] == b"OpusHead"
    spent = sum(size for is_audio, size in bitstream.ogg_pages(data) if is_audio)
    assert 8e-3 * spent / 6 == pytest.approx(kbps, rel=0.15)


@pytest.mark.parametrize(("seconds", "kbps"), [(1, 32), (6, 24), (6, 32), (6, 45)])
def test_vorbis_has_its_head_and_the_bit_rate(seconds, kbps):
    data = bitstream.encode_vorbis(music(seconds, sample_rate=RATE), sample_rate=RATE, kbps=kbps)
    assert data.startswith(b"OggS")
    assert data[28:35] == b"\x01vorbis"
    spent = sum(size for is_audio, size in bitstream.ogg_pages(data) if is_audio)
    assert 8e-3 * spent / seconds == pytest.approx(kbps, rel=0.1)


@pytest.mark.parametrize("kbps", [16, 32, 64])
def test_aac_has_adts_frames_and_the_bit_rate(kbps):
    if (reason := codec.unavailable("aac")) is not None:
        pytest.skip(f"no aac: {reason}")
    data = bitstream.encode_aac(music(6, sample_rate=RATE), sample_rate=RATE, kbps=kbps)
    at, frames = 0, 0
    while at < len(data):
        assert int.from_bytes(data[at : at + 2], "big") & 0xFFF6 == 0xFFF0
        at += int.from_bytes(data[at + 3 : at + 6], "big") >> 5 & 0x1FFF
        frames += 1
    assert at == len(data)
    assert frames * 1024 >= 6 * RATE + bitstream.AAC_DELAY
    assert 8e-3 * len(data) / 6 == pytest.approx(kbps, rel=0.15)


@pytest.mark.parametrize(("kbps", "mode"), [(4.75, 0), (7.4, 4), (12.2, 7)])
def test_amr_has_its_magic_and_the_mode(kbps, mode):
    if (reason := codec.unavailable("amr")) is not None:
        pytest.skip(f"no amr: {reason}")
    data = bitstream.encode_amr(music(1), kbps=kbps)
    assert data.startswith(b"#!AMR\n")
    assert data[6] >> 3 & 15 == mode


def test_gsm_has_33_bytes_in_20_milliseconds():
    data = bitstream.encode_gsm(music(2))
    assert data[:4] == b"RIFF"
    assert data[20:22] == b"\x31\0"  # WAVE_FORMAT_GSM610
    assert len(data) - data.index(b"data") - 8 == 100 // 2 * 65


def test_bit_errors_strike_the_share_that_is_asked_for():
    clean = bitstream.encode_gsm(music(4))
    struck = bitstream.gsm_with_errors(clean, 0.1, np.random.default_rng(1))
    start = clean.index(b"data") + 8
    assert struck[:start] == clean[:start]
    assert len(struck) == len(clean)
    flipped = np.frombuffer(struck, np.uint8) ^ np.frombuffer(clean, np.uint8)
    assert np.unpackbits(flipped[start:]).mean() == pytest.approx(0.1, rel=0.05)


def test_bit_errors_are_heard_and_drawn_from_the_generator():
    samples = music(3, sample_rate=RATE)
    clean = coded("gsm", samples, None)

    def heard(error_rate, seed=1):
        rng = np.random.default_rng(seed)
        return coded("gsm", samples, None, error_rate=error_rate, rng=rng)

    np.testing.assert_array_equal(heard(0.0), clean)
    np.testing.assert_array_equal(heard(0.02), heard(0.02))
    assert np.any(heard(0.02) != heard(0.02, seed=2))
    assert snr_db(clean, heard(0.002)) > snr_db(clean, heard(0.05)) + 3
    assert np.all(np.isfinite(heard(1.0)))


@pytest.mark.parametrize(("name", "kbps"), CASES)
def test_input_is_left_alone_and_twice_gives_the_same(name, kbps):
    samples = music(0.7, sample_rate=RATE)
    samples.flags.writeable = False
    before = samples.copy()
    np.testing.assert_array_equal(coded(name, samples, kbps), coded(name, samples, kbps))
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize(("name", "kbps"), [("mp3", 128), ("opus", 64), ("gsm", None)])
def test_loud_clips_do_not_overload(name, kbps):
    loud = 8 * tone(1, 440, RATE)
    heard = coded(name, loud, kbps)[RATE // 10 : -RATE // 10]
    assert np.abs(heard).max() == pytest.approx(0.95, abs=0.06)
    assert snr_db(loud[RATE // 10 : -RATE // 10], heard) > 15


@given(
    case=st.sampled_from(IN_PROCESS),
    n=st.integers(0, 3000),
    sample_rate=st.sampled_from([8000, 11_025, 16_000, 44_100]),
)
@settings(max_examples=40)
def test_any_length_comes_back(case, n, sample_rate):
    name, kbps = case
    heard = coded(name, drums(1, sample_rate)[:n], kbps, sample_rate)
    assert heard.shape == (n,)
    assert heard.dtype == np.float32
    assert np.all(np.isfinite(heard))


@pytest.mark.parametrize(("name", "kbps"), [("aac", 32), ("amr", 12.2)])
@pytest.mark.parametrize("n", [0, 1, 2, 161])
def test_ffmpeg_takes_short_clips(name, kbps, n):
    assert coded(name, drums(1)[:n], kbps).shape == (n,)


@pytest.mark.parametrize(("name", "kbps"), IN_PROCESS)
def test_silence_stays_nearly_silent(name, kbps):
    assert np.abs(coded(name, np.zeros(RATE, np.float32), kbps)).max() < 0.01


@pytest.mark.parametrize(
    ("name", "kbps", "message", "choices"),
    [
        ("mp3", 50, "MP3 has no bit rate of 50 kbit/s", "48, 56, 64"),
        ("mp3", 512, "MP3 has no bit rate of 512 kbit/s", "320"),
        ("amr", 13, "AMR has no bit rate of 13 kbit/s", "10.2, 12.2"),
        ("aac", 500, "AAC cannot be made at 500 kbit/s", "8 to 192"),
        ("opus", 1, "Opus cannot be made at 1 kbit/s", "6 to 256"),
        ("vorbis", 0, "Vorbis cannot be made at 0 kbit/s", "8 to 500"),
    ],
)
def test_wrong_bit_rates_are_refused_with_the_right_ones(name, kbps, message, choices):
    with pytest.raises(UsageError, match=message) as refusal:
        getattr(codec, name)(drums(0.1), sample_rate=RATE, kbps=kbps)
    assert choices in refusal.value.hint


def test_wrong_errors_are_refused():
    with pytest.raises(UsageError, match=r"1\.5 is no share of the bits of GSM"):
        codec.gsm(drums(0.1), sample_rate=RATE, error_rate=1.5, rng=np.random.default_rng(0))
    with pytest.raises(UsageError, match="needs a random generator"):
        codec.gsm(drums(0.1), sample_rate=RATE, error_rate=0.1)


@pytest.fixture
def only_ffmpeg(tmp_path, monkeypatch):
    """Put a program in the place of ffmpeg, or none."""

    def install(script=None):
        if script is not None:
            program = tmp_path / "ffmpeg"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        codec.unavailable.cache_clear()

    yield install
    codec.unavailable.cache_clear()


def test_a_missing_ffmpeg_is_named(only_ffmpeg):
    only_ffmpeg()
    assert codec.unavailable("aac") == "ffmpeg is not on the PATH"
    with pytest.raises(UsageError, match=r"aac cannot be used: ffmpeg is not on the PATH") as error:
        codec.aac(drums(0.1), sample_rate=RATE, kbps=32)
    assert error.value.hint == "install the ffmpeg program, or leave it out"
    assert codec.unavailable("mp3") is None


def test_a_missing_encoder_is_named(only_ffmpeg):
    only_ffmpeg("echo ' A....D aac  AAC (Advanced Audio Coding)'")
    assert codec.unavailable("aac") is None
    assert codec.unavailable("amr") == "this ffmpeg has no AMR encoder (libopencore_amrnb)"
    with pytest.raises(UsageError, match="amr cannot be used: this ffmpeg has no AMR") as error:
        codec.amr(drums(0.1), sample_rate=RATE, kbps=12.2)
    assert "with libopencore_amrnb" in error.value.hint


def test_a_failing_ffmpeg_is_quoted(only_ffmpeg):
    only_ffmpeg('case "$*" in *-encoders) echo aac;; *) echo "no more disk" >&2; exit 3;; esac')
    with pytest.raises(UsageError, match="ffmpeg failed to code a clip: no more disk"):
        codec.aac(drums(0.1), sample_rate=RATE, kbps=32)


def test_every_codec_can_say_whether_it_is_available():
    public = [
        name
        for name, function in inspect.getmembers(codec, inspect.isfunction)
        if "kbps" in inspect.signature(function).parameters and not name.startswith("_")
    ]
    assert sorted([*public, "gsm"]) == ["aac", "amr", "gsm", "mp3", "opus", "vorbis"]
    for name in (*public, "gsm"):
        assert codec.unavailable(name) is None or name in {"aac", "amr"}
