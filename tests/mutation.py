"""Files that no decoder was made for: small recordings of many kinds, damaged by chance.

The same number gives the same file, as long as the encoders are the same.
"""

import io
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from afp.synthesis import song

RATE = 8_000
HEADER_BYTES = 128

WRITTEN = (
    # Extension, container, encoding, channels.
    ("wav", "WAV", "PCM_16", 2),
    ("wav", "WAV", "FLOAT", 1),
    ("wav", "WAV", "IMA_ADPCM", 1),
    ("wav", "WAV", "GSM610", 1),
    ("wav", "WAVEX", "PCM_24", 6),
    ("w64", "W64", "PCM_16", 1),
    ("rf64", "RF64", "PCM_16", 1),
    ("flac", "FLAC", "PCM_16", 2),
    ("ogg", "OGG", "VORBIS", 2),
    ("opus", "OGG", "OPUS", 1),
    ("mp3", "MP3", "MPEG_LAYER_III", 1),
    ("aiff", "AIFF", "PCM_16", 1),
    ("au", "AU", "ULAW", 1),
    ("caf", "CAF", "ALAC_16", 2),
    ("voc", "VOC", "PCM_16", 1),
    ("nist", "NIST", "PCM_16", 1),
)
CONVERTED = (
    # Extension, encoder of ffmpeg.
    ("m4a", "aac"),
    ("mka", "libopus"),
    ("wma", "wmav2"),
    ("wv", "wavpack"),
    ("ac3", "ac3"),
    ("aac", "aac"),
)

# What reads as a length, a count or a rate, and is none that a header should have.
_ABSURD = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 768_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def written(
    samples: np.ndarray, rate: int, container: str = "WAV", encoding: str = "PCM_16"
) -> bytes:
    """Return the file that libsndfile makes of samples (n,) or (n, channels)."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, encoding, format=container)
    return file.getvalue()


@cache
def originals() -> tuple[tuple[str, bytes], ...]:
    """Return valid files with their extensions, of as many kinds as can be made here."""
    mono = song(1, seconds=1.5, sample_rate=RATE)
    files = [
        (extension, written(np.stack([mono] * n_channels, axis=1), RATE, container, encoding))
        for extension, container, encoding, n_channels in WRITTEN
        if encoding in soundfile.available_subtypes(container)
    ]
    if shutil.which("ffmpeg"):
        with TemporaryDirectory() as folder:
            source = Path(folder, "source.wav")
            source.write_bytes(written(mono, RATE))
            for extension, encoder in CONVERTED:
                target = Path(folder, f"{encoder}.{extension}")
                command = ("ffmpeg", "-v", "quiet", "-i", source, "-c:a", encoder, target)
                subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
                if target.exists() and target.stat().st_size:
                    files.append((extension, target.read_bytes()))
    return tuple(files)


def mutant(number: int) -> tuple[str, bytes]:
    """Return a file's extension and content: one to three damages to one of the `originals`."""
    chance = np.random.default_rng(number)
    files = originals()
    extension, content = files[chance.integers(len(files))]
    data = bytearray(content)
    for _ in range(chance.integers(1, 4)):
        _DAMAGES[chance.integers(len(_DAMAGES))](data, chance)
    if chance.random() < 0.1:
        extension = files[chance.integers(len(files))][0]
    return extension, bytes(data)


def _place(data: bytearray, chance: np.random.Generator) -> int:
    """Choose where: half the time in the header."""
    return int(chance.integers(max(min(len(data), chance.choice((HEADER_BYTES, 1 << 30))), 1)))


def _flip_bits(data: bytearray, chance: np.random.Generator) -> None:
    for _ in range(chance.integers(1, 9)):
        if data:
            data[_place(data, chance)] ^= 1 << int(chance.integers(8))


def _put_an_absurd_number(data: bytearray, chance: np.random.Generator) -> None:
    width = int(chance.choice((2, 4, 8)))
    number = int(chance.choice(_ABSURD)) % (1 << 8 * width)
    order = "little" if chance.random() < 0.5 else "big"
    start = _place(data, chance) & ~1
    data[start : start + width] = number.to_bytes(width, order)


def _put_noise(data: bytearray, chance: np.random.Generator) -> None:
    start, length = _place(data, chance), int(chance.integers(1, 200))
    data[start : start + length] = chance.bytes(length)


def _put_one_byte_throughout(data: bytearray, chance: np.random.Generator) -> None:
    start, length = _place(data, chance), int(chance.integers(1, 2000))
    data[start : start + length] = bytes([chance.choice((0x00, 0x7F, 0x80, 0xFF))]) * length


def _cut(data: bytearray, chance: np.random.Generator) -> None:
    del data[_place(data, chance) :]


def _take_out(data: bytearray, chance: np.random.Generator) -> None:
    start = _place(data, chance)
    del data[start : start + int(chance.integers(1, 500))]


def _repeat(data: bytearray, chance: np.random.Generator) -> None:
    start = _place(data, chance)
    piece = data[start : start + int(chance.integers(1, 500))]
    data[start:start] = piece * int(chance.integers(1, 20))


def _put_another_file_in(data: bytearray, chance: np.random.Generator) -> None:
    files = originals()
    start = _place(data, chance)
    data[start:start] = files[chance.integers(len(files))][1]


_DAMAGES: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    _flip_bits,
    _put_an_absurd_number,
    _put_an_absurd_number,
    _put_noise,
    _put_one_byte_throughout,
    _cut,
    _take_out,
    _repeat,
    _put_another_file_in,
)
