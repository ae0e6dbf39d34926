"""What `neural` claims beyond the contract of every backend."""

import json
import pickle
import sys

import numpy as np
import pytest
from backend_contract import Shelf
from synthesis import noise, tone

from afp import backends
from afp.backends import neural
from afp.backends.neural import FINENESS, HOP_FRAMES, OVERHANG_STEPS, Backend
from afp.errors import StoreError, UsageError
from afp.features import embedding
from afp.features.embedding import Embedder
from afp.features.log_mel import N_BANDS, N_FRAMES, SEGMENT_SAMPLES, mel_powers, normalised
from afp.library.choice import backend_of_store
from afp.matching.inner_product import Alignments
from afp.store import Store

SHIPPED, _ = neural._read("", "")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(Backend(), tmp_path_factory.mktemp("neural") / "store")


def test_a_place_is_told_within_a_tenth_of_a_second(shelf):
    """A hop is half a second: the rest is read off the similarities of the query's segments."""
    errors = []
    for seed in range(8):
        start = 6 + 0.17 * (seed % 4) + 0.031 * seed
        best, *_ = shelf.query(shelf.clip(seed, start, start + 6))
        assert best.track.path == f"/music/{seed}"
        errors.append(best.track_start - best.query_start - start)
    assert np.abs(errors).max() < 0.25
    assert np.median(np.abs(errors)) < 0.1


@pytest.mark.parametrize("seconds", [1.0, 1.5, 2.0])
def test_short_noisy_clips_find_their_track(shelf, seconds):
    right = 0
    for seed in range(10):
        clip = shelf.clip(seed, 7.2, 7.2 + seconds)
        added = noise(seconds, seed, 8000, level=clip.std() * 10**-0.25)[: len(clip)]
        best, *_ = shelf.query(clip + added)
        right += best.track.path == f"/music/{seed}"
    assert right >= 8


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_a_small_store_is_sure_of_what_it_holds(shelf, tmp_path, n):
    with shelf.store(tmp_path / "store") as store:
        shelf.add(store, range(n))
    for seconds in (3.0, 6.0):
        best, *others = shelf.query(shelf.clip(0, 7.2, 7.2 + seconds), folder=tmp_path / "store")
        assert best.track.path == "/music/0"
        assert best.p_false < 1e-3
        assert all(match.p_false > 1e-3 for match in others)
        absent = shelf.query(shelf.clip(8, 7.2, 7.2 + seconds), folder=tmp_path / "store")
        assert all(match.p_false > 1e-3 for match in absent)


@pytest.mark.parametrize("n_others", [0, 1, 4])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_a_small_store_may_hold_a_recording_several_times(shelf, tmp_path, n, n_others):
    rate = shelf.backend.sample_rate
    with shelf.store(tmp_path / "store") as store:
        shelf.add(store, range(1, 1 + n_others))
        song = shelf.songs[0]
        for i in range(n):
            hiss = noise(len(song) / rate, i, rate, level=0.02 * song.std())[: len(song)]
            store.add([shelf.new_track(3000 + i, song + hiss)])
    for seconds in (3.0, 10.0):
        clip = shelf.clip(0, 7.2, 7.2 + seconds)
        found = shelf.query(clip, limit=n, folder=tmp_path / "store")
        sure = {match.track.path for match in found if match.p_false < 1e-3}
        assert sure == {f"/music/{3000 + i}" for i in range(n)}


def null_of(*best):
    """Return what scores are held against where these are the best among many by chance."""
    chance = np.random.default_rng(0).exponential(0.004, 300)
    scores = np.concatenate([best, np.minimum(chance, 0.02)])
    count = np.full(len(scores), 200.0)
    powers = np.stack([count, count * 0.003**2], axis=1)
    places = np.arange(len(scores))
    return neural._Null.of(Alignments(places, scores, places, powers), 0.0, 20)


@pytest.mark.parametrize("n", range(1, neural.MOST_PRESENT + 1))
def test_copies_of_a_track_hide_it_not(n):
    alone, crowded = null_of(0.3), null_of(*np.linspace(0.3, 0.27, n))
    assert crowded.level == alone.level < 0.05
    assert crowded.p_false(0.27) < 1e-3


def test_more_copies_than_that_hide_each_other():
    assert null_of(*[0.3] * (neural.MOST_PRESENT + 1)).p_false(0.3) > 0.1


def test_music_that_is_heard_beside_is_no_rival():
    assert null_of(0.15, 0.12).level == null_of(0.15).level


def test_music_that_is_alike_in_part_is_a_rival():
    among, alone = null_of(0.2, 0.15, 0.11, 0.08), null_of(0.2)
    assert among.level == 0.15
    assert among.p_false(0.2) > 0.1
    assert alone.p_false(0.2) < 1e-3


def test_a_place_that_another_backend_names_is_held_against_the_fifth_track():
    among, alone = null_of(0.15, 0.11, 0.08, 0.06), null_of(0.15)
    assert among.p_false_at(0.15) == alone.p_false_at(0.15) < 1e-3
    assert null_of(0.15, *[0.12] * 4).p_false_at(0.15) > 1e-3


def test_a_silent_track_is_no_match(shelf, tmp_path):
    with shelf.store(tmp_path / "store") as store:
        store.add([shelf.new_track(3000, np.zeros(80_000, np.float32))])
    assert shelf.query(shelf.clip(0, 7.2, 9.2), folder=tmp_path / "store") == []


def test_a_model_is_known_by_its_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(SHIPPED)
    monkeypatch.chdir(tmp_path)
    parameters = Backend(model="net.onnx").parameters()
    assert parameters["model"] == str(tmp_path / "net.onnx")
    monkeypatch.chdir("/")
    assert Backend(**parameters).parameters() == parameters
    (tmp_path / "net.onnx").unlink()
    with pytest.raises(StoreError, match=r"net.onnx cannot be read: No such file") as caught:
        Backend(**parameters)
    assert parameters["weights"] in caught.value.hint
    with pytest.raises(UsageError, match=r"net.onnx cannot be read") as caught:
        Backend(model="net.onnx")
    assert "afp train" in caught.value.hint


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
def test_a_large_store_is_searched_through_cells(tmp_path, monkeypatch, seconds):
    """The cells are drawn at random here: those of a model come from its music."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((64, 128)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    backend = Backend()
    monkeypatch.setattr(backend, "_centres", centres)
    shelf = Shelf(backend, tmp_path / "store")
    clips = [shelf.clip(seed, 7.2, 7.2 + seconds) for seed in range(6)]
    everywhere = [shelf.query(clip)[0] for clip in clips]
    monkeypatch.setattr(neural, "MOST_EXACT", 0)
    for exact, clip in zip(everywhere, clips, strict=True):
        best, *others = shelf.query(clip, limit=3)
        assert best.track.id == exact.track.id
        assert best.score == pytest.approx(exact.score, abs=1e-6)
        assert best.track_start == pytest.approx(exact.track_start, abs=1e-6)
        assert best.p_false < (1e-3 if seconds == 3.0 else 0.1)
        assert all(match.p_false > 1e-3 for match in others)


def test_a_clip_shorter_than_a_segment_has_no_match(shelf):
    n = SEGMENT_SAMPLES - 1
    assert len(shelf.backend.extract(shelf.songs[0][8000 : 8000 + n], dense=True)) == 0
    assert len(shelf.backend.extract(shelf.songs[0][8000 : 8001 + n], dense=True)) == 1 + 2
    assert shelf.query(shelf.songs[0][8000 : 8000 + n]) == []


def test_a_segment_sticks_out_at_either_end_of_a_query(shelf):
    # As what is blank in a segment of a longer clip: at the mean of the frames that there are.
    clip = shelf.songs[1][8000:18_000]
    found = shelf.backend.extract(clip, dense=True)
    assert found.dense["steps"].tolist() == list(range(len(found)))
    powers = mel_powers(clip)
    step = HOP_FRAMES // FINENESS
    for row, place in ((0, -step), (-1, (len(found) - 1 - OVERHANG_STEPS) * step)):
        segment = np.full((N_FRAMES, N_BANDS), np.nan, np.float32)
        for frame in range(N_FRAMES):
            if 0 <= place + frame < len(powers):
                segment[frame] = powers[place + frame]
        heard = ~np.isnan(segment[:, 0])
        assert heard.sum() < N_FRAMES
        segment[heard] = normalised(segment[heard])
        segment[~heard] = 0
        expected = shelf.backend._embed._run(segment[None])[0]
        np.testing.assert_allclose(found.vectors[row], expected, atol=1e-5)
    quiet = np.concatenate([clip, np.zeros(8000, np.float32)])
    heard = shelf.backend.extract(quiet, dense=True).dense["steps"].tolist()
    assert heard == list(range(heard[-1] + 1))
    assert heard[-1] == OVERHANG_STEPS + (len(clip) - 1) // 1000  # the last that begins in sound
    silent_first = np.concatenate([np.zeros(16_000, np.float32), clip])
    assert shelf.backend.extract(silent_first, dense=True).dense["steps"][0] > OVERHANG_STEPS


def test_the_score_is_the_similarity_at_the_place(shelf):
    backend = shelf.backend
    samples = shelf.songs[2][8000 : 8000 + 6 * 8000]  # begins on a hop
    best, *_ = shelf.query(samples)
    assert 0.9 < best.score <= 1.01
    other = shelf.query(samples, limit=3)[1]
    assert other.score < 0.8
    assert other.p_false > best.p_false
    assert backend.extract(samples).vectors.shape == (11, 128)
    assert backend.extract(samples, dense=True).vectors.shape == (41 + 2, 128)


def test_half_the_dimensions_take_half_the_room_and_find_the_same(tmp_path, shelf):
    backend = Backend(dimensions=64)
    assert backend.parameters()["dimensions"] == 64
    assert pickle.loads(pickle.dumps(backend)).parameters() == backend.parameters()
    short = Shelf(backend, tmp_path / "store")
    for seed in range(6):
        clip = shelf.clip(seed, 7.2, 10.2)
        best, *_ = short.query(clip)
        assert best.track.path == shelf.query(clip)[0].track.path == f"/music/{seed}"
        assert best.p_false < 1e-3
    whole, half = (each.extract(shelf.songs[0]).vectors for each in (shelf.backend, backend))
    assert half.shape == (len(whole), 64)
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        half, whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True), atol=1e-5
    )


@pytest.mark.parametrize("dimensions", [-1, 8, 129])
def test_dimensions_that_the_model_does_not_have(dimensions):
    with pytest.raises(ValueError, match=f"must be 16 to 128, not {dimensions}"):
        Backend(dimensions=dimensions)


def test_a_pickle_names_the_model_instead_of_holding_it():
    pickled = pickle.dumps(Backend())
    assert len(pickled) < 1000
    assert pickle.loads(pickled).parameters() == Backend().parameters()


def test_embeddings_do_not_depend_on_what_else_is_in_the_batch():
    embedder = Embedder(SHIPPED, "shipped")
    powers = mel_powers(noise(40, 3, 8000))
    places, together = embedder(powers, hop_frames=16)
    for k in (0, 31, 32, 50):
        _, alone = embedder(powers[16 * k : 16 * k + 28], hop_frames=16)
        np.testing.assert_allclose(alone[0], together[k], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    powers[16:48] = 0
    heard, rest = embedder(powers, hop_frames=16)
    assert sorted(set(places) - set(heard)) == [1]
    np.testing.assert_allclose(rest[4:], together[5:], atol=1e-5)


def without_metadata(**changes):
    """Return the shipped model with other metadata."""
    onnx = pytest.importorskip("onnx", reason="pip install 'afp[train]'")
    model = onnx.load_from_string(SHIPPED)
    about = {entry.key: entry.value for entry in model.metadata_props} | changes
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {k: v for k, v in about.items() if v is not None})
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": None}, "not a model that afp has made"),
        ({"kind": "other"}, "not a model that afp has made"),
        ({"format": "2"}, "a model of format '2', this afp reads 1"),
        (
            {"front_end": json.dumps({**embedding.front_end(), "n_fft": 2048})},
            "trained behind another front end .n_fft 2048, not 1024.",
        ),
        ({"front_end": "{"}, "damaged metadata"),
        ({"centres": "AAAA"}, "damaged metadata"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path, changes, message):
    path = tmp_path / "m.onnx"
    path.write_bytes(without_metadata(**changes))
    with pytest.raises(UsageError, match=message) as caught:
        Backend(model=str(path))
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin", "{}/weights.bin"])
@pytest.mark.parametrize("optimised", [True, False])
def test_a_model_reads_no_other_file(tmp_path, monkeypatch, place, optimised):
    onnx = pytest.importorskip("onnx", reason="pip install 'afp[train]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    model = onnx.load_from_string(SHIPPED)
    weights = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place.format(tmp_path))
    path = tmp_path / "sub" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path / "sub")
    if not optimised:  # who optimises a model may refuse what who runs it would read
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        made = onnxruntime.SessionOptions
        monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: _at(made(), level))
    with pytest.raises(UsageError, match=r"m\.onnx: no ONNX model"):
        Backend(model=str(path))


def _at(options, level):
    options.graph_optimization_level = level
    return options


@pytest.mark.parametrize("n", [0, 100, len(SHIPPED) // 2, len(SHIPPED) - 1])
def test_a_truncated_model_is_refused(tmp_path, n):
    path = tmp_path / "m.onnx"
    path.write_bytes(SHIPPED[:n])
    with pytest.raises(UsageError, match=r"m\.onnx: (no ONNX model|not a model)") as caught:
        backends.create("neural", model=str(path))
    assert "\n" not in str(caught.value)


def test_a_machine_without_onnxruntime_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="onnxruntime, which runs the model") as caught:
        Backend()
    assert caught.value.hint == "pip install onnxruntime"


def test_a_store_of_other_weights_is_refused(tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(without_metadata(step="1"))
    own, theirs = Backend(model=str(other)), Backend()
    assert own.weights != theirs.weights
    with Store.open(tmp_path / "store", write=True) as store:
        store.register("neural", version=1, parameters=own.parameters(), hop_seconds=0.5)
        assert backend_of_store(store).parameters() == own.parameters()
        other.write_bytes(SHIPPED)
        with pytest.raises(
            StoreError, match=f"{own.weights} are wanted.*{theirs.weights}"
        ) as caught:
            backend_of_store(store)
        assert "new store (-d)" in caught.value.hint


@pytest.mark.parametrize("hz", [220.0, 523.25, 1500.0])
@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_a_tone_is_not_found_in_a_track_that_holds_one_alone(shelf, tmp_path, hz, seconds):
    rate = shelf.backend.sample_rate
    folder = tmp_path / "store"
    with shelf.store(folder) as store:
        shelf.add(store, range(6))
        held = shelf.songs[6].copy()
        held[5 * rate : 12 * rate] = tone(7, hz, rate)
        store.add([shelf.new_track(3000, held)])
        best, *_ = shelf.query(tone(seconds, hz, rate), folder=folder)
        assert best.track.path == "/music/3000"
        assert best.p_false > 1e-2


def test_what_a_net_makes_of_plain_sounds_is_in_its_file():
    embedder = Embedder(SHIPPED, "shipped")
    shipped = embedder.plain()
    embedder._plain = ""
    np.testing.assert_allclose(embedder.plain(), shipped, atol=0.01)
    embedder._plain = "not base 64"
    with pytest.raises(UsageError, match="shipped: a model with damaged metadata"):
        embedder.plain()


def test_the_powers_of_a_query_share_the_frames_of_a_reference():
    samples = noise(5, 1, 8000)
    backend = Backend()
    sparse, dense = backend.extract(samples), backend.extract(samples, dense=True)
    np.testing.assert_allclose(
        dense.vectors[OVERHANG_STEPS::4][: len(sparse)], sparse.vectors, atol=1e-4
    )
    assert mel_powers(samples).shape[1] == N_BANDS
