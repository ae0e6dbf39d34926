"""Excerpts and clips as ``afp bench`` makes them, without its queries."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from corpus import Corpus

from afp.bench.excerpts import PAST, Excerpt, Shelf, cut, draw, long_enough, measure
from afp.bench.grid import RATE, Cell, Grid
from afp.bench.rows import PRESENT
from afp.distort import Clip, Recordings, Sounds
from afp.fingerprint import F32

MOST_TRACKS = 40  # to decode


def sounds_of(found: Corpus, folder: Path) -> Sounds:
    """Decode noise, rooms and speech into files of a folder."""
    folders = {"noise": found.noise, "rooms": found.rooms, "speech": found.speech}
    return Sounds(
        **{
            name: Recordings.decoded(path, folder / f"{name}.f32", sample_rate=RATE)
            for name, path in folders.items()
            if path is not None
        }
    )


def excerpts_of(grid: Grid, folder: Path) -> tuple[Shelf, list[Excerpt]]:
    """Draw the excerpts of present music, from some of the tracks of a grid."""
    order = grid.generator("tracks").permutation(len(grid.music))[:MOST_TRACKS]
    measured = (measure(str(grid.music[i])) for i in order)
    sources = long_enough([source for source in measured if source is not None], grid)
    if not sources:
        raise SystemExit(f"no track is longer than {grid.reach_seconds:.1f} s")
    keys = [(PRESENT, number) for number in range(grid.queries)]
    shelf = Shelf.of(folder / "excerpts.f32", grid, keys)
    shelf.make()
    excerpts: dict[int, Excerpt] = {}
    missing, attempt = list(range(grid.queries)), 0
    while missing:
        by_file: dict[str, list[Excerpt]] = defaultdict(list)
        for number in missing:
            excerpt = draw(sources, PRESENT, number, attempt, grid)
            excerpts[number] = excerpt
            by_file[excerpt.source.path].append(excerpt)
        silent = [excerpt for drawn in by_file.values() for excerpt in cut(drawn, shelf)]
        missing, attempt = sorted(excerpt.number for excerpt in silent), attempt + 1
    return shelf, [excerpts[number] for number in range(grid.queries)]


def clips(grid: Grid, cell: Cell, sounds: Sounds, shelf: Shelf) -> Iterator[F32]:
    """Distort every excerpt of a shelf as a cell has it."""
    length = round(cell.seconds * RATE)
    for number in range(grid.queries):
        samples = np.array(shelf.samples(PRESENT, number))
        rng = grid.generator(cell.distortion.name, PRESENT, number)
        yield cell.distortion.apply(Clip(samples, RATE, PAST, length), sounds, rng).body()


def split(tracks: Sequence[Path], share: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Return the tracks to index, and a share of them to keep out, chosen by chance."""
    order = np.random.default_rng(seed).permutation(len(tracks))
    n_out = max(1, round(share * len(tracks)))
    return sorted(tracks[i] for i in order[n_out:]), sorted(tracks[i] for i in order[:n_out])
