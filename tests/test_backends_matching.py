"""What every backend promises of its matches, through a real store; see `backend_contract`."""

import numpy as np
import pytest
import soxr
from backend_contract import LESS, N_TRACKS, piece, require
from synthesis import noise, silence, tone

pytest_plugins = ["backend_fixtures"]
pytestmark = pytest.mark.filterwarnings("error")

MAX_P = 1e-3


def assert_found(match, backend, seed, *, query, track, tolerance=0.0):
    """The right track, and the same moment on both sides within a hop and `tolerance`."""
    assert match.track.path == f"/music/{seed}"
    assert match.p_false <= MAX_P
    assert match.backend in (backend.name, "")  # the library fills it in
    offset = match.track_start - match.query_start
    assert offset == pytest.approx(track[0] - query[0], abs=backend.hop_seconds + tolerance)
    if "whole stretch" in LESS.get(backend.name, ()):
        return
    assert match.query_start == pytest.approx(query[0], abs=1.0)
    assert match.query_end == pytest.approx(query[1], abs=1.0)
    assert match.track_end == pytest.approx(track[1], abs=1.0 + tolerance)


@pytest.mark.parametrize("seed", [0, 5, 13])
def test_a_clip_is_found_within_a_hop(shelf, seed):
    best, *_ = shelf.query(shelf.clip(seed))
    assert_found(best, shelf.backend, seed, query=(0, 6), track=(6, 12))
    assert best.speed == pytest.approx(1, abs=0.005)
    assert best.pitch == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("seed", [1, 8])
def test_a_clip_between_two_hops_is_found(shelf, seed):
    start = 6 + 0.43 * shelf.backend.hop_seconds
    best, *_ = shelf.query(shelf.clip(seed, start, start + 6))
    assert_found(best, shelf.backend, seed, query=(0, 6), track=(start, start + 6))


@pytest.mark.parametrize("seed", [2, 9])
def test_a_clip_that_begins_before_the_track_or_ends_after_it_is_found(shelf, seed):
    rate = shelf.backend.sample_rate
    before = np.concatenate([noise(4, seed, rate, level=0.02), shelf.clip(seed, 0, 6)])
    best, *_ = shelf.query(before)
    assert_found(best, shelf.backend, seed, query=(4, 10), track=(0, 6))
    after = np.concatenate([shelf.clip(seed, 14, 20), noise(4, seed, rate, level=0.02)])
    best, *_ = shelf.query(after)
    assert_found(best, shelf.backend, seed, query=(0, 6), track=(14, 20))


@pytest.mark.parametrize("seed", range(0, N_TRACKS, 3))
def test_noise_ten_decibels_below_does_not_matter(shelf, seed):
    clip = shelf.clip(seed)
    added = noise(6, seed, shelf.backend.sample_rate, level=clip.std() * 10**-0.5)
    best, *_ = shelf.query(clip + added)
    assert_found(best, shelf.backend, seed, query=(0, 6), track=(6, 12))


@pytest.mark.parametrize("gain", [0.01, -1.0])
def test_the_level_of_a_clip_does_not_matter(shelf, gain):
    require(shelf.backend, "any level")
    best, *_ = shelf.query(np.float32(gain) * shelf.clip(6))
    assert_found(best, shelf.backend, 6, query=(0, 6), track=(6, 12))


@pytest.mark.parametrize("speed", [0.98, 1.02])
def test_other_speeds_are_found(shelf, speed):
    require(shelf.backend, "other speeds")
    rate = shelf.backend.sample_rate
    clip = soxr.resample(shelf.clip(3, 6, 6 + 8 * speed), speed * rate, rate)
    assert len(clip) == pytest.approx(8 * rate, abs=2)
    best, *_ = shelf.query(clip)
    assert_found(best, shelf.backend, 3, query=(0, 8), track=(6, 6 + 8 * speed), tolerance=0.02)
    assert best.speed == pytest.approx(speed, abs=0.003)
    assert best.pitch == pytest.approx(speed, abs=0.005)


def absent(backend):
    """Five seconds each of what is in no store."""
    rate = backend.sample_rate
    return {
        "noise": noise(5, 77, rate),
        "loud noise": noise(5, 78, rate, level=0.9).clip(-1, 1),
        "tone": tone(5, 440.0, rate),
        "chord": (tone(5, 261.6, rate) + tone(5, 329.6, rate) + tone(5, 392.0, rate)) / 3,
        "silence": silence(5, rate),
        "click": np.concatenate([silence(2, rate), np.ones(1, np.float32), silence(3, rate)]),
        **{f"song {seed}": piece(backend, seed, 5) for seed in (100, 101, 102, 103)},
    }


def test_what_is_in_no_track_is_not_found(shelf):
    found = {
        name: min((match.p_false for match in shelf.query(samples)), default=1.0)
        for name, samples in absent(shelf.backend).items()
    }
    assert {name: p for name, p in found.items() if p <= MAX_P} == {}


def test_matches_come_best_first_and_no_more_than_asked_for(shelf):
    every = shelf.query(shelf.clip(4) + shelf.clip(10), limit=N_TRACKS)
    strengths = [(match.p_false, -match.score) for match in every]
    assert strengths == sorted(strengths)
    assert {match.track.path for match in every[:2]} == {"/music/4", "/music/10"}
    for match in every:
        assert 0 <= match.p_false <= 1
        assert 0 <= match.query_start <= match.query_end
        assert match.query_end <= 6 + shelf.backend.hop_seconds
    for limit in (1, 2, 3):
        fewer = shelf.query(shelf.clip(4) + shelf.clip(10), limit=limit)
        assert len(fewer) == min(limit, len(every))
        assert [match.p_false for match in fewer] == [match.p_false for match in every[:limit]]


@pytest.mark.parametrize("kind", ["empty", "silence", "tone", "click", "too short"])
def test_a_query_with_little_to_look_up_is_looked_up(shelf, kind):
    rate = shelf.backend.sample_rate
    samples = {
        "empty": silence(0, rate),
        "silence": silence(3, rate),
        "tone": tone(3, 900.0, rate),
        "click": np.concatenate([silence(1, rate), np.ones(1, np.float32), silence(1, rate)]),
        "too short": shelf.clip(0, 6, 6.2),
    }[kind]
    assert all(match.p_false > MAX_P for match in shelf.query(samples))


def answers(matches):
    """What a query would be answered."""
    return [
        (match.track.path, match.query_start, match.track_start, match.track_end, match.score)
        for match in matches
        if match.p_false <= MAX_P
    ]


def test_the_layout_of_the_store_does_not_matter(shelf, tmp_path):
    """Many segments and tails, with removed tracks among them, or one segment."""
    require(shelf.backend, "any layout")
    folder = tmp_path / "store"
    clips = [shelf.clip(0), shelf.clip(4) + shelf.clip(10), shelf.clip(13, 15, 20)]
    expected = [answers(shelf.query(clip)) for clip in clips]
    assert all(expected)
    with shelf.store(folder) as store:
        doomed = []
        for start in range(0, N_TRACKS, 4):
            copies = [
                shelf.new_track(1000 + seed, shelf.songs[seed])
                for seed in range(start, min(start + 2, N_TRACKS))
            ]
            doomed += [track.id for track in store.add(copies)]
            shelf.add(store, range(start, min(start + 4, N_TRACKS)))
            if start < 8:
                store.flush()
        store.remove(doomed)
        assert [answers(shelf.query(clip, folder=folder)) for clip in clips] == expected
        store.compact()
        assert [answers(shelf.query(clip, folder=folder)) for clip in clips] == expected


def test_a_store_without_tracks_has_no_answer(shelf, tmp_path):
    folder = tmp_path / "store"
    with shelf.store(folder) as store:
        assert shelf.query(shelf.clip(0), folder=folder) == []
        ids = shelf.add(store, [0, 1])
        assert answers(shelf.query(shelf.clip(0), folder=folder))
        require(shelf.backend, "emptied store")
        store.remove(ids)
        assert shelf.query(shelf.clip(0), folder=folder) == []


def test_silent_and_very_short_tracks_do_no_harm(shelf, tmp_path):
    backend, folder = shelf.backend, tmp_path / "store"
    with shelf.store(folder) as store:
        shelf.add(store, [0])
        short = [silence(0, backend.sample_rate), silence(5, backend.sample_rate)]
        short.append(shelf.clip(1, 0, 0.3))
        store.add([shelf.new_track(2000 + i, samples) for i, samples in enumerate(short)])
        shelf.add(store, [2])
        for seed in (0, 2):
            best, *_ = shelf.query(shelf.clip(seed), folder=folder)
            assert_found(best, backend, seed, query=(0, 6), track=(6, 12))
