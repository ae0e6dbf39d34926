"""What the stores of `load.py` are filled with, and how they are asked."""

import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from planted import RealMusic, ask, percentiles
from synthetic import Music, Sounds

from afp.backends import neural, shazam
from afp.fingerprint import F32, Fingerprint, Match
from afp.library import Searcher
from afp.matching import cells
from afp.store import NewTrack, Store

CLIP_VECTORS = 20  # of a query: 3.35 s
QUERIES = 60
NOISE = 0.6  # of a query's vectors beside those of the track, in length


@dataclass(frozen=True, slots=True)
class Kind:
    """One backend's synthetic tracks.

    Attributes
    ----------
    backend : Backend
    seed : int
    seconds : float
        Length of a track, on average.
    """

    backend: Any
    seed: int
    seconds: float

    @property
    def clip(self) -> Path | None:
        """An audio file that the command line may index and ask for, or None."""
        return None

    def register(self, store: Store) -> None:
        """Tell a store of the backend."""
        store.register(
            self.backend.name,
            version=self.backend.version,
            parameters=self.backend.parameters(),
            hop_seconds=self.backend.hop_seconds,
        )

    def new(self, name: str, seconds: float, fingerprint: Fingerprint) -> NewTrack:
        """Put a fingerprint and a catalogue entry of usual size together."""
        return NewTrack(
            sha256(name.encode()).hexdigest(),
            f"/music/some artist/some album/{name}.mp3",
            seconds,
            title=f"Title of {name}",
            artist=f"Artist of {name[:-2]}",
            album=f"Album of {name[:-1]}",
            size=10_000,
            mtime_ns=time.time_ns(),
            fingerprints={self.backend.name: fingerprint},
        )

    def made(self, i: int) -> NewTrack:
        """Make track i up: always the same one."""
        raise NotImplementedError

    def weight(self, new: NewTrack) -> int:
        """Count the postings of a track."""
        return len(new.fingerprints[self.backend.name])

    def batch(self, first: int, n: int, most: int) -> list[NewTrack]:
        """Make up to n tracks, of `most` postings or few more."""
        made: list[NewTrack] = []
        total = 0
        for i in range(first, first + n):
            if total >= most:
                break
            made.append(self.made(i))
            total += self.weight(made[-1])
        return made

    def filled(self, path: Path, first: int, n: int) -> None:
        """Make a store of some tracks."""
        with Store.open(path, write=True) as store:
            self.register(store)
            store.add([self.made(i) for i in range(first, first + n)])

    def ask(self, searcher: Searcher, most: int | None = None) -> dict[str, Any]:
        """Ask queries; return percentiles of times and what is right; all without `most`."""
        raise NotImplementedError

    def ask_one(self, searcher: Searcher, i: int) -> None:
        """Ask one query."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Landmarks(Kind):
    """Constellations: every other one of the first tracks is real.

    Attributes
    ----------
    music : Music
        Makes tracks up.
    real : RealMusic
        What is planted.
    """

    music: Music
    real: RealMusic

    @property
    def clip(self) -> Path | None:
        """The first query."""
        return self.real.queries[0].path

    def made(self, i: int) -> NewTrack:
        """Make a track up, or take a real one."""
        if i % 2 == 0 and i // 2 < len(self.real.planted):
            planted = self.real.planted[i // 2]
            return self.new(f"real/{i // 2}", planted.seconds, planted.fingerprint)
        rng = np.random.default_rng((self.seed, i))
        seconds = self.music.seconds(rng, self.seconds)
        return self.new(f"made/{i}", seconds, self.music.fingerprint(rng, seconds))

    def ask_alone(self, path: Path) -> dict[str, Any]:
        """Ask a store of nothing but the real stretches."""
        with Store.open(path, write=True) as store:
            self.register(store)
            store.add([self.made(2 * i) for i in range(len(self.real.planted))])
        with Searcher.open(path, shazam.Backend.name) as searcher:
            return self.ask(searcher)

    def ask(self, searcher: Searcher, most: int | None = None) -> dict[str, Any]:
        """Ask for the clips of what is planted, and of other music."""
        paths = [self.made(2 * i).path for i in range(len(self.real.planted))]
        with searcher._store.snapshot() as snapshot:
            names = list(takewhile(lambda path: snapshot.track_by_path(path) is not None, paths))
        return ask(searcher, self.real, names, most)

    def ask_one(self, searcher: Searcher, i: int) -> None:
        """Ask for a clip."""
        searcher.query(self.real.queries[i % len(self.real.queries)].path)


@dataclass(frozen=True, slots=True)
class Vectors(Kind):
    """Embeddings.

    Attributes
    ----------
    sounds : Sounds
        Makes them up.
    """

    sounds: Sounds

    def made(self, i: int) -> NewTrack:
        """Make a track up."""
        vectors = self._vectors(i)
        frames = np.arange(len(vectors), dtype=np.uint32)
        hashes = cells.nearest(vectors, self.backend._centres)
        fingerprint = Fingerprint(len(vectors), frames, hashes=hashes, vectors=vectors)
        return self.new(f"made/{i}", len(vectors) * self.backend.hop_seconds, fingerprint)

    def ask(self, searcher: Searcher, most: int | None = None) -> dict[str, Any]:
        """Ask for noisy vectors of the first tracks."""
        times, right = [], 0
        n = min(QUERIES, most or QUERIES)
        for i in range(n):
            query = self._query(i)
            started = time.process_time()
            found = self._answers(searcher, query)
            times.append(1e3 * (time.process_time() - started))
            right += bool(found) and found[0].track.path.endswith(f"/{self._track(i)}.mp3")
        return {"right_at_any_p": right / n, "query": percentiles(times[1:])}

    def ask_one(self, searcher: Searcher, i: int) -> None:
        """Ask for noisy vectors."""
        self._answers(searcher, self._query(i))

    def _answers(self, searcher: Searcher, query: Fingerprint) -> list[Match]:
        index = searcher.indexes[self.backend.name]
        found: list[Match] = self.backend.match(query, index, limit=1)
        return found

    def _track(self, i: int) -> int:
        return i % 8

    def _vectors(self, i: int) -> F32:
        rng = np.random.default_rng((self.seed, i))
        return self.sounds.vectors(rng, round(self.seconds / self.backend.hop_seconds))

    def _query(self, i: int) -> Fingerprint:
        """Lay noise over vectors of a track, each heard for as many steps as a frame has."""
        rng = np.random.default_rng((self.seed, i, 1))
        stored = self._vectors(self._track(i))
        steps = np.arange(CLIP_VECTORS)
        first = int(rng.integers(len(stored) - CLIP_VECTORS // neural.FINENESS))
        heard = stored[first + steps // neural.FINENESS]
        aside = rng.standard_normal(heard.shape) * (NOISE / heard.shape[1] ** 0.5)
        vectors = (heard + aside).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        n_whole = CLIP_VECTORS - 2 * neural.OVERHANG_STEPS
        dense = {"steps": steps, "seconds": np.array(n_whole * 0.125 + 0.85)}
        frames = (steps // neural.FINENESS).astype(np.uint32)
        n_frames = int(frames[-1]) + 1
        return Fingerprint(n_frames, frames, vectors=vectors, dense=dense)
