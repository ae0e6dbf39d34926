"""What the benchmarks of nets and of search are measured with, on toys."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afp.backends import neural
from afp.index import EmbeddingBlock
from afp.matching.inner_product import align

pytest_plugins = ["training_fixtures"]

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path():
    sys.path.append(BENCHMARKS)
    yield
    sys.path.remove(BENCHMARKS)


def unit(rng, n, d):
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def toy(seed, m, fineness, d=16):
    """Tracks as 8 bits would keep them, and a noisy query of m steps from one of them."""
    from sequences import quantised

    rng = np.random.default_rng(seed)
    tracks = [quantised(unit(rng, int(rng.integers(1, 30)), d)) for _ in range(5)]
    track = tracks[int(rng.integers(5))]
    first = int(rng.integers(len(track)))
    rows = [min(first + step // fineness, len(track) - 1) for step in range(m)]
    query = track[rows] + rng.normal(scale=0.3, size=(m, d)).astype(np.float32)
    return tracks, query / np.linalg.norm(query, axis=1, keepdims=True)


def block_of(tracks):
    scales = [float(np.abs(track).max()) / 127 for track in tracks]
    codes = [np.rint(t / s).astype(np.int8) for t, s in zip(tracks, scales, strict=True)]
    return EmbeddingBlock(
        np.concatenate([each.ravel() for each in codes]),
        np.cumsum([0, *(each.size for each in codes[:-1])]),
        np.array([len(each) for each in codes]),
        np.array(scales),
        np.arange(len(codes)),
        codes[0].shape[1],
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 15), st.sampled_from([(1, 0.0), (4, 0.8)]))
def test_float32_finds_what_the_backend_does(seed, m, grid):
    from sequences import Laid, exact

    fineness, side = grid
    tracks, query = toy(seed, m, fineness)
    found = align(query, [block_of(tracks)], fineness=fineness, side=side)
    best = int(np.argmax(found.scores))
    place = exact(query, Laid.of(tracks), fineness=fineness, side=side)
    if place != (found.track_ids[best], found.offsets[best]):  # only where both are as good
        scores = np.sort(found.scores)
        assert place.track != best
        assert scores[-1] - scores[-2] < 1e-3 * scores[-1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 15), st.sampled_from([(1, 0.0), (4, 0.8)]))
def test_votes_of_all_neighbours_find_what_is_exact(seed, m, grid):
    from sequences import Laid, aligned, exact

    fineness, side = grid
    tracks, query = toy(seed, m, fineness)
    laid = Laid.of(tracks)
    alike = query @ laid.vectors[laid.rows()].T
    hits = np.tile(laid.rows(), (m, 1))
    place = aligned(query, hits, alike, laid, fineness=fineness, side=side, most=10**6)
    assert place == exact(query, laid, fineness=fineness, side=side)


def test_no_hits_are_no_place():
    from sequences import Laid, aligned

    tracks, query = toy(0, 4, 4)
    none = np.full((4, 3), -1)
    laid = Laid.of(tracks)
    assert aligned(query, none, np.zeros((4, 3)), laid, fineness=4, side=0.8, most=9) is None


def test_faiss_finds_what_is_exact(monkeypatch):
    pytest.importorskip("faiss", reason="pip install faiss-cpu")
    import search_methods
    from queries import Query
    from search_methods import by_faiss
    from sequences import Laid, exact

    monkeypatch.setattr(search_methods, "PQ_PASSES", 1)
    rng = np.random.default_rng(3)
    tracks = [unit(rng, 60, 128) for _ in range(40)]
    laid = Laid.of(tracks)
    found = {(method.name, method.setting): method for method in by_faiss(laid, hnsw=True)}
    assert {name for name, _ in found} == {
        *("Faiss Flat", "Faiss SQ", "Faiss LSH", "Faiss IVF-Flat", "Faiss IVF-PQ", "Faiss HNSW")
    }
    vectors = np.repeat(tracks[17][20:25], neural.FINENESS, axis=0)
    vectors += rng.normal(scale=0.03, size=vectors.shape).astype(np.float32)
    truth = exact(vectors, laid, fineness=neural.FINENESS, side=neural.SIDE)
    assert truth.track == 17
    for method in found.values():
        assert method.search(Query(None, vectors, 17, 10.0)).place == truth
        assert method.n_bytes > 0


def test_the_papers_network_is_as_large_as_published():
    pytest.importorskip("torch", reason="training needs torch: pip install 'afp[train]'")
    from chang import BANDS, FRAMES, Chang

    from afp.training.model import n_operations, n_parameters

    net = Chang()
    assert round(n_parameters(net) / 1e6, 1) == 16.9
    assert round(n_operations(net, (FRAMES, BANDS)) / 1e6) == 304


def test_networks_are_trained_on_the_same_batches_and_resumed(parts, tmp_path):
    torch = pytest.importorskip("torch", reason="training needs torch: pip install 'afp[train]'")
    pytest.importorskip("onnxruntime")
    import networks
    from training_recordings import views

    from afp.training.validation import Validation

    recordings = views(parts)
    by_name = {variant.name: variant for variant in networks.ABLATIONS}
    by_name = {name: by_name[name] for name in ("no rooms", "triplet loss")}
    by_name["narrow"] = networks.Variant("narrow", make=networks.chang(8))
    made = {
        name: networks.kept(
            recordings, networks.configured(variant, steps=2, pairs=8), tmp_path / "batches"
        )
        for name, variant in by_name.items()
    }
    assert made["narrow"].folder == made["triplet loss"].folder
    assert made["narrow"].folder != made["no rooms"].folder
    first = made["narrow"].batch(0)
    again = made["triplet loss"].batch(0)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert np.array_equal(first.anchors, made["no rooms"].batch(0).anchors)
    assert not np.array_equal(first.replicas, made["no rooms"].batch(0).replicas)

    validation = Validation.made(
        recordings.music, None, None, distractors=None, n_queries=3, n_distractors=0, seed=0
    )

    def train(seconds):
        variant = by_name["narrow"]
        config = networks.configured(variant, steps=2, pairs=8)
        return networks.trained(
            variant,
            config,
            made["narrow"],
            validation,
            tmp_path,
            n_workers=0,
            seconds=seconds,
        )

    assert train(0.0).step == 0
    cut_short = train(1e-9)
    assert cut_short.step == 1
    done = train(60.0)
    figures = networks.figures_of(by_name["narrow"], done)
    assert (figures["steps"], figures["of_steps"]) == (2, 2)
    assert 0 <= figures["mean_track"] <= 1
    assert torch.equal(
        next(train(60.0).average.parameters()), next(done.average.parameters())
    )  # what is done is not done again
