"""Chunked extraction equals extraction in one go; windows cover a stream."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.library import streaming
from afp.library.streaming import ChunkedExtraction, Extraction, windows
from afp.synthesis import song

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_backend.py"


def example_backend():
    spec = importlib.util.spec_from_file_location("own_backend", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Backend()


def feed_in_blocks(chunked, samples, rng):
    position = 0
    while position < len(samples):
        length = int(rng.integers(1, 60_000))
        chunked.feed(samples[position : position + length])
        position += length
    return chunked.finish()


@pytest.mark.parametrize("seconds", [0.0, 0.5, 12.0, 29.9, 41.0, 100.0])
def test_chunks_join_to_what_one_go_gives(seconds, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 20.0)
    monkeypatch.setattr(streaming, "WHOLE_SECONDS", 30.0)
    backend = example_backend()
    samples = song(1, seconds=seconds, sample_rate=8000)
    whole = backend.extract(samples)
    parts = feed_in_blocks(ChunkedExtraction(backend), samples, np.random.default_rng(2))
    assert parts.n_frames == whole.n_frames
    np.testing.assert_array_equal(parts.frames, whole.frames)
    np.testing.assert_array_equal(parts.hashes, whole.hashes)


def test_chunks_keep_their_place_when_a_backend_finds_no_frames_in_silence(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 20.0)
    monkeypatch.setattr(streaming, "WHOLE_SECONDS", 30.0)
    samples = np.concatenate(
        [np.zeros(8000 * 70, np.float32), song(1, seconds=9, sample_rate=8000)]
    )
    backend = example_backend()
    parts = feed_in_blocks(ChunkedExtraction(backend), samples, np.random.default_rng(3))
    assert parts.frames.min() >= 70 / backend.hop_seconds - 32


def test_extract_gets_bounded_pieces(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 20.0)
    monkeypatch.setattr(streaming, "WHOLE_SECONDS", 30.0)
    backend = example_backend()
    lengths = []
    extract = backend.extract
    monkeypatch.setattr(
        type(backend), "extract", lambda self, x: (lengths.append(len(x)), extract(x))[1]
    )
    feed_in_blocks(
        ChunkedExtraction(backend), np.zeros(8000 * 200, np.float32), np.random.default_rng(3)
    )
    assert max(lengths) <= 8000 * (30 + 2 * 1.1)


def test_backends_of_one_rate_share_a_stream():
    first, second = example_backend(), example_backend()
    type(second).name = "second"
    samples = song(4, seconds=10, sample_rate=16_000)
    extraction = Extraction([first, second], 16_000)
    extraction.feed(samples[:70_000])
    extraction.feed(samples[70_000:])
    result = extraction.finish()
    assert set(result) == {"loudest", "second"}
    assert result["loudest"].n_frames == 10 * 8000 // 256
    np.testing.assert_array_equal(result["loudest"].hashes, result["second"].hashes)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 30), st.data())
def test_windows_cover_a_stream_without_holding_it(lengths, window, data):
    step = data.draw(st.integers(1, window))
    stream = np.arange(sum(lengths), dtype=np.float32)
    blocks = np.split(stream, np.cumsum(lengths)[:-1]) if lengths else []
    covered = np.zeros(len(stream), bool)
    starts = []
    for start, samples in windows(blocks, window=window, step=step):
        assert len(samples) == min(window, len(stream))
        np.testing.assert_array_equal(samples, stream[start : start + len(samples)])
        covered[start : start + len(samples)] = True
        starts.append(start)
    assert covered.all()
    assert starts == sorted(set(starts))
    assert len(starts) == (0 if not len(stream) else max(-(-(len(stream) - window) // step), 0) + 1)
