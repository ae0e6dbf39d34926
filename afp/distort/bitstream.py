"""Samples to coded bytes and back, at the sample rates and bit rates that the coders know.

MP3, Opus, Vorbis and GSM through libsndfile, in the process; AAC and AMR through the ffmpeg
program. A decoder gives back at least as many samples as were coded, in time with them.
"""

import io
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

from afp.errors import UsageError
from afp.fingerprint import F32

# Samples that are decoded before the first sample that was coded.
MP3_DELAY = 528 + 1 + 576  # decoder and encoder, where no LAME tag tells the decoder
AAC_DELAY = 1024  # one frame: that of ffmpeg's encoder; ADTS has no place to tell it
AMR_DELAY = 40  # 5 ms of look-ahead, 3GPP TS 26.090

_AAC_FRAME = 1024
_GSM_BLOCK = 65  # bytes, of two frames, in which each bit counts
OPUS_KBPS = (6.0, 256.0)  # what libsndfile maps its compression levels to
_VORBIS_ENCODINGS = 6  # at most, in search of a quality
_VORBIS_TOLERANCE = 0.03


def encode_mp3(samples: F32, *, sample_rate: int, kbps: float) -> bytes:
    """Encode at a constant bit rate; the rates must be some that MPEG knows together."""
    # libsndfile spreads the bit rates over its compression levels, and then cuts off the fraction.
    lowest, highest = (32, 320) if sample_rate >= 32_000 else (8, 160)
    if sample_rate < 16_000:
        highest = 64
    level = max((highest - kbps - 0.5) / (highest - lowest), 0.0)
    return _encode(samples, sample_rate, "MP3", "MPEG_LAYER_III", level, mode="CONSTANT")


def decode_mp3(coded: bytes, n: int) -> F32:
    """Decode n samples.

    Below some bit rate, a frame has no room for the LAME tag, which tells the decoder the delay
    and the length: then both are still in what it gives back.
    """
    samples = _decode(coded)
    return samples if len(samples) == n else samples[MP3_DELAY : MP3_DELAY + n]


def encode_opus(samples: F32, *, sample_rate: int, kbps: float) -> bytes:
    """Encode at a bit rate on average, in an Ogg file; at 8, 12, 16, 24 or 48 kHz."""
    lowest, highest = OPUS_KBPS
    return _encode(samples, sample_rate, "OGG", "OPUS", (highest - kbps) / (highest - lowest))


def encode_vorbis(samples: F32, *, sample_rate: int, kbps: float) -> bytes:
    """Encode in an Ogg file, at the quality that comes nearest to a bit rate.

    Vorbis codes at a constant quality; which one spends so many bits is found by trial.
    """
    wanted = 125.0 * kbps * len(samples) / sample_rate
    best, worst = 0.0, 1.0  # compression levels
    attempts = []
    for _ in range(_VORBIS_ENCODINGS):
        level = (best + worst) / 2
        coded = _encode(samples, sample_rate, "OGG", "VORBIS", level)
        spent = sum(size for is_audio, size in ogg_pages(coded) if is_audio)
        attempts.append((abs(spent - wanted), coded))
        if abs(spent - wanted) <= _VORBIS_TOLERANCE * wanted:
            break
        best, worst = (level, worst) if spent > wanted else (best, level)
    return min(attempts)[1]


def decode_ogg(coded: bytes, n: int) -> F32:
    """Decode n samples of Opus or Vorbis, whose container knows delay and length."""
    return _decode(coded)[:n]


def ogg_pages(coded: bytes) -> Iterator[tuple[bool, int]]:
    """Yield for each page of an Ogg file whether it holds audio, and the bytes that it holds."""
    at = 0
    while at < len(coded):
        granule, n_segments = struct.unpack_from("<q12xB", coded, at + 6)
        at += 27 + n_segments
        size = sum(coded[at - n_segments : at])
        yield granule != 0, size  # the codec's own headers end at sample 0
        at += size


def encode_gsm(samples: F32) -> bytes:
    """Encode samples at 8 kHz as GSM 06.10 full rate, in a WAV file."""
    return _encode(samples, 8000, "WAV", "GSM610")


def gsm_with_errors(coded: bytes, error_rate: float, rng: np.random.Generator) -> bytes:
    """Flip this share of the coded bits at random."""
    start = coded.index(b"data") + 8
    (size,) = struct.unpack_from("<I", coded, start - 4)
    size -= size % _GSM_BLOCK
    payload = np.frombuffer(coded, np.uint8, size, start)
    flipped = np.packbits(rng.random(8 * size) < error_rate)
    return coded[:start] + (payload ^ flipped).tobytes() + coded[start + size :]


def decode_gsm(coded: bytes, n: int) -> F32:
    """Decode n samples at 8 kHz."""
    return _decode(coded)[:n]


def encode_aac(samples: F32, *, sample_rate: int, kbps: float) -> bytes:
    """Encode as AAC-LC at a bit rate on average, in an ADTS stream."""
    return _encode_by_ffmpeg(samples, sample_rate, kbps, encoder="aac", container="adts")


def decode_aac(coded: bytes, n: int) -> F32:
    """Decode n samples of an ADTS stream."""
    return _decode_by_ffmpeg(coded, "aac")[AAC_DELAY : AAC_DELAY + n]


def encode_amr(samples: F32, *, kbps: float) -> bytes:
    """Encode samples at 8 kHz as AMR narrowband, in one of its modes."""
    return _encode_by_ffmpeg(samples, 8000, kbps, encoder="libopencore_amrnb", container="amr")


def decode_amr(coded: bytes, n: int) -> F32:
    """Decode n samples at 8 kHz."""
    return _decode_by_ffmpeg(coded, "amr")[AMR_DELAY : AMR_DELAY + n]


def _encode(
    samples: F32,
    sample_rate: int,
    container: str,
    subtype: str,
    level: float | None = None,
    *,
    mode: str | None = None,
) -> bytes:
    coded = io.BytesIO()
    with soundfile.SoundFile(
        coded,
        "w",
        sample_rate,
        1,
        format=container,
        subtype=subtype,
        compression_level=level,
        bitrate_mode=mode,
    ) as file:
        file.write(samples)
    return coded.getvalue()


def _decode(coded: bytes) -> F32:
    samples: F32
    samples, _ = soundfile.read(io.BytesIO(coded), dtype="float32")
    return samples


def _encode_by_ffmpeg(
    samples: F32, sample_rate: int, kbps: float, *, encoder: str, container: str
) -> bytes:
    raw = ("-f", "f32le", "-ar", str(sample_rate), "-ac", "1", "-i", "pipe:0")
    coding = ("-c:a", encoder, "-b:a", str(round(1000 * kbps)), "-f", container)
    return _ffmpeg((*raw, *coding), samples.astype("<f4", copy=False).tobytes())


def _decode_by_ffmpeg(coded: bytes, container: str) -> F32:
    arguments = ("-f", container, "-i", "pipe:0", "-c:a", "pcm_f32le", "-f", "f32le")
    return np.frombuffer(_ffmpeg(arguments, coded), "<f4").astype(np.float32)


def _ffmpeg(arguments: tuple[str, ...], data: bytes) -> bytes:
    import subprocess

    done = subprocess.run(
        ("ffmpeg", "-nostdin", "-v", "error", "-threads", "1", *arguments, "pipe:1"),
        input=data,
        capture_output=True,
        check=False,
        process_group=0,  # Ctrl-C is for afp, which may want to finish this clip
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").split("\n")[0].strip()
        raise UsageError(
            f"ffmpeg failed to code a clip: {said or f'status {done.returncode}'}",
            hint="see whether `ffmpeg -codecs` names the codec; another ffmpeg may do better",
        )
    return done.stdout
