"""Golden fingerprints: what each backend makes of fixed audio, kept from version to version.

Run ``python tests/golden/generate.py`` to write them anew, and see the message of
`test_golden.py` for when to do so.
"""

import json
import sys
from pathlib import Path

import numpy as np

from afp import backends
from afp.backends import Backend
from afp.fingerprint import F32, Fingerprint

FOLDER = Path(__file__).parent
SECONDS, SEEDS = 12.0, (1, 2)

sys.path.insert(0, str(FOLDER.parent))
from synthesis import music, noise  # noqa: E402


def audio(seed: int, sample_rate: int) -> F32:
    """Music over a bed of noise, so that no cell of a spectrogram is nothing but rounding."""
    return music(SECONDS, seed, sample_rate) + noise(SECONDS, seed, sample_rate, level=0.003)


def levels(samples: F32) -> list[float]:
    """Root mean square of each second: tells whether the audio itself is another."""
    seconds = samples.astype(np.float64).reshape(round(SECONDS), -1)
    return [float(level) for level in np.sqrt(np.mean(seconds**2, axis=1)).round(5)]


def arrays(fingerprint: Fingerprint) -> dict[str, list[int]]:
    """What a store keeps; the query's side may change without a new version."""
    named = {"frames": fingerprint.frames}
    if fingerprint.vectors is not None:
        named["vectors"] = np.rint(127 * fingerprint.vectors).astype(np.int8).ravel()
    if fingerprint.hashes is not None:
        named["hashes"] = fingerprint.hashes
    if fingerprint.evidence is not None:
        named["evidence_frames"] = fingerprint.evidence.frames
        named["evidence_values"] = fingerprint.evidence.values
    return {name: array.tolist() for name, array in named.items()}


def golden(backend: Backend) -> dict[str, object]:
    """Return the content of a backend's file."""
    pieces = []
    for seed in SEEDS:
        samples = audio(seed, backend.sample_rate)
        fingerprint = backend.extract(samples)
        pieces.append(
            {
                "seed": seed,
                "levels": levels(samples),
                "n_frames": fingerprint.n_frames,
                **arrays(fingerprint),
            }
        )
    return {
        "backend": backend.name,
        "version": backend.version,
        "parameters": backend.parameters(),
        "pieces": pieces,
    }


def path(name: str, version: int) -> Path:
    """Return where the fingerprints of a version of a backend are kept."""
    return FOLDER / f"{name}-v{version}.json"


if __name__ == "__main__":
    for name in backends.names():
        backend = backends.create(name)
        for old in FOLDER.glob(f"{name}-v*.json"):
            old.unlink()
        file = path(name, backend.version)
        text = json.dumps(golden(backend))
        # A line an array: a difference can be read.
        file.write_text(text.replace('], "', '],\n"').replace("{", "{\n") + "\n")
        print(file)
