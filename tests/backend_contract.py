"""The backends under contract, and a shelf of songs to look for.

A new backend is under contract from the moment that it has a name; `LESS` holds the claims that
one does not make.
"""

import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from afp import backends
from afp.store import NewTrack, Store
from afp.synthesis import song

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_backend.py"
PARAMETERS = {
    "shazam": [{"density": 25.0, "peak_density": 12.0}, {"density": 300.0}],
    "philips": [{"density": 15.0}, {"frame_length": 1536, "hop_length": 96}],
}
LESS = {"loudest": {"any level", "other speeds", "whole stretch", "any layout"}}

N_TRACKS, TRACK_SECONDS = 14, 20.0


def example_class():
    if "own_backend" not in sys.modules:
        spec = importlib.util.spec_from_file_location("own_backend", EXAMPLE)
        sys.modules["own_backend"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["own_backend"])
    return sys.modules["own_backend"].Backend


CASES = [
    pytest.param(
        (name, parameters), id="-".join([name, *(f"{k}={v:g}" for k, v in parameters.items())])
    )
    for name in backends.names()
    for parameters in [{}, *PARAMETERS.get(name, [])]
]


def require(backend, claim):
    if claim in LESS.get(backend.name, ()):
        pytest.skip(f"{backend.name} does not claim it")


def piece(backend, seed, seconds=TRACK_SECONDS):
    return song(seed, seconds=seconds, sample_rate=backend.sample_rate)


class Shelf:
    """A store of songs for one backend."""

    def __init__(self, backend, folder):
        self.backend = backend
        self.songs = [piece(backend, seed) for seed in range(N_TRACKS)]
        self.folder = folder
        with self.store(folder) as store:
            self.add(store, range(N_TRACKS))

    def store(self, folder):
        store = Store.open(folder, write=True)
        store.register(
            self.backend.name,
            version=self.backend.version,
            parameters=self.backend.parameters(),
            hop_seconds=self.backend.hop_seconds,
        )
        return store

    def add(self, store, seeds):
        items = [self.new_track(seed, self.songs[seed]) for seed in seeds]
        return [track.id for track in store.add(items)]

    def new_track(self, seed, samples):
        seconds = len(samples) / self.backend.sample_rate
        prints = {self.backend.name: self.backend.extract(samples)}
        return NewTrack(f"{seed:016x}", f"/music/{seed}", seconds, fingerprints=prints)

    @contextmanager
    def index(self, folder=None):
        with Store.open(folder or self.folder) as store, store.snapshot() as snapshot:
            yield snapshot.index(self.backend.name)

    def query(self, samples, *, limit=5, folder=None):
        with self.index(folder) as index:
            dense = self.backend.extract(samples, dense=True)
            return self.backend.match(dense, index, limit=limit)

    def clip(self, seed, start=6.0, stop=12.0):
        rate = self.backend.sample_rate
        return self.songs[seed][round(start * rate) : round(stop * rate)]
