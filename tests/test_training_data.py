"""Anchors, replicas and the recordings behind them; no torch needed."""

import numpy as np
import pytest
from synthesis import music
from training_fixtures import pcm
from training_recordings import views, write

from afp.audio import walk
from afp.distort.time_pitch import speed
from afp.errors import InputError, UsageError
from afp.features.log_mel import N_BANDS, N_FRAMES, SEGMENT_SAMPLES
from afp.training import channel
from afp.training.batches import Batches
from afp.training.channel import Bank, N
from afp.training.config import Config
from afp.training.pcm import Pcm
from afp.training.sources import Sources
from afp.training.validation import HOP_SECONDS, Validation
from afp.training.views import N_NEAR, Mixture

pytest_plugins = ["training_fixtures"]

QUIET = dict.fromkeys(
    (
        "offset_seconds",
        "key_share",
        "mix_share",
        "speed_share",
        "room_share",
        "loudspeaker_share",
        "device_share",
        "noise_share",
        "clip_share",
        "codec_share",
        "cut_share",
    ),
    0.0,
)


def test_pcm_holds_each_recording_at_full_scale(recordings, parts):
    tracks = parts[0]
    assert [name[-6:] for name in tracks.names] == [f"{seed:02}.wav" for seed in range(12)]
    expected = music(6.0, seed=3)
    found = tracks[3] / np.abs(tracks[3]).max()
    np.testing.assert_allclose(found, expected / np.abs(expected).max(), atol=1e-3)
    assert all(np.abs(tracks[i]).max() == 32767 for i in range(12))


def test_pcm_is_made_once(recordings, tmp_path):
    files = list(walk([recordings / "noise"]))
    first = Pcm.decoded(files, tmp_path / "noise.pcm")
    made = (tmp_path / "noise.pcm").stat().st_mtime_ns
    assert Pcm.decoded(files, tmp_path / "noise.pcm") == first
    assert (tmp_path / "noise.pcm").stat().st_mtime_ns == made
    assert len(Pcm.decoded(files[:1], tmp_path / "noise.pcm")) == 1


def test_pcm_refuses_a_folder_without_sound(tmp_path):
    write(tmp_path / "silence.wav", np.zeros(8000, np.float32))
    with pytest.raises(InputError, match="no audio in it that can be used"):
        Pcm.decoded(list(walk([tmp_path])), tmp_path / "x.pcm")


def test_a_cut_is_zero_outside_its_recording(parts):
    tracks, out = parts[0], np.ones(100, np.float32)
    tracks.cut(1, -40, out)
    assert not out[:40].any()
    np.testing.assert_allclose(out[40:] * 32767, tracks[1][:60], atol=0.01)
    tracks.cut(1, len(tracks[1]) - 30, out)
    assert not out[30:].any()
    tracks.cut(1, 10**7, out)
    assert not out.any()


def test_batches_follow_from_seed_and_step_alone(parts):
    first, again = views(parts).batch(7), views(parts).batch(7)
    for found, expected in zip(first, again, strict=True):
        np.testing.assert_array_equal(found, expected)
    for other in (views(parts).batch(8), views(parts, seed=1).batch(7)):
        assert not np.array_equal(first.anchors, other.anchors)
        assert not np.array_equal(first.replicas, other.replicas)


def test_batches_are_whole(parts):
    batch = views(parts, pairs=12).batch(0)
    for segments in (batch.anchors, batch.replicas):
        assert segments.shape == (12, N_FRAMES, N_BANDS)
        assert np.isfinite(segments).all()
    np.testing.assert_allclose(batch.anchors.astype(float).std(axis=(1, 2)), 1, atol=1e-2)


@pytest.mark.parametrize(("pairs", "per_track"), [(12, 1), (12, 3), (20, 2)])
def test_as_many_anchors_of_a_track_as_wanted(parts, pairs, per_track):
    tracks = views(parts, pairs=pairs, per_track=per_track).batch(0).tracks[:, 0]
    assert len(tracks) == pairs
    assert set(np.unique(tracks, return_counts=True)[1]) == {per_track}


def test_a_replica_without_changes_is_the_anchor(parts):
    anchors, replicas, _ = views(parts, **QUIET).batch(3)
    np.testing.assert_allclose(replicas, anchors, atol=2e-2)


def alone(tracks, centres):
    n = len(tracks)
    nothing = np.zeros(n, np.int64)
    return Mixture(np.array(tracks), np.array(centres), nothing, nothing, np.zeros(n, np.float32))


def test_both_views_have_the_same_track_mixed_in(parts):
    mixing = views(parts, **{**QUIET, "mix_share": 1.0, "mix_db": [0.0, 0.0]})
    plain = views(parts, **QUIET)
    anchors, replicas, _ = mixing.batch(3)
    np.testing.assert_allclose(replicas, anchors, atol=2e-2)
    assert not np.allclose(plain.batch(3).anchors, anchors, atol=0.5)
    assert (plain.batch(3).tracks[:, 1] == -1).all()
    first, second = mixing.batch(3).tracks.T
    assert sorted(first) == sorted(second)  # each is mixed in once
    assert (first != second).all()


def test_what_is_mixed_is_a_sum(parts):
    first, second = alone([1, 2], [20_000, 21_000]), alone([5, 6], [30_000, 31_000])
    mixed = first._replace(
        others=second.tracks,
        other_centres=second.centres,
        gains=np.array([0.5, 0.0], np.float32),
    )
    found = views(parts).pieces(mixed.shifted(np.array([100, 200])), N_NEAR, N_NEAR)
    one, other = (
        views(parts).pieces(each.shifted(np.array([100, 200])), N_NEAR, N_NEAR)
        for each in (first, second)
    )
    np.testing.assert_allclose(found[0], one[0] + 0.5 * other[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], one[1])


def test_a_loudspeaker_colours_the_music_and_not_the_noise(parts):
    settings = {**QUIET, "noise_share": 1.0, "hard_share": 0.0}
    mixture = alone([1, 5], [20_000, 30_000])
    for share, snr_db in ((0.0, 60.0), (1.0, 60.0), (1.0, -60.0)):
        heard = views(
            parts, **{**settings, "loudspeaker_share": share, "snr_db": [snr_db, snr_db]}
        ).heard(mixture, N, np.random.default_rng(0))
        if share == 0:
            clean = heard
        elif snr_db > 0:
            assert all(np.corrcoef(a, b)[0, 1] < 0.999 for a, b in zip(heard, clean, strict=True))
        else:
            noise = views(parts, **{**settings, "snr_db": [-60.0, -60.0]}).heard(
                mixture, N, np.random.default_rng(0)
            )
            assert all(np.corrcoef(a, b)[0, 1] > 0.999 for a, b in zip(heard, noise, strict=True))


@pytest.mark.parametrize("n_source", [N_NEAR, 8600, 7840])
def test_pieces_are_where_and_as_fast_as_they_should_be(parts, n_source):
    middle = 2 * N_NEAR  # in samples as they are played
    (piece,) = views(parts).pieces(alone([2], [2 * n_source]), n_source, N_NEAR)
    faster = speed(parts[0][2] / np.float32(32767), factor=n_source / N_NEAR)
    expected = faster[middle - SEGMENT_SAMPLES // 2 :][:SEGMENT_SAMPLES]
    # A place is rounded to a sample, which the lower half of the spectrum hardly feels.
    smooth = [np.convolve(samples, np.hanning(9), "valid") for samples in (piece, expected)]
    assert np.corrcoef(smooth)[0, 1] > 0.98


def test_what_is_heard_is_in_time(parts, recordings, tmp_path, monkeypatch):
    # In a room, the direct sound stays in place, unless it is so weak that reflections are louder.
    monkeypatch.setattr(channel, "FAR_SHARE", 0.0)
    monkeypatch.setattr(channel, "N_MADE_ROOMS", 1)
    rooms = Bank.rooms(pcm(recordings, "rooms", tmp_path), tmp_path / "rooms.bank", seed=0)
    near = (*parts[:2], rooms, parts[3])
    quiet = views(near, **{**QUIET, "room_share": 1.0, "recorded_room_share": 1.0})
    mixture = alone([4], [25_000])
    (clean,) = quiet.pieces(mixture, N, N)
    for seed in range(5):
        (heard,) = quiet.heard(mixture, N, np.random.default_rng(seed))
        spectrum = np.fft.rfft(heard, 2 * len(heard)) * np.fft.rfft(clean, 2 * len(clean)).conj()
        lag = int(np.argmax(np.fft.irfft(spectrum)))
        assert min(lag, 2 * len(heard) - lag) <= 8


def test_a_room_out_of_sight_is_late_and_not_early(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(channel, "N_MADE_ROOMS", 20)
    monkeypatch.setattr(channel, "FAR_SHARE", 1.0)
    strongest = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(channel, "HIDDEN_SHARE", share)
        monkeypatch.setattr(channel, "FARTHEST_DB", 0.0)
        rooms = Bank.rooms(None, tmp_path / f"{share}.bank", seed=0)
        responses = np.stack([np.fft.irfft(rooms[i]) for i in range(20)])
        np.testing.assert_allclose((responses**2).sum(axis=1), 1, atol=1e-3)
        early = (responses[:, -N // 8 :] ** 2).sum(axis=1)
        assert early.max() < 1e-6
        strongest[share] = np.abs(responses).argmax(axis=1) / 8000
    assert not strongest[0.0].any()
    assert np.median(strongest[1.0]) > 0.005


def test_what_hardly_reverberates_hides_nothing(monkeypatch):
    monkeypatch.setattr(channel, "FAR_SHARE", 1.0)
    monkeypatch.setattr(channel, "HIDDEN_SHARE", 1.0)
    dry = np.zeros(400, np.float32)
    dry[10], dry[30:] = 1, 1e-4
    moved = channel._moved_away(dry, np.random.default_rng(0))
    assert np.argmax(np.abs(moved)) == 10


@pytest.mark.parametrize("snr_db", [-5.0, 10.0])
def test_noise_has_the_ratio_asked_for(parts, snr_db):
    settings = {**QUIET, "hard_share": 0.0}
    mixture = alone([1, 5], [20_000, 30_000])
    noisy = views(parts, **{**settings, "noise_share": 1.0, "snr_db": [snr_db, snr_db]})
    heard = noisy.heard(mixture, N, np.random.default_rng(0))
    clean = noisy.pieces(mixture, N, N)
    ratios = (clean**2).mean(axis=1) / ((heard - clean) ** 2).mean(axis=1)
    np.testing.assert_allclose(10 * np.log10(ratios), snr_db, atol=0.1)


def test_workers_make_the_same_batches(parts):
    expected = [views(parts).batch(step).replicas for step in (5, 6, 7)]
    for n_workers in (0, 2):
        with Batches(views(parts), first=5, n_workers=n_workers) as batches:
            found = [batch.replicas for _, batch in zip(range(3), batches, strict=False)]
        np.testing.assert_array_equal(found, expected)


def test_too_few_tracks_are_refused(parts):
    with pytest.raises(
        UsageError, match="tracks that can be used: 12, too few for batches of 13 pairs"
    ):
        views(parts, pairs=13)


def test_sources_keep_a_tenth_aside(recordings, tmp_path):
    sources = Sources(
        music=(str(recordings / "music"),),
        noise=(str(recordings / "noise"),),
        rooms=(str(recordings / "rooms"),),
    )
    config = Config(pairs=8)
    made, validation = sources.prepared(config, tmp_path, n_queries=3, n_distractors=20)
    unseen = set(range(12)) - {int(name[-6:-4]) for name in made.music.names}
    assert 1 <= len(unseen) <= 3
    assert made.noise is not None and len(made.noise) == 1
    assert made.rooms.n_recorded > 0
    assert (validation.tracks < len(unseen)).sum() > 0


def test_validation_finds_what_it_should(parts, tmp_path, recordings):
    validation = Validation.made(
        parts[0], parts[1], None, distractors=None, n_queries=6, n_distractors=0, seed=0
    )
    scores = validation.scores(lambda segments: unit(segments.reshape(len(segments), -1)))
    assert scores["clean 3s near"] == 1.0
    rng = np.random.default_rng(0)
    scores = validation.scores(lambda segments: unit(rng.standard_normal((len(segments), 32))))
    assert scores["clean 3s near"] < 0.5
    assert np.diff(validation.seconds[validation.tracks == 0]) == pytest.approx(HOP_SECONDS)


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["colour=1"], "there is no setting 'colour'"),
        (["steps=many"], "steps='many' is not what is wanted"),
        (["steps=1.5"], "steps=1.5 is not what is wanted"),
        (["steps"], "steps: not KEY=VALUE"),
        (["steps=0"], "steps=0 trains nothing"),
        (["pairs=1"], "pairs=1 trains nothing"),
        (["snr_db=[1,2,3]"], r"snr_db=\[1, 2, 3\] is not what is wanted"),
        (["loss=l2"], "there is no loss 'l2'"),
        (["noise_share=2"], "noise_share=2.0 is no share"),
        (["memory=-1"], "memory=-1 is negative"),
        (["learning_rate=nan"], "learning_rate is no number"),
        (["snr_db=[0,inf]"], "snr_db is no number"),
        (["temperature=0"], "temperature=0.0 is too small"),
        (["weight_decay=-1"], "weight_decay=-1.0 is negative"),
        (["average_decay=1"], "average_decay=1.0 is no share of the past"),
        (["mix_db=[0,-12]"], r"mix_db=\[0.0,-12.0\] is no range"),
        (["short_dimensions=128"], "not below dimensions=128"),
        (["channels=[32]"], "3 numbers of blocks for 1 stages"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Config.read(None, settings)


def test_settings_are_read_in_turn(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('steps = 5\nloss = "triplet"\nsnr_db = [0, 5]\n')
    config = Config.read(path, ["steps=7", "loss=nt_xent"], before={"pairs": 3, "steps": 1})
    assert (config.steps, config.loss, config.snr_db, config.pairs) == (7, "nt_xent", (0.0, 5.0), 3)
    assert Config.checked(config.as_dict()) == config


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "run.toml").write_text("steps: 5\n")
    with pytest.raises(UsageError, match="not TOML"):
        Config.read(tmp_path / "run.toml")
