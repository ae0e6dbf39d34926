"""Lossy codecs: what is lost when music is encoded, and decoded again.

Each function returns as many samples as it gets, at the same sample rate and in time with them.
Where a codec does not know the sample rate, or not at the bit rate, the samples are coded at the
nearest sample rate that it knows, as its own programs would. Clips that peak above 0.95 are
turned down first, so that the codec does not overload.
"""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import soundfile
import soxr

from afp.distort import bitstream
from afp.errors import UsageError
from afp.fingerprint import F32

_PEAK = 0.95
_SHORTEST_SECONDS = 0.05  # what is shorter is coded with silence after it
_TELEPHONE_RATE = 8000  # Hz

_MP3_KBPS: dict[tuple[int, ...], tuple[int, ...]] = {  # by sample rates; ISO 11172-3, 13818-3
    (32_000, 44_100, 48_000): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (16_000, 22_050, 24_000): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (8_000, 11_025, 12_000): (8, 16, 24, 32, 40, 48, 56, 64),
}
MP3_KBPS = tuple(sorted({float(kbps) for known in _MP3_KBPS.values() for kbps in known}))
_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_AAC_KBPS = (8.0, 192.0)
_AAC_BITS_PER_SAMPLE = (0.5, 4.0)  # for one channel; AAC-LC allows 6, which encoders do not use
_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # RFC 6716
_VORBIS_RATES = (8_000, 192_000)  # from, to
_VORBIS_KBPS = (8.0, 500.0)
AMR_KBPS = (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)  # 3GPP TS 26.071

_IN_LIBSNDFILE = {
    "mp3": ("MP3", "MPEG_LAYER_III", "MP3"),
    "opus": ("OGG", "OPUS", "Opus"),
    "vorbis": ("OGG", "VORBIS", "Vorbis"),
    "gsm": ("WAV", "GSM610", "GSM"),
}
_IN_FFMPEG = {"aac": ("aac", "AAC"), "amr": ("libopencore_amrnb", "AMR")}


@cache
def unavailable(name: str) -> str | None:
    """Return why a codec cannot be used on this machine.

    Parameters
    ----------
    name : str
        Of a function of this module, such as ``aac``.

    Returns
    -------
    str or None
        A clause, such as ``ffmpeg is not on the PATH``; None when the codec can be used.
    """
    if name in _IN_LIBSNDFILE:
        container, subtype, title = _IN_LIBSNDFILE[name]
        known = soundfile.check_format(container, subtype)
        return None if known else f"this libsndfile has no {title} encoder"
    import subprocess

    encoder, title = _IN_FFMPEG[name]
    try:
        listed = subprocess.run(
            ("ffmpeg", "-nostdin", "-hide_banner", "-encoders"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        return "ffmpeg is not on the PATH"
    except OSError as error:
        return f"ffmpeg cannot be run ({error.strerror})"
    if encoder.encode() in listed.stdout.split():
        return None
    return f"this ffmpeg has no {title} encoder ({encoder})"


def mp3(samples: F32, *, sample_rate: int, kbps: float) -> F32:
    """Encode as MP3 at a constant bit rate (LAME), and decode.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    sample_rate : int
        In Hz.
    kbps : float
        One of MP3's bit rates, from 8 to 320 kbit/s, for one channel.

    Returns
    -------
    ndarray of float32, shape (n,)
        What is heard.

    Raises
    ------
    UsageError
        When MP3 has no such bit rate.
    """
    rates = [rate for rates, known in _MP3_KBPS.items() if kbps in known for rate in rates]
    if not rates:
        raise _no_such_rate("MP3", kbps, MP3_KBPS)
    rate = _nearest(rates, sample_rate)

    def code(samples: F32) -> F32:
        coded = bitstream.encode_mp3(samples, sample_rate=rate, kbps=kbps)
        return bitstream.decode_mp3(coded, len(samples))

    return _round_trip("mp3", samples, sample_rate, rate, code)


def aac(samples: F32, *, sample_rate: int, kbps: float) -> F32:
    """Encode as AAC-LC at a bit rate on average (ffmpeg), and decode.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    sample_rate : int
        In Hz.
    kbps : float
        Bit rate from 8 to 192 kbit/s, for one channel.

    Returns
    -------
    ndarray of float32, shape (n,)
        What is heard.

    Raises
    ------
    UsageError
        When the bit rate is out of range, or there is no ffmpeg.
    """
    _check_range("AAC", kbps, _AAC_KBPS)
    fewest, most = _AAC_BITS_PER_SAMPLE
    rate = _nearest([r for r in _AAC_RATES if fewest * r <= 1000 * kbps <= most * r], sample_rate)

    def code(samples: F32) -> F32:
        coded = bitstream.encode_aac(samples, sample_rate=rate, kbps=kbps)
        return bitstream.decode_aac(coded, len(samples))

    return _round_trip("aac", samples, sample_rate, rate, code)


def opus(samples: F32, *, sample_rate: int, kbps: float) -> F32:
    """Encode as Opus at a bit rate on average (libopus), and decode.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    sample_rate : int
        In Hz.
    kbps : float
        Bit rate from 6 to 256 kbit/s, for one channel.

    Returns
    -------
    ndarray of float32, shape (n,)
        What is heard.

    Raises
    ------
    UsageError
        When the bit rate is out of range.
    """
    _check_range("Opus", kbps, bitstream.OPUS_KBPS)
    rate = _nearest(_OPUS_RATES, sample_rate)

    def code(samples: F32) -> F32:
        coded = bitstream.encode_opus(samples, sample_rate=rate, kbps=kbps)
        return bitstream.decode_ogg(coded, len(samples))

    return _round_trip("opus", samples, sample_rate, rate, code)


def vorbis(samples: F32, *, sample_rate: int, kbps: float) -> F32:
    """Encode as Vorbis at the constant quality that spends a bit rate (libvorbis), and decode.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    sample_rate : int
        In Hz.
    kbps : float
        Bit rate from 8 to 500 kbit/s, for one channel. Where even the best quality spends
        less on a clip, or the lowest more, that quality is taken.

    Returns
    -------
    ndarray of float32, shape (n,)
        What is heard.

    Raises
    ------
    UsageError
        When the bit rate is out of range.
    """
    _check_range("Vorbis", kbps, _VORBIS_KBPS)
    lowest, highest = _VORBIS_RATES
    rate = min(max(sample_rate, lowest), highest)

    def code(samples: F32) -> F32:
        coded = bitstream.encode_vorbis(samples, sample_rate=rate, kbps=kbps)
        return bitstream.decode_ogg(coded, len(samples))

    return _round_trip("vorbis", samples, sample_rate, rate, code)


def gsm(
    samples: F32,
    *,
    sample_rate: int,
    error_rate: float = 0.0,
    rng: np.random.Generator | None = None,
) -> F32:
    """Telephone: GSM 06.10 full rate (13 kbit/s at 8 kHz; libgsm), over a link with bit errors.

    The errors strike all coded bits alike. A real link protects some better than others and
    conceals frames that are lost, so that it sounds better at the same share of errors. Haitsma
    and Kalker ("A highly robust audio fingerprinting system", ISMIR 2002) test GSM over a link
    of 4 dB of carrier to interference.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    sample_rate : int
        In Hz.
    error_rate : float
        Share of the coded bits that arrive wrong, from 0 to 1.
    rng : numpy.random.Generator, optional
        Says which, where the share is above 0.

    Returns
    -------
    ndarray of float32, shape (n,)
        What is heard.

    Raises
    ------
    UsageError
        When the share is out of range, or there are to be errors and no generator.
    """
    if not 0 <= error_rate <= 1:
        raise UsageError(
            f"{error_rate:g} is no share of the bits of GSM", hint="give one from 0 to 1"
        )
    if error_rate and rng is None:
        raise UsageError("GSM with bit errors needs a random generator", hint="pass it as rng")

    def code(samples: F32) -> F32:
        coded = bitstream.encode_gsm(samples)
        if error_rate and rng is not None:
            coded = bitstream.gsm_with_errors(coded, error_rate, rng)
        return bitstream.decode_gsm(coded, len(samples))

    return _round_trip("gsm", samples, sample_rate, _TELEPHONE_RATE, code)


def amr(samples: F32, *, sample_rate: int, kbps: float) -> F32:
    """Mobile telephone: encode as AMR narrowband (8 kHz; ffmpeg, OpenCORE), and decode.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Mono samples.
    sample_rate : int
        In Hz.
    kbps : float
        One of 4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2 and 12.2 kbit/s.

    Returns
    -------
    ndarray of float32, shape (n,)
        What is heard.

    Raises
    ------
    UsageError
        When AMR has no such bit rate, or there is no ffmpeg that can encode it.
    """
    if kbps not in AMR_KBPS:
        raise _no_such_rate("AMR", kbps, AMR_KBPS)

    def code(samples: F32) -> F32:
        coded = bitstream.encode_amr(samples, kbps=kbps)
        return bitstream.decode_amr(coded, len(samples))

    return _round_trip("amr", samples, sample_rate, _TELEPHONE_RATE, code)


def _round_trip(
    name: str, samples: F32, rate: int, coding_rate: int, code: Callable[[F32], F32]
) -> F32:
    """Take the samples to the rate that they are coded at, code them, and take them back."""
    reason = unavailable(name)
    if reason is not None:
        needed = f" with {_IN_FFMPEG[name][0]}" if "encoder" in reason else ""
        program = "the ffmpeg program" if name in _IN_FFMPEG else "a newer libsndfile"
        raise UsageError(
            f"{name} cannot be used: {reason}", hint=f"install {program}{needed}, or leave it out"
        )
    heard = np.zeros(len(samples), np.float32)
    if not len(samples):
        return heard
    there = samples if rate == coding_rate else soxr.resample(samples, rate, coding_rate)
    there = np.pad(there, (0, max(round(_SHORTEST_SECONDS * coding_rate) - len(there), 0)))
    peak = float(np.abs(there).max())
    decoded = code(there * np.float32(_PEAK / peak) if peak > _PEAK else there)
    back = decoded if rate == coding_rate else soxr.resample(decoded, coding_rate, rate)
    back = back[: len(heard)]
    heard[: len(back)] = back
    return heard


def _nearest(rates: Iterable[int], sample_rate: int) -> int:
    """Return the lowest sample rate that loses nothing, or else the highest."""
    enough = [rate for rate in rates if rate >= sample_rate]
    return min(enough, default=0) or max(rates)


def _check_range(title: str, kbps: float, limits: tuple[float, float]) -> None:
    lowest, highest = limits
    if not lowest <= kbps <= highest:
        raise UsageError(
            f"{title} cannot be made at {kbps:g} kbit/s",
            hint=f"choose from {lowest:g} to {highest:g} kbit/s",
        )


def _no_such_rate(title: str, kbps: float, known: Iterable[float]) -> UsageError:
    choices = ", ".join(f"{rate:g}" for rate in known)
    return UsageError(
        f"{title} has no bit rate of {kbps:g} kbit/s", hint=f"choose one of {choices}"
    )
