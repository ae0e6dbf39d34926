"""Which places of a track the benchmarks take for the same."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from afp.bench.rows import PRESENT, Answer, Row, Truth

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path():
    sys.path.append(BENCHMARKS)
    yield
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def track():
    """Ten seconds with a loop: what is at 1 s comes again at 6.2 s, a little noisier."""
    from repetition import RATE

    rng = np.random.default_rng(0)
    samples = rng.normal(scale=0.1, size=10 * RATE).astype(np.float32)
    loop = samples[RATE : 3 * RATE]
    again = round(6.2 * RATE)
    samples[again : again + len(loop)] = loop + rng.normal(scale=0.02, size=len(loop))
    return samples


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        (1.0, 1.0, 1.0),
        (1.0, 6.2, 0.98),
        (1.0, 6.6, 0.98),  # within half a second
        (1.0, 6.9, 0.0),
        (1.0, 4.0, 0.0),
        (6.2, 1.0, 0.98),
        (11.0, 1.0, 0.0),  # behind the end
        (1.0, 12.0, 0.0),
    ],
)
def test_likeness(track, first, second, alike):
    from repetition import likeness

    assert likeness(track, first, second, seconds=2.0) == pytest.approx(alike, abs=0.05)


def test_silence_is_like_nothing():
    from repetition import likeness

    assert likeness(np.zeros(100_000, np.float32), 1.0, 3.0, seconds=1.0) == 0.0


def test_places_that_sound_right_are_counted(tmp_path, track):
    from repetition import RATE, near_counts

    path = tmp_path / "music" / "a [1].wav"
    path.parent.mkdir()
    soundfile.write(path, track, RATE)

    def row(number, *answers, kind=PRESENT):
        return Row(
            backend="x",
            version=1,
            parameters={},
            condition="clean",
            distortion="clean",
            severity={},
            seconds=2.0,
            kind=kind,
            number=number,
            seed=0,
            source="a [1].wav",
            start=1.0,
            truth=Truth("t", 1.0, 1.0),
            answers=answers,
        )

    def answer(track, start):
        return Answer(track, "a.wav", start, 1.0, 0.5, 1.0)

    rows = [
        row(0, answer("t", 1.3)),
        row(1, answer("t", 6.2)),
        row(2, answer("t", 4.0)),
        row(3, answer("other", 1.0)),
        row(4),
        row(5, answer("t", 1.0), kind="music"),
    ]
    assert near_counts(rows, [tmp_path / "b.wav", path]) == {("x", "clean", 2.0): (2, 5)}
