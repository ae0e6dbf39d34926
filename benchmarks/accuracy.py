"""How often a clip is named rightly, under every condition, and how often wrongly.

A run of ``afp bench`` on the corpus, held against other tools (`peers`) and against what this
project wants (`targets`). Tracks that are kept out of the store, and noise, speech, tones and
silence, must get no answer.

    python benchmarks/accuracy.py                         # 200 queries a cell
    python benchmarks/accuracy.py --queries 10 --distort noise:snr=0,10 --seconds 5 --out /tmp/a
    python benchmarks/accuracy.py -b shazam -b philips
    python benchmarks/accuracy.py --rows shazam/rows.jsonl philips/rows.jsonl
"""

# ruff: noqa: E402 - threads of a BLAS beside the processes only get in the way
import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from measure import add_options, distortions_of, grid_of, measure
from output import RESULTS, note, print_section, script, write_json
from peers import DIFFERENT, NOT_COMPARED, SECOND_SOURCE, SOURCE, peers
from targets import TARGETS, Targets

from afp.bench.rows import PRESENT, Row, join, read_rows, write_rows
from afp.bench.scores import Cell, Scores
from afp.bench.scoring import as_json, score
from afp.bench.table import Section, sections
from afp.cli.options import parsed

DISTORTIONS = (
    "clean",
    "mp3:kbps=32",
    "noise:snr=10,5,0,-5",
    "white:snr=0",
    "pink:snr=0",
    "room",
    "chang",
    "phone",
    "gsm",
    "equaliser:db=6",
    "speed:percent=-4,-2,2,4",
    "speed:percent=-4..4",
    "pitch:semitones=1",
)
ABSENT = 0.15  # share of the tracks; with 200 queries a cell some 2,600 that nothing answers
ROWS_LIMIT = 4_000_000  # bytes that rows may take beside the results
NO_TARGETS = Targets(bytes_per_second=float("inf"))


def held(cell: Cell) -> dict[str, Any]:
    """Hold a cell against the best other tool and against its targets; list what it misses."""
    targets, missed = TARGETS.get(cell.backend, NO_TARGETS), []
    best = next(iter(peers(cell.condition, cell.seconds)), None)
    target = targets.right.get((cell.condition, cell.seconds))
    offset_target = targets.offset_ms.get(cell.condition)
    percent = 100 * cell.track.share
    if best and cell.condition not in NOT_COMPARED and percent < best.percent:
        missed.append("peer")
    if target is not None and percent < target:
        missed.append("accuracy")
    if offset_target is not None and (cell.offset_median_ms or 0.0) > offset_target:
        missed.append("offset")
    return {
        "backend": cell.backend,
        "condition": cell.condition,
        "seconds": cell.seconds,
        "best_peer": best and {"name": best.name, "right": best.percent},
        "target": target,
        "offset_target_ms": offset_target,
        "missed": missed,
    }


def limits(scores: Scores) -> list[dict[str, Any]]:
    """Hold what a backend takes, and its false answers, against its targets."""
    false = {absent.backend: absent.false for absent in scores.absent}
    found = []
    for cost in scores.costs:
        targets = TARGETS.get(cost.backend)
        if targets is None:
            continue
        figures = [("bytes per second", cost.bytes_per_second, targets.bytes_per_second)]
        if cost.backend in false:
            percent = 100 * false[cost.backend].share
            figures.append(("false answers, %", percent, targets.false_percent))
        found += [
            {"backend": cost.backend, "name": name, "value": value, "at_most": limit}
            for name, value, limit in figures
        ]
    return found


def not_measured(scores: Scores) -> list[str]:
    """Name the cells that there are targets for and no queries."""
    there = {(cell.backend, cell.condition, cell.seconds) for cell in scores.cells}
    return [
        f"{cost.backend}, {condition}, {seconds:g} s"
        for cost in scores.costs
        for condition, seconds in TARGETS.get(cost.backend, NO_TARGETS).right
        if (cost.backend, condition, seconds) not in there
    ]


def wrong(rows: Iterable[Row], max_p: float) -> list[dict[str, Any]]:
    """List every accepted answer that names another track, or anything for what is absent."""
    return [
        {
            "backend": row.backend,
            "kind": row.kind,
            "condition": row.condition,
            "seconds": row.seconds,
            "number": row.number,
            "source": row.source,
            "start": row.truth and row.truth.start,
            "answer": row.answers[0].path,
            "at": row.answers[0].start,
            "score": row.answers[0].score,
            "p_false": row.answers[0].p_false,
        }
        for row in rows
        if row.answers
        and row.answers[0].p_false <= max_p
        and not (row.truth and row.truth.track == row.answers[0].track)
    ]


def judge(scores: Scores, rows: Iterable[Row]) -> dict[str, Any]:
    """Turn scores into results."""
    return {
        "scores": as_json(scores),
        "held": [held(cell) for cell in scores.cells],
        "limits": limits(scores),
        "not_measured": not_measured(scores),
        "wrong": wrong(rows, scores.max_p),
        "peers": {"source": SOURCE, "second_source": SECOND_SOURCE, "different": DIFFERENT},
    }


def print_results(scores: Scores, results: dict[str, Any]) -> None:
    """Print the tables of ``afp bench``, then what is held against targets and other tools."""
    for section in sections(scores):
        print_section(section)
    for cost in scores.costs:
        pairs = zip(scores.cells, results["held"], strict=True)
        own = [pair for pair in pairs if pair[0].backend == cost.backend]
        print_section(_against(cost.backend, own))
    if any(cell.condition in DIFFERENT for cell in scores.cells):
        print("".join(f"\n* {name}: {remark}" for name, remark in DIFFERENT.items()))
    print()
    for limit in results["limits"]:
        verdict = "ok" if limit["value"] <= limit["at_most"] else "MISSED"
        value = f"{limit['name']}: {limit['value']:.3g}, at most {limit['at_most']:g}"
        print(f"{limit['backend']}, {value}: {verdict}")
    if results["not_measured"]:
        print(f"Not measured, though there are targets: {'; '.join(results['not_measured'])}")
    if results["wrong"]:
        print_section(_wrong(results["wrong"]))


def _against(backend: str, cells: Sequence[tuple[Cell, dict[str, Any]]]) -> Section:
    right = ("s", "right %", "95 % interval", "any %", "wrong", "offset ms", "95th %ile", "target")
    rows: list[tuple[str, ...]] = [
        (
            cell.condition,
            f"{cell.seconds:g}",
            f"{100 * cell.track.share:.1f}",
            f"{100 * cell.track.low:.1f}–{100 * cell.track.high:.1f}",
            f"{100 * cell.any_track.share:.1f}",
            f"{cell.wrong.k}",
            _milliseconds(cell.offset_median_ms),
            _milliseconds(cell.offset_p95_ms),
            "" if verdict["target"] is None else f"{verdict['target']:g}",
            _peer(verdict),
            f"MISSED: {', '.join(verdict['missed'])}" if verdict["missed"] else "",
        )
        for cell, verdict in cells
    ]
    return Section(
        f"{backend}: against targets and the best other tool",
        ("condition", *right, "best other tool", ""),
        rows,
        right,
    )


def _peer(verdict: dict[str, Any]) -> str:
    best = verdict["best_peer"]
    if best is None:
        return ""
    return f"{best['right']:3} {best['name']}{'*' if verdict['condition'] in DIFFERENT else ''}"


def _wrong(answers: Iterable[dict[str, Any]]) -> Section:
    right = ("s", "from", "at", "score", "p_false")
    rows: list[tuple[str, ...]] = [
        (
            answer["backend"],
            answer["kind"],
            answer["condition"],
            answer["source"],
            f"{answer['seconds']:g}",
            "" if answer["start"] is None else f"{answer['start']:.1f}",
            answer["answer"],
            f"{answer['at']:.1f}",
            f"{answer['score']:.2f}",
            f"{answer['p_false']:.1e}",
        )
        for answer in answers
    ]
    columns = ("backend", "kind", "condition", "source", "s", "from", "named", *right[2:])
    return Section("Answers that are wrong", columns, rows, right)


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def without_idle_answers(row: Row) -> Row:
    """Leave out the answers behind the right one, or behind the first: no score depends on them."""
    truth = row.truth.track if row.truth else None
    right = [i for i, answer in enumerate(row.answers) if answer.track == truth]
    return replace(row, answers=row.answers[: right[0] + 1 if right else 1])


def write_results(folder: Path, results: dict[str, Any], scores: Scores, rows: list[Row]) -> None:
    """Write results and the rows that they are from."""
    write_json(folder / "accuracy.json", results)
    path = folder / "accuracy.rows.jsonl.gz"
    write_rows(path, scores.about, map(without_idle_answers, rows))
    size = path.stat().st_size
    too_large = ": too large to be kept with the code" if size > ROWS_LIMIT else ""
    note(f"wrote {path}, {size / 1e6:.2f} MB{too_large}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, distortions=DISTORTIONS, seconds="3,5,10", queries=200)
    parser.add_argument("-b", "--backend", action="append", help="may repeat [shazam]")
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    parser.add_argument(
        "--rows", type=Path, nargs="+", help="judge the rows of earlier runs; nothing is run"
    )
    parser.add_argument("--journal", type=Path, help="folder to go on from after an interruption")
    arguments = parser.parse_args()
    backends = arguments.backend or ["shazam"]
    if arguments.param and len(backends) > 1:
        parser.error("-p is for a single backend")
    grid = grid_of(
        arguments,
        distortions_of(arguments.distort or DISTORTIONS),
        {name: dict(map(parsed, arguments.param)) for name in backends},
        absent=ABSENT,
    )
    if arguments.rows:
        about, rows = join([read_rows(path) for path in arguments.rows])
    else:
        about, rows = measure(grid, n_workers=arguments.jobs, journal=arguments.journal)
    scores = score(about, rows)
    results = judge(scores, rows)
    print_results(scores, results)
    n_present = sum(row.kind == PRESENT for row in rows)
    print(f"\n{n_present:,} queries of indexed tracks, {len(rows) - n_present:,} of what is absent")
    write_results(arguments.out, results, scores, rows)


if __name__ == "__main__":
    script(main)
