"""The benchmark of load, end to end in small, and the synthetic fingerprints that it is fed."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthesis import music

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path():
    sys.path.append(BENCHMARKS)
    yield
    sys.path.remove(BENCHMARKS)


@pytest.fixture(scope="module")
def statistics():
    from synthetic import Statistics

    return Statistics.read()


def test_synthetic_hashes_are_as_common_as_those_of_music(statistics):
    from synthetic import STRETCH_SECONDS, Music, equal_bins, selectivity

    music_like = Music.fitted(statistics, n_tracks=150, rounds=3)
    rng = np.random.default_rng(8)
    made = [music_like.fingerprint(rng, STRETCH_SECONDS) for _ in range(200)]
    hashes = np.concatenate([each.hashes for each in made])
    seconds = 200 * STRETCH_SECONDS
    assert selectivity(hashes) == pytest.approx(statistics.selectivity, rel=0.15)
    assert equal_bins(hashes) == pytest.approx(statistics.equal_bins, rel=0.15)
    assert len(hashes) / seconds == pytest.approx(statistics.landmarks_per_second, rel=0.05)
    n_peaks = sum(len(each.evidence.frames) for each in made)
    assert n_peaks / seconds == pytest.approx(statistics.peaks_per_second, rel=0.03)


def test_a_synthetic_track_keeps_the_rules_of_the_backend(statistics):
    from synthetic import CLOSE_BINS, CLOSE_FRAMES, Music

    from afp.backends import shazam

    made = Music(statistics, 0.37, 1.26).fingerprint(np.random.default_rng(3), 30.0)
    frames = made.evidence.frames.astype(np.int64)
    bins = made.evidence.values.astype(np.int64)
    assert (np.diff(frames) >= 0).all()
    assert frames[-1] < made.n_frames
    assert bins.min() >= 0 and bins.max() < shazam.N_BINS
    near = (np.abs(frames[:, None] - frames) <= CLOSE_FRAMES) & (
        np.abs(bins[:, None] - bins) <= CLOSE_BINS
    )
    assert near.sum() == len(frames)  # each is close to itself alone
    # Verification sees every peak that a landmark is made of.
    stored = set(zip(frames.tolist(), bins.tolist(), strict=True))
    anchors = set(zip(made.frames.tolist(), (made.hashes >> np.uint32(14)).tolist(), strict=True))
    assert anchors <= stored


def test_a_measured_statistic_is_that_of_the_peaks(tmp_path):
    from synthetic import Statistics, selectivity

    from afp.backends import shazam

    paths = []
    for seed in range(2):
        paths.append(tmp_path / f"{seed}.wav")
        soundfile.write(paths[-1], music(31.0, seed), 8000)
    measured = Statistics.measured(paths)
    backend = shazam.Backend()
    prints = [backend.extract(soundfile.read(path, dtype="float32")[0]) for path in paths]
    hashes = np.concatenate([each.hashes for each in prints])
    assert measured.selectivity == pytest.approx(selectivity(hashes))
    assert measured.landmarks_per_second == pytest.approx(len(hashes) / 62.0, rel=1e-3)
    assert measured.profiles.shape == (2, shazam.N_BINS)
    measured.write(tmp_path / "kept.npz")
    again = Statistics.read(tmp_path / "kept.npz")
    assert again.selectivity == measured.selectivity
    assert np.array_equal(again.profiles, measured.profiles)


@pytest.mark.slow
def test_load_runs_from_end_to_end(tmp_path, monkeypatch, capsys):
    import load

    audio = tmp_path / "audio"
    audio.mkdir()
    for seed in range(5):
        soundfile.write(audio / f"{seed}.wav", music(32.0, seed), 8000)
    monkeypatch.setattr(load, "COLD_QUERIES", 2)
    monkeypatch.setattr(load, "FITTED_TRACKS", 20)
    monkeypatch.setattr(load, "SINGLE_TRACKS", 8)
    arguments = ["--postings", "3e4", "--embeddings", "600", "--planted", "4"]
    arguments += ["--queries", "2", "--audio", str(audio), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["load.py", *arguments, "--folder", str(tmp_path)])
    load.main()
    results = json.loads((tmp_path / "out" / "load.json").read_text())
    assert "bytes_per_posting" in capsys.readouterr().out
    (figures,) = results["shazam"]
    assert 30_000 <= figures["postings"] < 40_000
    assert figures["postings_measured"] > figures["postings"]
    assert 6 <= figures["bytes_per_posting"] < 20
    assert figures["fill_written_bytes_per_posting"] > 6
    assert figures["right"] == 1.0
    assert figures["wrong"] == figures["false"] == 0
    assert figures["query_p50_ms"] <= figures["query_p99_ms"]
    assert results["planted_alone"]["right"] == 1.0
    (embeddings,) = results["neural"]
    assert embeddings["right_at_any_p"] > 0.5
    assert not list(tmp_path.glob("afp-load-*"))


def test_growth_is_the_exponent_of_the_last_step():
    from load import growth

    rows = [{"postings": 10, "ms": 9.0}, {"postings": 100, "ms": 2.0}, {"postings": 400, "ms": 4.0}]
    assert growth(rows, "ms") == pytest.approx(0.5)
    assert growth(rows, "s") is None
    assert growth(rows[:1], "ms") is None
