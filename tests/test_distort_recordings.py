"""Folders of recordings, decoded once and shared."""

import pickle

import numpy as np
import pytest
from cli_runner import write_wav
from synthesis import noise, silence, tone

from afp.distort import Recordings, is_silent, read
from afp.errors import InputError

RATE = 16_000


@pytest.fixture
def folder(tmp_path):
    """Two recordings, one of them deeper and at another rate; a broken file, silence, a text."""
    folder = tmp_path / "noise"
    write_wav(folder / "a.wav", noise(1.0, 1, RATE))
    write_wav(folder / "deep" / "b.wav", tone(0.5, 440, 8000), rate=8000)
    write_wav(folder / "silence.wav", silence(1.0, RATE))
    (folder / "broken.wav").write_bytes(b"RIFF nothing of the kind")
    (folder / "notes.txt").write_text("recorded on a Monday")
    return folder


def test_what_can_be_used_is_decoded(folder, tmp_path):
    found = Recordings.decoded(folder, tmp_path / "samples", sample_rate=RATE)
    assert (found.names, len(found)) == (("a.wav", "b.wav"), 2)
    for samples, expected in zip(
        (found[0], found[1]), (noise(1.0, 1, RATE), tone(0.5, 440, RATE)), strict=True
    ):
        assert (samples.dtype, samples.shape) == (np.float32, expected.shape)
        middle = slice(1000, -1000)
        np.testing.assert_allclose(samples[middle], expected[middle], atol=2e-3)
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 1.0


def test_the_draw_follows_from_the_generator(folder, tmp_path):
    found = Recordings.decoded(folder, tmp_path / "samples", sample_rate=RATE)
    names = [found.draw(np.random.default_rng(seed))[0] for seed in range(20)]
    assert set(names) == {"a.wav", "b.wav"}
    assert names == [found.draw(np.random.default_rng(seed))[0] for seed in range(20)]
    travelled = pickle.loads(pickle.dumps(found))
    assert np.array_equal(travelled[1], found[1])


def test_a_single_file_is_a_folder_of_one(folder, tmp_path):
    found = Recordings.decoded(folder / "a.wav", tmp_path / "samples", sample_rate=RATE)
    assert found.names == ("a.wav",)


@pytest.mark.parametrize("name", ["silence.wav", "broken.wav", "empty"])
def test_nothing_to_use(folder, tmp_path, name):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name}: no audio in it that can be used"):
        Recordings.decoded(folder / name, tmp_path / "samples", sample_rate=RATE)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere: No such file or directory"):
        Recordings.decoded(tmp_path / "nowhere", tmp_path / "samples", sample_rate=RATE)


def test_read(folder):
    samples = read(folder / "deep" / "b.wav", sample_rate=RATE)
    assert (samples.dtype, len(samples)) == (np.float32, RATE // 2)


@pytest.mark.parametrize(
    ("steps", "silent"), [([], True), ([0, 0], True), ([1, -1], True), ([0, 2], False)]
)
def test_silence_is_a_step_at_most(steps, silent):
    assert is_silent(np.array(steps, np.float32) / 32768) is silent
