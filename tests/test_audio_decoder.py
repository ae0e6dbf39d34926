"""Decoding: formats, channels, damage, streams, with and without ffmpeg."""

import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from synthesis import music, noise, tone

from afp.audio import Decoder, decode
from afp.audio.libsndfile import LibsndfileError, Stream
from afp.audio.source import Source
from afp.errors import InputError

RATE = 44100
needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="the ffmpeg program is not on the PATH"
)

LOSSLESS = [
    ("wav", "PCM_U8", 2**-7),
    ("wav", "PCM_16", 2**-15),
    ("wav", "PCM_24", 2**-23),
    ("wav", "FLOAT", 0),
    ("wav", "DOUBLE", 0),
    ("w64", "PCM_16", 2**-15),
    ("rf64", "PCM_16", 2**-15),
    ("flac", "PCM_16", 2**-15),
    ("flac", "PCM_24", 2**-23),
    ("aiff", "PCM_16", 2**-15),
    ("au", "PCM_16", 2**-15),
    ("au", "FLOAT", 0),
    ("caf", "PCM_24", 2**-23),
    ("caf", "ALAC_16", 2**-15),
]
LOSSY = [("ogg", "VORBIS", 44100), ("ogg", "OPUS", 48000), ("mp3", "MPEG_LAYER_III", 44100)]


def read(source: Source, **options: int) -> tuple[np.ndarray, Decoder]:
    with decode(source, **options) as audio:
        blocks = list(audio)
    assert all(block.dtype == np.float32 and block.ndim == 1 and len(block) for block in blocks)
    samples = np.concatenate(blocks)
    assert audio.duration_seconds == len(samples) / audio.sample_rate
    return samples, audio


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest correlation of two signals at any lag."""
    n = len(a) + len(b)
    products = np.fft.irfft(np.fft.rfft(a, n) * np.conj(np.fft.rfft(b, n)), n)
    return float(products.max() / np.sqrt((a**2).sum() * (b**2).sum()))


def cut(source: Path, target: Path, share: float = 0.6) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


@pytest.fixture(scope="module")
def piece() -> np.ndarray:
    return music(6, seed=1, sample_rate=RATE)


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.fixture(params=[pytest.param(True, marks=needs_ffmpeg), False])
def with_ffmpeg(request):
    if not request.param:
        request.getfixturevalue("no_ffmpeg")
    return request.param


# Formats


@pytest.mark.parametrize(("extension", "subtype", "step"), LOSSLESS)
def test_lossless_formats_give_what_was_written(tmp_path, piece, extension, subtype, step):
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, piece, RATE, subtype=subtype)
    samples, audio = read(path)
    assert (audio.sample_rate, audio.partial, len(samples)) == (RATE, None, len(piece))
    np.testing.assert_allclose(samples, piece, atol=step)


@pytest.mark.parametrize(("extension", "subtype", "rate"), LOSSY)
def test_lossy_formats_give_nearly_what_was_written(tmp_path, extension, subtype, rate):
    piece = music(6, seed=1, sample_rate=rate)
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, piece, rate, subtype=subtype)
    samples, audio = read(path)
    assert (audio.sample_rate, audio.partial) == (rate, None)
    assert abs(len(samples) - len(piece)) < 2400
    assert likeness(samples, piece) > 0.95


@needs_ffmpeg
@pytest.mark.parametrize(
    ("extension", "options"),
    [
        ("m4a", ["-c:a", "aac"]),
        ("m4a", ["-c:a", "alac"]),
        ("aac", ["-f", "adts"]),
        ("wma", []),
        ("mka", ["-c:a", "flac"]),
        ("wv", []),
        ("tta", []),
        ("ac3", []),
    ],
)
def test_ffmpeg_reads_what_libsndfile_cannot(tmp_path, piece, extension, options):
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    path = tmp_path / f"a.{extension}"
    convert(tmp_path / "a.wav", path, *options)
    samples, audio = read(path)
    assert (audio.sample_rate, audio.partial) == (RATE, None)
    assert abs(len(samples) - len(piece)) < 4096
    assert likeness(samples, piece) > 0.95


def convert(source: Path, target: Path, *options: str) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source), *options, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this ffmpeg cannot write {target.suffix}: {done.stderr.strip()[-200:]}")


@pytest.mark.parametrize("rate", [100, 4000, 8000, 96000, 192000, 655350])
def test_sample_rates(tmp_path, rate):
    soundfile.write(tmp_path / "a.flac", tone(0.5, 20, rate), rate)
    samples, audio = read(tmp_path / "a.flac")
    assert (audio.sample_rate, len(samples)) == (rate, round(rate / 2))


@pytest.mark.parametrize("rate", [1, 99])
def test_a_sample_rate_that_holds_no_sound_is_refused(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.ones(50), rate)
    with pytest.raises(InputError, match=f"a.wav: a sample rate of {rate} Hz holds no sound"):
        decode(tmp_path / "a.wav")


# Samples


@pytest.mark.parametrize("n_channels", [1, 2, 3, 6, 40])
def test_mono_is_the_mean_over_the_channels(tmp_path, n_channels):
    channels = np.random.default_rng(0).uniform(-1, 1, (5000, n_channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    samples, _ = read(tmp_path / "a.wav", block_frames=1024)
    np.testing.assert_allclose(samples, channels.mean(axis=1), atol=1e-6)


@needs_ffmpeg
def test_ffmpeg_does_not_weight_the_channels(tmp_path):
    channels = np.stack([noise(1, seed, RATE) for seed in range(6)], axis=1)
    soundfile.write(tmp_path / "a.wav", channels, RATE, subtype="FLOAT")
    convert(tmp_path / "a.wav", tmp_path / "a.mka", "-c:a", "pcm_f32le")
    samples, _ = read(tmp_path / "a.mka")
    np.testing.assert_allclose(samples, channels.mean(axis=1), atol=1e-6)


def test_nan_and_infinity_become_zero_and_absurd_values_are_bounded(tmp_path):
    samples = tone(0.1, sample_rate=RATE)
    samples[[3, 50, 99]] = np.nan, np.inf, -np.inf
    samples[7] = -3e38
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    got, _ = read(tmp_path / "a.wav")
    assert got[[3, 50, 99]].tolist() == [0, 0, 0]
    assert got[7] == -(2.0**32)
    others = np.delete(np.arange(len(samples)), [3, 7, 50, 99])
    np.testing.assert_array_equal(got[others], samples[others])


@given(block_frames=st.integers(1, 5000))
def test_block_length_changes_nothing_and_bounds_the_blocks(tmp_path_factory, block_frames):
    path = tmp_path_factory.getbasetemp() / "blocks.ogg"
    if not path.exists():
        soundfile.write(path, np.stack([tone(0.2), noise(0.2)], axis=1), 8000)
    whole, _ = read(path)
    with decode(path, block_frames=block_frames) as audio:
        blocks = list(audio)
    assert max(map(len, blocks)) <= block_frames
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_memory_does_not_grow_with_length(tmp_path):
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 48000, 2, "PCM_16") as file:
        for _ in range(600):
            file.write(np.zeros((48000, 2), np.int16))
    script = (
        "import resource, sys\n"
        "from afp.audio import decode\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with decode(sys.argv[1]) as audio:\n"
        "    blocks = iter(audio); next(blocks); before = peak()\n"
        "    for block in blocks: pass\n"
        "assert audio.duration_seconds == 600\n"
        "assert peak() - before < 20_000, peak() - before\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)


# Damage


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        ("wav", "bytes of samples are missing"),
        ("w64", "bytes of samples are missing"),
        ("aiff", "bytes of samples are missing"),
        ("au", "bytes of samples are missing"),
        ("flac", "of 6.0 s decoded"),
        ("ogg", "in the middle of a page"),
        ("mp3", "of 6.0 s decoded"),
    ],
)
@pytest.mark.usefixtures("with_ffmpeg")
def test_truncated_files_are_decoded_as_far_as_they_go(tmp_path, piece, extension, reason):
    whole = tmp_path / f"whole.{extension}"
    soundfile.write(whole, piece, RATE)
    complete, _ = read(whole)
    samples, audio = read(cut(whole, tmp_path / f"cut.{extension}"))
    assert 0.45 * len(piece) < len(samples) < 0.75 * len(piece)
    assert audio.partial is not None
    assert reason in audio.partial
    np.testing.assert_allclose(samples[:-2304], complete[: len(samples) - 2304], atol=1e-5)


@needs_ffmpeg
def test_what_ffmpeg_cannot_finish_is_partial(tmp_path, piece):
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    convert(tmp_path / "a.wav", tmp_path / "a.m4a", "-c:a", "aac", "-movflags", "+faststart")
    samples, audio = read(cut(tmp_path / "a.m4a", tmp_path / "cut.m4a"))
    assert 0.4 * len(piece) < len(samples) < 0.8 * len(piece)
    assert audio.partial


@pytest.mark.parametrize("extension", ["flac", "mp3"])
def test_damage_in_the_middle_keeps_both_sides(tmp_path, piece, extension):
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, piece, RATE)
    whole, _ = read(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    samples, audio = read(path)
    assert audio.partial
    assert "of 6.0 s decoded" in audio.partial
    # Without ffmpeg, what was read of an MP3 together with the damage is lost as well.
    is_alone = extension == "mp3" and shutil.which("ffmpeg") is None
    sound = int((0.2 if is_alone else 0.4) * len(whole))
    np.testing.assert_allclose(samples[:sound], whole[:sound], atol=1e-5)
    if shutil.which("ffmpeg"):
        assert len(samples) > 0.9 * len(whole)
        assert likeness(samples[-sound:], whole[-sound:]) > 0.9


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, pytest.param(0, marks=needs_ffmpeg)])
def test_a_header_written_into_a_pipe_is_no_damage(tmp_path, piece, size):
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    assert data[36:40] == b"data"
    data[4:8] = data[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    samples, audio = read(tmp_path / "a.wav")
    assert (len(samples), audio.partial) == (len(piece), None)


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "au"])
def test_streams_of_ffmpeg_are_whole(tmp_path, piece, kind):
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-f", kind, "pipe:1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        samples, audio = read(process.stdout)
    assert abs(len(samples) - len(piece)) < 2304
    assert audio.partial is None


@needs_ffmpeg
def test_mp3_of_variable_rate_without_a_length_is_whole(tmp_path):
    piece = np.concatenate([noise(1, 0, RATE, 0.3), music(9, 2, RATE)])
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    convert(tmp_path / "a.wav", tmp_path / "a.mp3", "-q:a", "6", "-write_xing", "0")
    samples, audio = read(tmp_path / "a.mp3")
    assert 0 <= len(samples) - len(piece) < 2304
    assert audio.partial is None


@needs_ffmpeg
def test_chained_ogg_is_decoded_to_its_end(tmp_path, piece):
    soundfile.write(tmp_path / "a.ogg", piece, RATE)
    chain = tmp_path / "chain.ogg"
    chain.write_bytes((tmp_path / "a.ogg").read_bytes() * 3)
    samples, audio = read(chain)
    assert abs(len(samples) - 3 * len(piece)) < 2304
    assert audio.partial is None


@needs_ffmpeg
def test_opus_that_libsndfile_gives_up_on_is_spliced_at_the_sample(real_audio):
    (path,) = (real_audio / "music" / "original").glob("*ffmpeg-pages.opus")
    samples, audio = read(path)
    assert (len(samples), audio.sample_rate, audio.partial) == (9133245, 48000, None)
    command = ["ffmpeg", "-v", "error", "-i", path, "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1"]
    expected = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    theirs = np.frombuffer(expected.stdout, "<f4")
    start = 2 * 48000  # libopus and ffmpeg differ audibly in a hiss of the first second
    np.testing.assert_allclose(samples[start:], theirs[start:], atol=1e-6)


def test_opus_that_libsndfile_gives_up_on_is_partial_without_ffmpeg(real_audio, no_ffmpeg):
    (path,) = (real_audio / "music" / "original").glob("*ffmpeg-pages.opus")
    samples, audio = read(path)
    assert len(samples) > 30 * 48000
    assert "of 190.3 s decoded" in audio.partial
    assert "install the ffmpeg program" in audio.partial


OGG = [("ogg", "VORBIS"), ("opus", "OPUS")]


def last_page(data: bytes) -> int:
    return data.rindex(b"OggS\0")


@pytest.mark.parametrize(("extension", "subtype"), OGG)
def test_an_ogg_stream_may_lack_the_flag_of_its_end(tmp_path, extension, subtype):
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, music(6, seed=1, sample_rate=48000), 48000, subtype, format="OGG")
    whole, _ = read(path)
    data = path.read_bytes()
    path.write_bytes(data[: last_page(data)])
    samples, audio = read(path)
    assert audio.partial is None
    np.testing.assert_array_equal(samples, whole[: len(samples)])
    assert len(samples) > 0.7 * len(whole)


@needs_ffmpeg
@pytest.mark.parametrize("extension", ["ogg", "opus"])
def test_segments_of_ffmpeg_are_whole(tmp_path, extension):
    soundfile.write(tmp_path / "mix.flac", music(7, seed=1, sample_rate=48000), 48000)
    pattern = tmp_path / f"s%d.{extension}"
    convert(tmp_path / "mix.flac", pattern, "-f", "segment", "-segment_time", "4")
    decoders = [read(path)[1] for path in sorted(tmp_path.glob("s?.*"))]
    assert [audio.partial for audio in decoders] == [None, None]
    assert sum(audio.duration_seconds for audio in decoders) == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize(("extension", "subtype"), OGG)
@pytest.mark.parametrize("kept_bytes", [5, 26, 30, 200, -1])
def test_an_ogg_stream_that_ends_within_a_page_is_partial(tmp_path, extension, subtype, kept_bytes):
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, music(6, seed=1, sample_rate=48000), 48000, subtype, format="OGG")
    data = path.read_bytes()
    path.write_bytes(data[: (last_page(data) if kept_bytes > 0 else len(data)) + kept_bytes])
    assert read(path)[1].partial == "the Ogg stream ends in the middle of a page"


def test_an_ogg_stream_that_ends_within_a_packet_is_partial(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, music(6, seed=1, sample_rate=48000), 48000)
    header = b"OggS\0\1" + bytes(20) + b"\2"  # a page that is whole, but not its packet
    with path.open("ab") as file:
        file.write(header + b"\xff\xff" + bytes(510))
    assert read(path)[1].partial == "the Ogg stream ends in the middle of a packet"


@needs_ffmpeg
@pytest.mark.parametrize(
    ("kind", "quality"), [("Info", "-b:a"), ("Xing", "-q:a"), ("VBRI", "-q:a")]
)
@pytest.mark.parametrize("rate", [44100, 22050])
def test_mp3_with_fewer_frames_than_its_header_counts_is_partial(tmp_path, kind, quality, rate):
    soundfile.write(tmp_path / "a.wav", music(6, seed=1, sample_rate=rate), rate)
    path = tmp_path / "a.mp3"
    options = ("-id3v2_version", "0", quality, "64k" if kind == "Info" else "4")
    convert(tmp_path / "a.wav", path, *options)
    data = bytearray(path.read_bytes())
    header = data.index(b"Info" if kind == "Info" else b"Xing")
    if kind == "VBRI":
        n_frames = data[header + 8 : header + 12]
        data[4:36] = bytes(32)
        data[36:62] = b"VBRI" + bytes(10) + n_frames + bytes(8)
        path.write_bytes(data)
    assert read(path)[1].partial is None
    assert "of 6." in read(cut(path, tmp_path / "cut.mp3"))[1].partial


# What is no audio


@pytest.mark.parametrize("name", ["garbage.wav", "garbage.mp3", "garbage", "-i.mp3", "http:x.ogg"])
def test_garbage_is_refused(tmp_path, name, with_ffmpeg, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(np.random.default_rng(5).bytes(20000))
    with pytest.raises(InputError, match=f"^{name}: cannot be decoded: ") as caught:
        decode(name)
    assert ("install the ffmpeg program" in caught.value.hint) is not with_ffmpeg
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extension", ["wav", "aiff", "au"])
def test_zero_length_audio_is_refused(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, np.zeros(0), RATE)
    with pytest.raises(InputError, match=r"a\.\w+: holds no audio"):
        decode(path)


@needs_ffmpeg
def test_video_without_sound_is_refused(tmp_path):
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=0.2", tmp_path / "a.mkv"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(InputError, match=r"a\.mkv: .*there is no audio in it"):
        decode(tmp_path / "a.mkv")


@needs_ffmpeg
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
    ],
)
def test_a_playlist_opens_no_other_file(tmp_path, piece, text):
    soundfile.write(tmp_path / "a.mp3", piece, RATE)
    (tmp_path / "list.mp3").write_text(text.format(tmp_path / "a.mp3"))
    with pytest.raises(InputError, match=r"list\.mp3: cannot be decoded"):
        decode(tmp_path / "list.mp3")


def test_paths_that_are_no_readable_file(tmp_path):
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(InputError, match=r"x\.wav: is a folder"):
        decode(tmp_path / "x.wav")
    with pytest.raises(InputError, match=r"y\.wav: No such file"):
        decode(tmp_path / "y.wav")
    with pytest.raises(InputError, match="null byte"):
        decode("a\0.wav")
    with pytest.raises(InputError, match="/dev/zero: is neither a file nor a pipe"):
        decode("/dev/zero")
    (tmp_path / "z.wav").touch()
    with pytest.raises(InputError, match=r"z\.wav: is empty"):
        decode(tmp_path / "z.wav")
    if os.geteuid() != 0:
        (tmp_path / "z.wav").chmod(0)
        with pytest.raises(InputError, match="Permission denied"):
            decode(tmp_path / "z.wav")


def test_an_error_of_the_system_is_told_from_undecodable_content(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="No such file") as caught:
        decode(tmp_path / "missing.wav")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    path = tmp_path / "a.wav"
    path.write_bytes(b"no audio at all")
    with pytest.raises(InputError, match="cannot be decoded") as caught:
        decode(path)
    assert caught.value.__cause__ is None

    def stale(*_: int) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "pread", stale)
    with pytest.raises(InputError, match=r"a\.wav: Stale file handle") as caught:
        decode(path)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_path_of_any_bytes(tmp_path, piece):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff' \"$(x).wav")
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    (tmp_path / "a.wav").rename(path)
    assert len(read(path)[0]) == len(piece)


# Streams


def test_a_binary_stream(tmp_path, piece):
    soundfile.write(tmp_path / "a.flac", piece, RATE)
    expected, _ = read(tmp_path / "a.flac")
    samples, _ = read(io.BytesIO((tmp_path / "a.flac").read_bytes()))
    np.testing.assert_array_equal(samples, expected)
    with pytest.raises(InputError, match="standard input: is empty"):
        decode(io.BytesIO())


@needs_ffmpeg
def test_a_binary_stream_through_ffmpeg(tmp_path, piece):
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    convert(tmp_path / "a.wav", tmp_path / "a.m4a")  # its index is at its end
    expected, _ = read(tmp_path / "a.m4a")
    with (tmp_path / "a.m4a").open("rb") as stream:
        samples, _ = read(stream)
    np.testing.assert_array_equal(samples, expected)


def test_a_named_pipe(tmp_path, piece, monkeypatch):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    soundfile.write(tmp_path / "a.wav", piece, RATE)
    data = (tmp_path / "a.wav").read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert len(read(pipe)[0]) == len(piece)
    writer.join()
    monkeypatch.setattr("afp.audio.source._WRITER_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(InputError, match=r"pipe\.wav: nothing was written to this pipe"):
        decode(pipe)


# Manners


def open_descriptors() -> int:
    found = 0
    for descriptor in range(256):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            found += 1
    return found


@needs_ffmpeg
def test_an_early_stop_leaves_no_process_and_no_descriptor(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(60, 0, RATE), RATE)
    convert(tmp_path / "a.wav", tmp_path / "a.mka")
    before = open_descriptors()
    with decode(tmp_path / "a.mka") as audio:
        next(iter(audio))
    assert open_descriptors() == before
    # In a process of its own: other tests may have left helpers of `multiprocessing` here.
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from afp.audio import decode\n"
        "with decode(Path(sys.argv[1])) as audio:\n"
        "    next(iter(audio))\n"
        "try:\n"
        "    print(os.waitpid(-1, os.WNOHANG))\n"
        "except ChildProcessError:\n"
        "    print('none')\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "a.mka"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "none\n"


@pytest.mark.parametrize("content", [b"no audio at all", b"RIFF\0\0\0\0WAVE", b"OggS\0", b"fLaC"])
def test_a_failed_open_leaves_the_descriptor_open_and_no_other(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    with path.open("rb") as file:
        before = open_descriptors()
        with pytest.raises(LibsndfileError, match=r"."):
            Stream(file.fileno())
        assert open_descriptors() == before
        assert file.read() is not None


def test_a_release_that_closes_what_it_cannot_open_hurts_no_one(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"no audio at all")

    def fail(self: soundfile.SoundFile, descriptor: int, **_: bool) -> None:
        os.close(descriptor)
        raise LibsndfileError(1)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", fail)
    monkeypatch.setattr(soundfile.SoundFile, "__del__", lambda self: None)
    with path.open("rb") as file:
        with pytest.raises(LibsndfileError, match=r"."):
            Stream(file.fileno())
        assert file.read() == b"no audio at all"


def test_decoders_print_nothing(tmp_path, piece, capfd):
    soundfile.write(tmp_path / "a.mp3", piece, RATE)
    read(cut(tmp_path / "a.mp3", tmp_path / "cut.mp3"))
    data = bytearray((tmp_path / "a.mp3").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = np.random.default_rng(0).bytes(3000)
    (tmp_path / "a.mp3").write_bytes(data)
    read(tmp_path / "a.mp3")
    print("Python still can", file=sys.stderr)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "Python still can\n")
