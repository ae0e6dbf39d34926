"""Equal audio gives the fingerprints that it gave when the version was last raised."""

import json

import numpy as np
import pytest
from generate import SEEDS, audio, golden, levels, path

from afp import backends

SAME_PEAKS = 0.995
SAME_LANDMARKS = 0.97
SAME_EMBEDDINGS = 0.995
"""A transform that rounds otherwise (another FFT, another processor) may tip the balance between
two cells or two peaks that are equal to a hundredth of a decibel; a peak that goes takes its up to
ten landmarks with it; embeddings are alike to the rounding, and a few may change their cell."""

REMEDY = """
the fingerprints of {name!r} are no longer those of its version {version}: what stores hold would
not be found any more. If that is not intended, mend it. If it is, raise `version` in the backend
and run `python tests/golden/generate.py`; a store then asks for its music to be indexed again."""


def stored(name, version):
    file = path(name, version)
    assert file.exists(), f"no {file}: run `python tests/golden/generate.py`"
    return json.loads(file.read_text())


def likeness(one, other, names):
    """Share of the elements of two sets of tuples that both have."""
    sets = [set(zip(*(piece[name] for name in names), strict=True)) for piece in (one, other)]
    return len(sets[0] & sets[1]) / max(len(sets[0] | sets[1]), 1)


@pytest.fixture(scope="module", params=backends.names())
def backend(request):
    return backends.create(request.param)


def test_the_audio_is_the_same(backend):
    """Else the synthesiser changed and no backend did: generate anew, and leave the version."""
    kept = stored(backend.name, backend.version)
    for seed, piece in zip(SEEDS, kept["pieces"], strict=True):
        np.testing.assert_allclose(
            levels(audio(seed, backend.sample_rate)), piece["levels"], atol=1e-4
        )


def test_the_fingerprints_are_the_same(backend):
    kept = stored(backend.name, backend.version)
    found = golden(backend)
    remedy = REMEDY.format(name=backend.name, version=backend.version)
    assert found["parameters"] == kept["parameters"], remedy
    for now, then in zip(found["pieces"], kept["pieces"], strict=True):
        assert now["n_frames"] == then["n_frames"], remedy
        if "vectors" in then:
            assert now["frames"] == then["frames"], remedy
            one, other = (
                np.reshape(piece["vectors"], (len(now["frames"]), -1)) for piece in (now, then)
            )
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            alike = np.einsum("ij,ij->i", one.astype(float), other.astype(float)) / lengths
            assert alike.min() >= SAME_EMBEDDINGS, remedy
            assert np.mean(np.equal(now["hashes"], then["hashes"])) >= 0.8, remedy
            continue
        assert len(then["frames"]) > 100
        assert likeness(now, then, ["frames", "hashes"]) >= SAME_LANDMARKS, remedy
        if "evidence_frames" in then:
            names = ["evidence_frames", "evidence_values"]
            assert likeness(now, then, names) >= SAME_PEAKS, remedy
