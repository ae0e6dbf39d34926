"""How the embeddings do on music, noises and rooms that their net was not trained on.

The protocol of Chang et al. (ICASSP 2021) and harder conditions, with short clips: clips of music
that training never saw, looked up among it and the music of the training as distractors. Half of
the unseen tracks are kept out of the store, to count false answers. Much music repeats itself, so
a place that sounds the same counts as near, and places are held against what the same clips get
undistorted. Hash backends and the fusion of both stand beside. A ladder of fewer distractors, and
of all of them cut into clips of 30 s, tells how the figures depend on the store.

    python benchmarks/neural.py --music ~/unseen --distractors ~/music --noise ~/noise --ir ~/rooms
    python benchmarks/neural.py … --queries 20 --seconds 1,3 --out /tmp/n
"""

# ruff: noqa: E402 - threads of a BLAS beside the processes only get in the way
import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from accuracy import without_idle_answers
from measure import distortions_of, lengths_of, measure
from output import RESULTS, note, print_section, script, write_json
from repetition import near_counts

from afp.audio import decode, walk
from afp.bench.grid import Grid
from afp.bench.rows import Row, write_rows
from afp.bench.scores import Cell, Scores
from afp.bench.scoring import as_json, score
from afp.bench.table import Section
from afp.library.choice import fusible
from afp.library.fusion import FUSED

CONDITIONS = ("clean", "chang", "noise:snr=0,-5", "phone")
BACKENDS = ("shazam", "neural", "fused")
LADDER = (0.25, 0.5)  # shares of the distractors, beside all of them
LADDER_CONDITION = "chang"
CUT_SECONDS = 30.0
ABSENT = 0.5

NearCounts = Mapping[tuple[str, str, float], tuple[int, int]]

TARGETS: dict[tuple[str, float], float] = {
    **{("chang", s): share for s, share in ((1, 92), (2, 97), (3, 98.5), (5, 99.5), (10, 99.9))},
    **{("noise:snr=0", s): share for s, share in ((1, 85), (2, 95))},
    ("noise:snr=-5", 3): 90,
    **{("phone", s): share for s, share in ((3, 90), (5, 95))},
}
"""Right track of the first answers of `neural`, in %, whatever their p_false."""

NEAR_OF_CLEAN = 95.0
"""Near places under the first condition with targets, in % of those of clean clips, from 2 s on."""


def tracks(folders: Sequence[Path]) -> tuple[Path, ...]:
    """List the audio files in folders, sorted."""
    return tuple(sorted({Path(file.path).absolute() for file in walk(folders)}))


def thinned(paths: Sequence[Path], share: float) -> tuple[Path, ...]:
    """Keep a share of some files, evenly chosen."""
    n = round(share * len(paths))
    return tuple(paths[i * len(paths) // n] for i in range(n))


def cut(paths: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """Cut files into clips of `CUT_SECONDS`, which are written to a folder."""
    clips = []
    for i, path in enumerate(paths):
        with decode(path) as decoder:
            samples = np.concatenate(list(decoder))
        length = round(CUT_SECONDS * decoder.sample_rate)
        for first in range(0, len(samples) - length + 1, length):
            clips.append(folder / f"{i}-{first}.flac")
            soundfile.write(clips[-1], samples[first : first + length], decoder.sample_rate)
    return tuple(clips)


def held(cell: Cell, near: NearCounts) -> dict[str, Any]:
    """Hold a cell against its target and against the clean one."""
    target = TARGETS.get((cell.condition, cell.seconds)) if cell.backend == "neural" else None
    any_track, missed = 100 * cell.any_track.share, []
    if target is not None and any_track < target:
        missed.append("track")
    k, n = near[cell.backend, cell.condition, cell.seconds]
    clean, n_clean = near.get((cell.backend, "clean", cell.seconds), (0, 0))
    near_of_clean = None
    if clean:
        near_of_clean = 100 * (k / n) * (n_clean / clean)
        is_asked = (
            cell.backend == "neural" and cell.condition == LADDER_CONDITION and cell.seconds >= 2
        )
        if is_asked and near_of_clean < NEAR_OF_CLEAN:
            missed.append("near")
    return {
        "backend": cell.backend,
        "condition": cell.condition,
        "seconds": cell.seconds,
        "target": target,
        "near_or_same": k / n,
        "near_of_clean": near_of_clean,
        "missed": missed,
    }


def table(scores: Scores, verdicts: Sequence[dict[str, Any]]) -> Section:
    """Lay the backends side by side."""
    names = [cost.backend for cost in scores.costs]
    right = (
        "s",
        *(f"{name}{part}" for name in names for part in (" right %", " any %", " near %")),
    )
    by_cell: dict[tuple[str, float], dict[str, Cell]] = {}
    for cell in scores.cells:
        by_cell.setdefault((cell.condition, cell.seconds), {})[cell.backend] = cell
    notes = {(v["condition"], v["seconds"]): v for v in verdicts if v["backend"] == "neural"}
    near = {(v["backend"], v["condition"], v["seconds"]): v["near_or_same"] for v in verdicts}
    rows: list[tuple[str, ...]] = []
    for (condition, seconds), cells in by_cell.items():
        shares = [
            f"{100 * share:.1f}"
            for name in names
            for share in (
                cells[name].track.share,
                cells[name].any_track.share,
                near[name, condition, seconds],
            )
        ]
        verdict = notes.get((condition, seconds), {"target": None, "missed": []})
        target = "" if verdict["target"] is None else f"{verdict['target']:g}"
        missed = f"MISSED: {', '.join(verdict['missed'])}" if verdict["missed"] else ""
        rows.append((condition, f"{seconds:g}", *shares, target, missed))
    columns = ("condition", *right, "neural any, wanted", "")
    return Section(
        "Right: named, p_false small enough; any: whatever p_false", columns, rows, right
    )


def ladder(grid: Grid, jobs: int | None) -> list[dict[str, Any]]:
    """Measure one condition among fewer distractors."""
    found = [
        step
        for share in LADDER
        for step in _step(f"{share:.0%}", thinned(grid.distractors, share), grid, jobs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        clips = cut(grid.distractors, Path(folder))
        return found + _step(f"in clips of {CUT_SECONDS:g} s", clips, grid, jobs)


def _step(
    name: str, distractors: tuple[Path, ...], grid: Grid, jobs: int | None
) -> list[dict[str, Any]]:
    note(f"distractors: {name}")
    fewer = replace(
        grid,
        distortions=distortions_of([LADDER_CONDITION]),
        backends={"neural": {}},
        parts={},
        distractors=distractors,
    )
    return _told(name, score(*measure(fewer, n_workers=jobs)))


def _told(name: str, scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            "distractors": name,
            "tracks": scores.about.tracks,
            "hours": scores.about.seconds / 3600,
            "seconds": cell.seconds,
            "any_track": cell.any_track.share,
            "track": cell.track.share,
            "n": cell.track.n,
        }
        for cell in scores.cells
        if (cell.backend, cell.condition) == ("neural", LADDER_CONDITION)
    ]


def print_ladder(steps: Sequence[dict[str, Any]], scores: Scores) -> None:
    """Print the ladder, with all distractors as its last step."""
    right = ("tracks", "hours in the store", "s", "right %", "any %")
    rows: list[tuple[str, ...]] = [
        (
            step["distractors"],
            f"{step['tracks']}",
            f"{step['hours']:.1f}",
            f"{step['seconds']:g}",
            f"{100 * step['track']:.1f}",
            f"{100 * step['any_track']:.1f}",
        )
        for step in [*steps, *_told("all", scores)]
    ]
    columns = ("distractors", *right)
    title = f"neural, {LADDER_CONDITION}, by what is in the store"
    print_section(Section(title, columns, rows, right))


def print_absent(scores: Scores) -> None:
    """Print how often clips of music that is not in the store get an answer."""
    for absent in scores.absent:
        false = absent.false
        print(
            f"{absent.backend}: {false.k} false of {false.n:,} clips of absent {absent.of} "
            f"({100 * false.share:.2f} %, 95 % interval {100 * false.low:.2f} to "
            f"{100 * false.high:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--music", type=Path, nargs="+", required=True, help="what training never saw"
    )
    parser.add_argument("--distractors", type=Path, nargs="+", default=[], help="other music")
    parser.add_argument("--noise", type=Path, help="noises that training never heard")
    parser.add_argument("--ir", type=Path, help="rooms that training never heard")
    parser.add_argument("-b", "--backend", action="append", help=f"[{' '.join(BACKENDS)}]")
    parser.add_argument("--seconds", default="1,2,3,5,10", help="[%(default)s]")
    parser.add_argument("--queries", type=int, default=100, help="a cell [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    parser.add_argument(
        "--no-ladder", action="store_true", help="only with all distractors as they are"
    )
    parser.add_argument("-j", "--jobs", type=int, help="processes [one a core]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    parser.add_argument("--journal", type=Path, help="folder to go on from after an interruption")
    arguments = parser.parse_args()
    music = tracks(arguments.music)
    backends = arguments.backend or BACKENDS
    grid = Grid(
        music=music,
        distractors=tuple(path for path in tracks(arguments.distractors) if path not in music),
        distortions=distortions_of(CONDITIONS),
        seconds=lengths_of(arguments.seconds),
        queries=arguments.queries,
        backends={name: {} for name in backends},
        parts={name: {} for name in fusible()} if FUSED in backends else {},
        absent=ABSENT,
        noise=arguments.noise and arguments.noise.absolute(),
        rooms=arguments.ir and arguments.ir.absolute(),
        seed=arguments.seed,
    )
    about, rows = measure(grid, n_workers=arguments.jobs, journal=arguments.journal)
    scores = score(about, rows)
    near = near_counts(rows, music)
    verdicts = [held(cell, near) for cell in scores.cells]
    print(
        f"{about.tracks} tracks, {about.seconds / 3600:.1f} hours, "
        f"{len(music)} tracks that the net has not heard"
    )
    print_section(table(scores, verdicts))
    print()
    print_absent(scores)
    steps = [] if arguments.no_ladder else ladder(grid, arguments.jobs)
    if steps:
        print_ladder(steps, scores)
    write(arguments.out, scores, rows, {"held": verdicts, "ladder": steps})


def write(folder: Path, scores: Scores, rows: Sequence[Row], more: dict[str, Any]) -> None:
    """Write the results and their rows."""
    write_json(folder / "neural.json", {"scores": as_json(scores), **more})
    path = folder / "neural.rows.jsonl.gz"
    write_rows(path, scores.about, map(without_idle_answers, rows))


if __name__ == "__main__":
    script(main)
