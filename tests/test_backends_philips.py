"""What `philips` claims beyond the contract of every backend."""

import numpy as np
import pytest
import soxr
from backend_contract import Shelf
from synthesis import noise

from afp.backends.philips import SPEEDS, Backend
from afp.store.packing import pack
from afp.synthesis import song


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(Backend(), tmp_path_factory.mktemp("philips") / "store")


def test_the_bit_error_rate_is_told(shelf):
    clip = shelf.clip(3)
    rates = []
    for level in (0.0, 0.5, 1.5):
        added = noise(6, 3, shelf.backend.sample_rate, level=max(level * clip.std(), 1e-9))
        best, *_ = shelf.query(clip + added)
        assert best.track.path == "/music/3"
        rates.append(best.details["ber"])
    assert rates == sorted(rates)
    assert rates[0] < 0.05
    assert 0.2 < rates[2] < 0.45


@pytest.mark.parametrize("speed", [0.955, 0.99, 1.035, 1.05])
def test_speed_is_told_within_a_thousandth(shelf, speed):
    rate = shelf.backend.sample_rate
    clip = soxr.resample(shelf.clip(7, 5, 5 + 7 * speed), speed * rate, rate)
    best, *_ = shelf.query(clip)
    assert best.track.path == "/music/7"
    assert best.p_false < 1e-3
    assert best.speed == pytest.approx(speed, abs=0.002)
    at = best.track_start - best.speed * best.query_start
    middle = best.speed * 3.5  # where an error of the speed counts for nothing
    assert at + middle == pytest.approx(5 + speed * 3.5, abs=0.003)


def test_a_second_suffices_for_a_clean_clip(shelf):
    found = [shelf.query(shelf.clip(seed, 8, 9.5)) for seed in range(6)]
    right = [bool(each) and each[0].track.path == f"/music/{i}" for i, each in enumerate(found)]
    assert all(right)
    assert np.median([each[0].p_false for each in found]) < 1e-3


def test_a_reference_takes_fewer_bytes_than_its_bits(shelf):
    backend = shelf.backend
    fingerprint = backend.extract(shelf.songs[0])
    seconds = len(shelf.songs[0]) / backend.sample_rate
    assert len(fingerprint) / seconds < 1.25 * backend.density
    assert len(pack(fingerprint)) + 6 * len(fingerprint) <= 413 * seconds
    assert len(fingerprint.evidence.frames) == pytest.approx(
        (seconds - backend.frame_length / backend.sample_rate) / backend.hop_seconds, abs=2
    )


def gliding(seed, rate, seconds=8.0):
    """A lone tone that glides between two frequencies drawn by chance, with nothing beside it."""
    low, high = 50 * (0.009 * 16_000) ** np.random.default_rng(seed).random(2)
    hertz = np.geomspace(low, min(high, 0.45 * rate), round(seconds * rate))
    return (0.5 * np.sin(2 * np.pi * np.cumsum(hertz) / rate)).astype(np.float32)


def test_a_lone_tone_that_glides_is_in_no_track(shelf):
    found = [shelf.query(gliding(seed, shelf.backend.sample_rate)) for seed in range(14, 23)]
    assert min((match.p_false for each in found for match in each), default=1.0) > 1e-3


def test_a_speed_beyond_those_searched_is_not_made_up(shelf):
    rate = shelf.backend.sample_rate
    clip = soxr.resample(shelf.clip(7, 5, 5 + 6 * 1.055), 1.055 * rate, rate)
    assert all(SPEEDS[0] <= each.speed <= SPEEDS[-1] + 1e-6 for each in shelf.query(clip))


@pytest.mark.parametrize("length", [float("inf"), float("nan"), 2048.5])
def test_a_length_that_is_no_whole_number_is_refused(length):
    with pytest.raises(ValueError, match="must be a whole number of samples"):
        Backend(frame_length=length)


def test_the_context_holds_what_a_hash_depends_on():
    slow = Backend(frame_length=4096, hop_length=512, density=4.0)
    assert slow.context_seconds > Backend().context_seconds >= 2.0


def test_as_many_tracks_are_named_as_are_asked_for(tmp_path):
    shelf = Shelf.__new__(Shelf)
    shelf.backend, shelf.folder = Backend(), tmp_path / "store"
    rate = shelf.backend.sample_rate
    recording = song(3, seconds=20, sample_rate=rate)
    shelf.songs = [
        recording + noise(20, i, rate, level=0.02 * (i + 1) * recording.std()) for i in range(9)
    ] + [song(40 + i, seconds=20, sample_rate=rate) for i in range(9)]
    with shelf.store(shelf.folder) as store:
        shelf.add(store, range(18))
    every = shelf.query(recording[5 * rate : 11 * rate], limit=18)
    editions = [match for match in every if match.p_false < 1e-3]
    assert {match.track.path for match in editions} == {f"/music/{i}" for i in range(9)}
    for limit in (1, 3, 8):
        assert shelf.query(recording[5 * rate : 11 * rate], limit=limit) == every[:limit]


def of_silence(samples, rate, seconds=60.0):
    """Put samples amid digital silence."""
    track = np.zeros(round(seconds * rate), np.float32)
    at = (len(track) - len(samples)) // 2
    track[at : at + len(samples)] = samples
    return track


@pytest.mark.parametrize(("seconds", "silent"), [(2, False), (5, False), (3, True), (10, True)])
def test_brief_tracks_and_bursts_in_silence_are_not_taken_for_other_music(
    tmp_path, seconds, silent
):
    shelf = Shelf.__new__(Shelf)
    shelf.backend, shelf.folder = Backend(), tmp_path / "store"
    rate = shelf.backend.sample_rate
    pieces = [song(200 + i, seconds=seconds, sample_rate=rate) for i in range(40)]
    shelf.songs = [of_silence(each, rate) for each in pieces] if silent else pieces
    with shelf.store(shelf.folder) as store:
        shelf.add(store, range(40))
    for length in (5, 12):
        for seed in range(6):
            absent = song(900 + seed, seconds=length, sample_rate=rate)
            assert all(each.p_false > 1e-3 for each in shelf.query(absent))
    around = song(990, seconds=6, sample_rate=rate)
    around[: len(pieces[9])] = pieces[9][: len(around)]
    best, *_ = shelf.query(around)
    assert best.track.path == "/music/9"
    assert best.p_false < 1e-3


def test_silence_behind_a_noisy_clip_does_not_hide_it(shelf):
    """Windows of a recording hold pauses; only what is heard can be held against a match."""
    right = {0: 0, 8: 0}
    for seed in range(8):
        clip = shelf.clip(seed, 6.0, 9.0)
        noisy = clip + noise(3.0, seed, 8000, level=clip.std())[: len(clip)]
        for pause in right:
            found = shelf.query(np.concatenate([noisy, np.zeros(pause * 8000, np.float32)]))
            right[pause] += (
                bool(found)
                and found[0].track.path == f"/music/{seed}"
                and (found[0].p_false < 1e-3)
            )
    assert right[0] >= 4
    assert right[8] >= right[0] - 1
