"""Fit what ``-b fused`` multiplies: the chance that a place of no worth looks as good to a backend.

Indexes one folder of music for every backend that verifies places, and looks up clips of another,
which the first does not hold: whatever place is named is of no worth. The tail of what a backend
says of the places that others have named is fitted, on half of the music and then on all, and what
chance gives is counted beside what it should give on the half that the fit has not seen.

    python benchmarks/null_fusion.py --indexed music/train --absent music/heldout

Nets should have trained on none of ``--absent``. Tracks whose names begin alike, up to two
underscores, are taken for one source and kept in one half.
"""

# ruff: noqa: E402 - threads of a BLAS beside the processes only get in the way
import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import argparse
import math
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from clips import excerpts_of, sounds_of
from corpus import Corpus
from null_model import tail
from output import note, print_section, script

from afp.audio import Resampler, walk
from afp.backends import neural, shazam
from afp.bench.excerpts import PAST
from afp.bench.grid import RATE, Cell, Grid
from afp.bench.rows import PRESENT
from afp.bench.table import Section
from afp.distort import Clip, parse
from afp.fingerprint import F32
from afp.library import Searcher, index
from afp.library.choice import fusible
from afp.library.fusion import FUSED, MOST_PLACES, Fusion, NamedPlace
from afp.matching.significance import NullModel, expected_of, p_of

NULLS = {"shazam": shazam.PLACE_NULL, "neural": neural.PLACE_NULL}
WORDS = ("clean", "noise:snr=0", "noise:snr=-5", "room+noise:snr=5", "phone")
SECONDS = (1.0, 2.0, 3.0, 5.0, 10.0)
LEVELS = (0.1, 0.03, 0.01, 3e-3, 1e-3)


@dataclass(frozen=True, slots=True)
class Query:
    """A clip of absent music, and the places that were named for it."""

    source: str
    named: list[NamedPlace]


def clips(grid: Grid, folder: Path, found: Corpus) -> Iterator[tuple[str, F32]]:
    """Yield clips, a cell at a time, each of its own excerpt; with the file that it is from."""
    sounds = sounds_of(found, folder)
    shelf, excerpts = excerpts_of(grid, folder)
    cells = list(grid.cells)
    for number, excerpt in enumerate(excerpts):
        cell: Cell = cells[number % len(cells)]
        samples = np.array(shelf.samples(PRESENT, number))
        length = round(cell.seconds * RATE)
        rng = grid.generator(cell.distortion.name, PRESENT, number)
        clip = cell.distortion.apply(Clip(samples, RATE, PAST, length), sounds, rng)
        yield Path(excerpt.source.path).name, clip.body()


def asked(store: Path, every: Iterator[tuple[str, F32]]) -> list[Query]:
    """Let the parts name and verify places for every clip."""
    queries = []
    with Searcher.open(store, FUSED) as searcher:
        fusion = searcher.backend
        assert isinstance(fusion, Fusion)
        for source, samples in every:
            at_rate = Resampler(RATE, fusion.sample_rate).process(samples, last=True)
            queries.append(Query(source, fusion.named(at_rate, searcher.indexes) or []))
    return queries


def score_of(p_false: float, null: NullModel) -> float:
    """Return the score of a place that has this chance."""
    return null.score - math.log(max(expected_of(min(p_false, 1 - 1e-15)), 1e-300)) / null.decay


def judged(p_false: float, old: NullModel, new: NullModel) -> float:
    """Return what another fit makes of a place."""
    return new.p_false(score_of(p_false, old), store_hours=0.0)


def fits(queries: Sequence[Query]) -> dict[str, NullModel]:
    """Fit an exponential tail to what each backend says of the places that others have named."""
    scores: dict[str, list[float]] = defaultdict(list)
    for query in queries:
        for place in query.named:
            for part, verdict in place.verdicts.items():
                scores[part.name].append(score_of(verdict.p_false, NULLS[part.name]))
    models = {}
    for name, found in scores.items():
        score, decay, _ = tail(found)
        models[name] = NullModel(score, decay, math.inf)
    return models


def refitted(place: NamedPlace, models: Mapping[str, NullModel]) -> NamedPlace:
    """Return a place as it is with other models."""
    verdicts = {
        part: replace(match, p_false=judged(match.p_false, NULLS[part.name], models[part.name]))
        for part, match in place.verdicts.items()
    }
    return replace(place, verdicts=verdicts)


def counts(title: str, queries: Sequence[tuple[Query, Mapping[str, NullModel]]]) -> Section:
    """Tell how many verdicts, and how many queries, fall below each level, and should."""
    said: dict[str, list[float]] = defaultdict(list)
    for query, models in queries:
        places = [refitted(place, models) for place in query.named]
        for place in places:
            for part, verdict in place.verdicts.items():
                said[f"places, {part.name}"].append(verdict.p_false)
        for proposer in {place.proposer for place in places}:
            own = [place for place in places if place.proposer is proposer]
            said[f"queries, {proposer.name} alone"].append(min(p_of(p.expected) for p in own))
        fused = [place.fused(len(NULLS)).p_false for place in places]
        said["queries, fused"].append(min(fused, default=1.0))
    lines = [
        (
            name,
            str(len(chances)),
            *(
                f"{sum(p <= level for p in chances)} / {level * len(chances):.1f}"
                for level in LEVELS
            ),
        )
        for name, chances in sorted(said.items())
    ]
    right = ("number", *(f"{level:g}" for level in LEVELS))
    return Section(title, ("of", *right), lines, right)


def main() -> None:
    """Print the fit and the calibration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--indexed", type=Path, required=True, help="folder of music to index")
    parser.add_argument("--absent", type=Path, required=True, help="folder of other music")
    parser.add_argument("--noise", type=Path, help="recordings of noise")
    parser.add_argument("--ir", type=Path, help="impulse responses of rooms")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--store", type=Path, help="where the index is, or is to be kept")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    absent = Corpus(arguments.absent, arguments.noise, arguments.ir)
    grid = Grid(
        music=tuple(absent.tracks()),
        distortions=tuple(distortion for words in WORDS for distortion in parse(words)),
        seconds=SECONDS,
        queries=arguments.queries,
        seed=arguments.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = arguments.store or Path(folder) / "store"
        music = [file.path for file in walk([arguments.indexed])]
        note(f"indexing {len(music)} files for {', '.join(fusible())}")
        index(store, music, backends=fusible())
        note(f"looking up {arguments.queries} clips of {len(grid.music)} files")
        queries = asked(store, clips(grid, Path(folder), absent))
    halves: tuple[list[Query], list[Query]] = ([], [])
    for query in queries:
        halves[zlib.crc32(query.source.partition("__")[0].encode()) % 2].append(query)
    if not all(halves):
        raise SystemExit("all absent music is of one source; name more with --absent")
    crossed = [
        (query, models)
        for seen, unseen in (halves, halves[::-1])
        for models in [fits(seen)]
        for query in unseen
    ]
    print_section(
        counts(
            "as it is: so many below each chance, observed / nominal",
            [(query, NULLS) for query in queries],
        )
    )
    print_section(counts("fitted on the other half", crossed))
    named: Counter[str] = Counter(place.proposer.name for query in queries for place in query.named)
    rates = ", ".join(f"{n / len(queries):.2f} by {name}" for name, n in sorted(named.items()))
    print(f"\nplaces named for a query: {rates}; {MOST_PLACES} are reckoned with")
    for name, model in fits(queries).items():
        now = NULLS[name]
        print(
            f"{name}: PLACE_NULL = NullModel(score={model.score:.2f}, decay={model.decay:.2f}, "
            f"hours=math.inf)  # in use: {now.score}, {now.decay}"
        )


if __name__ == "__main__":
    script(main)
