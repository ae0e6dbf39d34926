"""What people's music comes in, from the file to the answer."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from cli_runner import excerpt, write_wav

from afp.synthesis import song

pytest_plugins = ["cli_fixtures"]

FORMATS = [
    # name, container, encoding, sample rate, channels
    ("8-bit-mono.wav", "WAV", "PCM_U8", 22_050, 1),
    ("16-bit-stereo.wav", "WAV", "PCM_16", 44_100, 2),
    ("24-bit-5.1.wav", "WAVEX", "PCM_24", 48_000, 6),
    ("float.wav", "WAV", "FLOAT", 44_100, 2),
    ("96-khz.wav", "WAV", "PCM_24", 96_000, 2),
    ("lossless.flac", "FLAC", "PCM_16", 44_100, 2),
    ("vorbis.ogg", "OGG", "VORBIS", 44_100, 2),
    ("mpeg.mp3", "MP3", "MPEG_LAYER_III", 44_100, 2),
    ("voice.opus", "OGG", "OPUS", 48_000, 2),
]


def channels(seed, rate, n):
    """Play a song on some channels, no two of them alike."""
    mono = song(seed, seconds=20.0, sample_rate=rate)
    levels = np.linspace(0.9, 0.3, n, dtype=np.float32)
    return mono[:, None] * levels


def identify(cli, tmp_path, file, seed):
    cli.index(file.parent)
    clip = write_wav(tmp_path / "clip.wav", excerpt(seed, 6.0, 6.0))
    (match,) = json.loads(cli("query", "--json", clip)[0])["matches"]
    assert match["track"]["path"] == str(file)
    assert match["track"]["seconds"] == pytest.approx(20.0, abs=0.1)
    assert match["track_start"] - match["query_start"] == pytest.approx(6.0, abs=0.1)
    piece = json.loads(cli("query", "--json", file)[0])["matches"][0]  # as a query too
    assert piece["track"]["path"] == str(file)
    assert piece["track_start"] == pytest.approx(piece["query_start"], abs=0.05)
    assert cli("ls", "--json")[0].count('"partial": null') == 1


@pytest.mark.parametrize(
    ("name", "container", "encoding", "rate", "n_channels"), FORMATS, ids=[f[0] for f in FORMATS]
)
def test_a_format_is_indexed_and_found(cli, tmp_path, name, container, encoding, rate, n_channels):
    if container not in soundfile.available_formats():
        pytest.skip(f"this libsndfile knows no {container}")
    if encoding not in soundfile.available_subtypes(container):
        pytest.skip(f"this libsndfile knows no {encoding}")
    file = tmp_path / "music" / name
    file.parent.mkdir()
    samples = channels(5, rate, n_channels)
    # In pieces: libsndfile's Vorbis encoder overflows its stack on long ones.
    with soundfile.SoundFile(
        file, "w", rate, n_channels, subtype=encoding, format=container
    ) as sound:
        for start in range(0, len(samples), rate):
            sound.write(samples[start : start + rate])
    identify(cli, tmp_path, file, 5)


def test_what_needs_ffmpeg_is_indexed_and_found(cli, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg on the PATH")
    wave = write_wav(tmp_path / "song.wav", song(6, seconds=20.0))
    file = tmp_path / "music" / "song.m4a"
    file.parent.mkdir()
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", wave, "-c:a", "aac", file],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    identify(cli, tmp_path, file, 6)
