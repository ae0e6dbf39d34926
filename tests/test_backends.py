"""What every backend promises of its parameters and fingerprints.

Over `afp.backends.names()`, some sets of parameters and the example; see `backend_contract`.
"""

import importlib.metadata
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from backend_contract import EXAMPLE, LESS, piece, require
from synthesis import noise, silence

from afp import backends
from afp.errors import UsageError
from afp.library import streaming
from afp.library.streaming import ChunkedExtraction

pytest_plugins = ["backend_fixtures"]
pytestmark = pytest.mark.filterwarnings("error")

BAD_PARAMETERS = {
    "shazam": [
        ({"density": 4.9}, r"density must be 5 to 500"),
        ({"density": float("nan")}, r"density must be 5 to 500"),
        ({"peak_density": 1e4}, r"peak_density must be 5 to \d+"),
        ({"density": "many"}, r"not supported"),
    ],
    "philips": [
        ({"frame_length": 100}, r"frame_length must be 256 to 4096"),
        ({"frame_length": 1000.5}, r"frame_length must be a whole number"),
        ({"hop_length": 31}, r"hop_length must be 32"),
        ({"hop_length": 512}, r"hop_length must be 32"),
        ({"density": float("nan")}, r"density must be 4 to 200"),
    ],
    "neural": [({"model": "/no/such.onnx"}, r"the model /no/such.onnx cannot be read")],
}


def hop(backend):
    return round(backend.hop_seconds * backend.sample_rate)


def arrays(fingerprint):
    """Everything in a fingerprint, by name."""
    named = {"n_frames": np.array(fingerprint.n_frames), "frames": fingerprint.frames}
    named |= {"hashes": fingerprint.hashes, "vectors": fingerprint.vectors, **fingerprint.dense}
    if fingerprint.evidence is not None:
        named["evidence.frames"] = fingerprint.evidence.frames
        named["evidence.values"] = fingerprint.evidence.values
    return {name: array for name, array in named.items() if array is not None}


def assert_equal(one, other):
    """Embeddings within rounding: sums of products depend on what else is computed with them."""
    one, other = arrays(one), arrays(other)
    assert one.keys() == other.keys()
    for name in one:
        if name == "vectors":
            np.testing.assert_allclose(one[name], other[name], atol=2e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def likeness(one, other):
    """Share of the peaks, or of the postings where there are none, that both have.

    Of embeddings: the mean similarity of those of one moment.
    """
    if one.vectors is not None:
        _, left, right = np.intersect1d(one.frames, other.frames, return_indices=True)
        products = np.einsum("ij,ij->i", one.vectors[left], other.vectors[right])
        return products.sum() / max(len(one), len(other))
    sets = [
        set(zip(seen.frames.tolist(), seen.values.tolist(), strict=True))
        if (seen := fingerprint.evidence) is not None
        else set(zip(fingerprint.frames.tolist(), fingerprint.hashes.tolist(), strict=True))
        for fingerprint in (one, other)
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


# Parameters


def test_parameters_build_the_same_backend_again(backend):
    parameters = backend.parameters()
    assert json.loads(json.dumps(parameters, allow_nan=False)) == parameters
    assert type(backend)(**parameters).parameters() == parameters
    if backend.name in backends.names():
        again = backends.create(backend.name, **json.loads(json.dumps(parameters)))
        assert (again.name, again.version) == (backend.name, backend.version)
        assert again.parameters() == parameters


def test_attributes_have_their_types(backend):
    assert isinstance(backend.name, str)
    assert isinstance(backend.version, int)
    assert isinstance(backend.sample_rate, int)
    assert 0 < backend.hop_seconds < 1
    assert float(backend.hop_seconds * backend.sample_rate).is_integer()
    assert backend.context_seconds >= 0
    assert backend.window_seconds > 1


@pytest.mark.parametrize("name", backends.names())
def test_names_create_what_they_name(name):
    assert backends.create(name).name == name


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [(name, *bad) for name, each in BAD_PARAMETERS.items() for bad in each]
    + [(name, {"no_such": 1}, "no_such") for name in backends.names()],
)
def test_bad_parameters_are_refused_with_their_name(name, parameters, message):
    with pytest.raises(UsageError, match=f"backend '{name}'.*{message}"):
        backends.create(name, **parameters)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="no backend is called 'panacea'") as caught:
        backends.create("panacea")
    assert all(name in caught.value.hint for name in backends.names())


def test_an_entry_point_is_a_backend(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    point = importlib.metadata.EntryPoint(
        "loudest", "own_backend:Backend", backends.ENTRY_POINT_GROUP
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])
    assert "loudest" in backends.names()
    assert backends.create("loudest").name == "loudest"


def test_a_broken_entry_point_is_named(monkeypatch):
    point = importlib.metadata.EntryPoint(
        "broken", "no_such_package:Backend", backends.ENTRY_POINT_GROUP
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])
    with pytest.raises(UsageError, match=r"backend 'broken' cannot be loaded: .*no_such_package"):
        backends.create("broken")


# Extraction


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.3, 1.0, 5.0, 5.011])
def test_shapes_and_types(backend, seconds, dense):
    samples = piece(backend, 1, seconds)
    before = samples.copy()
    fingerprint = backend.extract(samples, dense=dense)
    np.testing.assert_array_equal(samples, before)
    n = len(fingerprint)
    assert isinstance(fingerprint.n_frames, int)
    assert abs(fingerprint.n_frames - len(samples) / hop(backend)) < 1
    assert fingerprint.frames.dtype == np.uint32
    assert fingerprint.frames.shape == (n,)
    assert (np.diff(fingerprint.frames.astype(np.int64)) >= 0).all()
    assert (fingerprint.frames < fingerprint.n_frames).all()
    assert fingerprint.hashes is not None or fingerprint.vectors is not None
    if fingerprint.hashes is not None:
        assert fingerprint.hashes.dtype == np.uint32
        assert fingerprint.hashes.shape == (n,)
    if fingerprint.vectors is not None:
        assert fingerprint.vectors.dtype in (np.float16, np.float32)
        assert fingerprint.vectors.shape[:1] == (n,)
        assert np.isfinite(fingerprint.vectors).all()
    evidence = fingerprint.evidence
    if evidence is not None:
        assert evidence.frames.dtype == evidence.values.dtype == np.uint32
        assert evidence.frames.shape == evidence.values.shape
        assert (np.diff(evidence.frames.astype(np.int64)) >= 0).all()
        assert (evidence.frames < fingerprint.n_frames).all()
    if seconds >= 5:
        assert n >= seconds
        if "many postings" not in LESS.get(backend.name, ()):
            assert n > 5 * seconds


@pytest.mark.parametrize("dense", [False, True])
def test_equal_audio_gives_equal_fingerprints(backend, dense):
    samples = piece(backend, 2, 6)
    first = backend.extract(samples, dense=dense)
    assert_equal(backend.extract(samples.copy(), dense=dense), first)
    assert_equal(type(backend)(**backend.parameters()).extract(samples, dense=dense), first)
    read_only = samples.copy()
    read_only.flags.writeable = False
    assert_equal(backend.extract(read_only, dense=dense), first)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", ["silence", "constant", "empty", "one sample", "too short"])
def test_nothing_is_made_of_nothing(backend, kind, dense):
    rate = backend.sample_rate
    samples = {
        "silence": silence(5, rate),
        "constant": np.full(5 * rate, 0.25, np.float32),
        "empty": silence(0, rate),
        "one sample": np.ones(1, np.float32),
        "too short": piece(backend, 1, 0.5 * backend.hop_seconds),
    }[kind]
    fingerprint = backend.extract(samples, dense=dense)
    assert len(fingerprint) == 0
    assert fingerprint.evidence is None or len(fingerprint.evidence.frames) == 0
    assert abs(fingerprint.n_frames - len(samples) / hop(backend)) <= 1


@pytest.mark.parametrize("n_hops", [1, 7, 100])
def test_a_shift_by_hops_shifts_the_frames(backend, n_hops):
    samples = piece(backend, 3, max(20, 170 * backend.hop_seconds))
    context = int(np.ceil(backend.context_seconds / backend.hop_seconds))
    whole = backend.extract(samples)
    later = backend.extract(samples[n_hops * hop(backend) :])
    assert later.n_frames == whole.n_frames - n_hops
    stop = whole.n_frames - context
    inner = whole.cut(n_hops + context, stop)
    assert len(inner) > 50
    assert_equal(later.cut(context, stop - n_hops), inner)


@pytest.mark.parametrize(("gain", "share"), [(-1.0, 1.0), (0.5, 0.93), (0.1, 0.8), (0.01, 0.65)])
def test_the_level_does_not_matter(backend, gain, share):
    """But for cells that sink below the floor of the spectrogram, 84 dB under full scale.

    The music stands on a bed of noise, as recordings do; silence between notes of exact zeros
    would be all floor.
    """
    require(backend, "any level")
    samples = piece(backend, 4) + noise(20, 4, backend.sample_rate, level=0.003)
    plain = backend.extract(samples)
    other = backend.extract(np.float32(gain) * samples)
    assert likeness(plain, other) >= share - 1e-6  # of float32


def test_chunks_join_to_what_one_go_gives(backend, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 20.0)
    monkeypatch.setattr(streaming, "WHOLE_SECONDS", 30.0)
    samples = piece(backend, 5, 75)
    chunked = ChunkedExtraction(backend)
    for block in np.array_split(samples, 13):
        chunked.feed(block)
    assert_equal(chunked.finish(), backend.extract(samples))


def extract_elsewhere(pickled, samples):
    return pickle.loads(pickled).extract(samples)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_extract_the_same(backend, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    if method == "spawn" and (
        backend.name not in backends.names()
        or backend.parameters() != (backends.create(backend.name).parameters())
    ):
        pytest.skip("spawning takes long; once a backend is enough")
    samples = piece(backend, 6, 5)
    expected = backend.extract(samples)  # kernels and transforms are loaded before the fork
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = pool.submit(extract_elsewhere, pickle.dumps(backend), samples).result(timeout=60)
    assert_equal(found, expected)
