"""From the options of a script to the rows of a run of `afp.bench`."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import corpus
from corpus import corpus_of

from afp.backends import Parameter
from afp.bench.grid import Grid
from afp.bench.rows import About, Row
from afp.bench.run import run
from afp.cli.progress import BenchProgress
from afp.distort import Distortion, parse
from afp.library import Interruption

PATHS = {"--audio", "--music", "--distractors", "--noise", "--ir", "--speech", "--out", "--journal"}
PATHS_GIVEN = [f"{option}=" for option in PATHS]


def add_options(
    parser: argparse.ArgumentParser, *, distortions: Iterable[str], seconds: str, queries: int
) -> None:
    """Add what `grid_of` and `measure` read."""
    corpus.add_options(parser)
    parser.add_argument(
        "--distort",
        action="append",
        metavar="NAME[:KEY=VALUES]",
        help=f"as `afp bench` has it; may repeat [{' '.join(distortions)}]",
    )
    parser.add_argument("--queries", type=int, default=queries, help="a cell [%(default)s]")
    parser.add_argument("--seconds", default=seconds, help="lengths of clips [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    parser.add_argument("-j", "--jobs", type=int, help="processes [one a core]")


def distortions_of(texts: Iterable[str]) -> tuple[Distortion, ...]:
    """Read distortions, which all must be possible on this machine."""
    found = tuple(distortion for text in texts for distortion in parse(text))
    for distortion in found:
        if reason := distortion.unavailable():
            raise SystemExit(f"{distortion.condition}: {reason}")
    return found


def lengths_of(text: str) -> tuple[float, ...]:
    """Read lengths of clips, in seconds."""
    return tuple(float(number) for number in text.split(","))


def grid_of(
    arguments: argparse.Namespace,
    distortions: tuple[Distortion, ...],
    backends: Mapping[str, Mapping[str, Parameter]],
    *,
    absent: float,
) -> Grid:
    """Put together what is to be measured."""
    found = corpus_of(arguments)
    return Grid(
        music=tuple(found.tracks()),
        distortions=distortions,
        seconds=lengths_of(arguments.seconds),
        queries=arguments.queries,
        backends=backends,
        absent=absent,
        noise=found.noise,
        rooms=found.rooms,
        speech=found.speech,
        seed=arguments.seed,
    )


def command(words: Sequence[str]) -> str:
    """Return a command line without the paths in it, which are of this machine."""
    script, *rest = words
    kept = [
        word
        for before, word in pairwise(["", *rest])
        if word not in PATHS and before not in PATHS and not word.startswith(tuple(PATHS_GIVEN))
    ]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *kept])


def measure(
    grid: Grid, *, n_workers: int | None, journal: Path | None = None
) -> tuple[About, list[Row]]:
    """Run a grid.

    Parameters
    ----------
    journal : Path, optional
        Folder for rows as they come: a run that was interrupted goes on from there.
    """
    with Interruption() as interruption, BenchProgress() as progress:
        outcome = run(
            grid,
            out=journal,
            n_workers=n_workers,
            command=command(sys.argv),
            observer=progress.update,
            interruption=interruption,
        )
    if outcome.interrupted or outcome.about is None:
        raise SystemExit(128 + (outcome.interrupted or 0))
    return outcome.about, outcome.rows
