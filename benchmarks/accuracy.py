"""How often a clip is named rightly, under every condition, and how often wrongly.

A tenth of the tracks is kept out of the store: its clips, and noise, speech, tones and silence,
must get no answer. Everything goes through the code and the default threshold of ``afp query``.

    python benchmarks/accuracy.py                         # 200 queries a cell
    python benchmarks/accuracy.py --queries 10 --conditions clean,real0 --output /tmp/a.json
"""

# ruff: noqa: E402 - threads of a BLAS beside the processes only get in the way
import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from conditions import CONDITIONS
from corpus import DEFAULT_AUDIO
from figures import (
    BYTES_TARGET,
    FALSE_TARGET,
    NOT_COMPARED,
    OFFSET_TARGETS,
    SECOND_SOURCE,
    SOURCE,
    TARGETS,
    peers,
)
from grid import Grid, Outcome, Row, run, write_json

from afp.backends import Parameter

RESULTS = Path(__file__).parent / "results"
ROWS_LIMIT = 2_000_000  # bytes that raw rows may take beside the results
NORMAL_QUANTILE = 1.959964


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion k / n, in %, after Wilson (1927)."""
    if n == 0:
        return 0.0, 100.0
    z2 = NORMAL_QUANTILE**2
    centre = (k + z2 / 2) / (n + z2)
    half = NORMAL_QUANTILE / (n + z2) * np.sqrt(k * (n - k) / n + z2 / 4)
    return max(0.0, 100 * float(centre - half)), min(100.0, 100 * float(centre + half))


def cells(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Judge the queries whose track is in the store, cell by cell."""
    grouped: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if "kind" not in row:
            grouped.setdefault((row["condition"], row["seconds"]), []).append(row)
    return [_cell(condition, seconds, group) for (condition, seconds), group in grouped.items()]


def _cell(condition: str, seconds: int, rows: Sequence[Row]) -> dict[str, Any]:
    answers = [row["answer"] for row in rows if "answer" in row]
    right = [answer for answer in answers if answer["right"]]
    at_any_score = len(right) + sum(row.get("best", {}).get("right", False) for row in rows)
    errors = np.abs([answer["offset_error_ms"] for answer in right])
    n = len(rows)
    cell: dict[str, Any] = {
        "condition": condition,
        "seconds": seconds,
        "queries": n,
        "right": 100 * len(right) / n,
        "interval": wilson(len(right), n),
        "right_at_any_score": 100 * at_any_score / n,
        "wrong": len(answers) - len(right),
        "offset_median_ms": float(np.median(errors)) if len(errors) else None,
        "offset_p95_ms": float(np.quantile(errors, 0.95)) if len(errors) else None,
        "wall_ms": float(np.mean([row["wall_ms"] for row in rows])),
        "cpu_ms": float(np.mean([row["cpu_ms"] for row in rows])),
    }
    return cell | _verdict(cell)


def _verdict(cell: dict[str, Any]) -> dict[str, Any]:
    """Hold a cell against the best peer and against its targets; list what it misses."""
    condition, missed = cell["condition"], []
    best = next(iter(peers(condition, cell["seconds"])), None)
    target = TARGETS.get((condition, cell["seconds"]))
    offset_target = OFFSET_TARGETS.get(condition)
    if best and condition not in NOT_COMPARED and cell["right"] < best.percent:
        missed.append("peer")
    if target is not None and cell["right"] < target:
        missed.append("accuracy")
    if offset_target and (cell["offset_median_ms"] or 0.0) > offset_target:
        missed.append("offset")
    return {
        "best_peer": best and {"name": best.name, "right": best.percent},
        "target": target,
        "offset_target_ms": offset_target,
        "missed": missed,
    }


def absent(rows: Iterable[Row]) -> dict[str, Any]:
    """Judge the queries that nothing in the store answers."""
    queries = [row for row in rows if "kind" in row]
    false = [row for row in queries if "answer" in row]
    n = len(queries)
    by_kind = Counter(row["kind"] for row in queries)
    false_by_kind = Counter(row["kind"] for row in false)
    found = [row.get("answer") or row.get("best") for row in queries]
    p_values = np.array([match["p_false"] if match else 1.0 for match in found])
    return {
        "queries": n,
        "false": len(false),
        "false_percent": 100 * len(false) / max(n, 1),
        "interval": wilson(len(false), n),
        "target_percent": FALSE_TARGET,
        "by_kind": {k: {"queries": by_kind[k], "false": false_by_kind[k]} for k in by_kind},
        "calibration": {  # how many absent queries have a p_false so small; ideal: that share
            f"{p:g}": int(np.sum(p_values <= p)) for p in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
        },
        "wall_ms": float(np.mean([row["wall_ms"] for row in queries])) if n else None,
        "cpu_ms": float(np.mean([row["cpu_ms"] for row in queries])) if n else None,
        "answers": false,
    }


def judge(outcome: Outcome) -> dict[str, Any]:
    """Turn rows into results."""
    present = [row for row in outcome.rows if "kind" not in row]
    n_right = sum(row.get("answer", {}).get("right", False) for row in present)
    return {
        "about": outcome.about,
        "bytes_per_second_target": BYTES_TARGET,
        "all_present": {
            "queries": len(present),
            "right": 100 * n_right / max(len(present), 1),
            "wrong": sum("answer" in row and not row["answer"]["right"] for row in present),
        },
        "peers": {"source": SOURCE, "second_source": SECOND_SOURCE},
        "cells": cells(outcome.rows),
        "absent": absent(outcome.rows),
        "wrong_answers": [r for r in present if "answer" in r and not r["answer"]["right"]],
    }


def print_results(results: dict[str, Any]) -> None:
    """Print the table and the false answers."""
    about = results["about"]
    parameters = ", ".join(f"{k}={v}" for k, v in about["parameters"].items())
    print(f"{about['tracks']} tracks, {about['hours']:.1f} h; {about['backend']} ({parameters})")
    size, limit = about["bytes_per_second"], results["bytes_per_second_target"]
    print(
        f"{size:.0f} bytes a second of audio {_mark(size <= limit)} (at most {limit:.0f}); "
        f"{about['bytes_per_second_compacted']:.0f} compacted\n"
    )
    print(
        f"{'condition':11}{'s':>3}{'n':>5}{'right %':>9} {'95 %':>13}{'any':>7}{'wrong':>6}"
        f"{'offset ms':>11}{'p95':>9}{'CPU ms':>8}  {'best peer':30}{'target':>7}"
    )
    for cell in results["cells"]:
        low, high = cell["interval"]
        peer, target = cell["best_peer"], cell["target"]
        print(
            f"{cell['condition']:11}{cell['seconds']:3}{cell['queries']:5}{cell['right']:9.1f}"
            f" {f'{low:.1f}–{high:.1f}':>13}"
            f"{cell['right_at_any_score']:7.1f}{cell['wrong']:6}"
            f"{_milliseconds(cell['offset_median_ms']):>11}"
            f"{_milliseconds(cell['offset_p95_ms']):>9}{cell['cpu_ms']:8.1f}  "
            f"{peer['right'] if peer else '':>3} {peer['name'] if peer else '':26}"
            f"{'' if target is None else f'{target:g}':>7}  "
            f"{'MISSED: ' + ', '.join(cell['missed']) if cell['missed'] else ''}".rstrip()
        )
    total = results["all_present"]
    print(
        f"\nall present: {total['right']:.1f} % of {total['queries']} right, {total['wrong']} wrong"
    )
    _print_absent(results["absent"])


def _print_absent(figures: dict[str, Any]) -> None:
    if not figures["queries"]:
        return
    low, high = figures["interval"]
    reached = _mark(figures["false_percent"] <= figures["target_percent"])
    print(
        f"absent: {figures['false']} false answers to {figures['queries']} queries, "
        f"{figures['false_percent']:.2f} % ({low:.2f} to {high:.2f}) {reached} "
        f"(at most {figures['target_percent']} %); {figures['cpu_ms']:.0f} ms CPU each"
    )
    counts = ", ".join(f"{k} {v['false']}/{v['queries']}" for k, v in figures["by_kind"].items())
    print(f"  by kind: {counts}")
    calibration = ", ".join(f"{p}: {n}" for p, n in figures["calibration"].items())
    print(f"  of these, with a p_false of at most … : {calibration}")
    for row in figures["answers"]:
        answer = row["answer"]
        what = f"{row['kind']} {row.get('condition', '')} {row.get('source', '')}".strip()
        print(
            f"  FALSE {what} ({row['seconds']} s): {answer['track']} at {answer['at']:.1f} s, "
            f"score {answer['score']:.2f}, p_false {answer['p_false']:.1e}"
        )


def _mark(reached: bool) -> str:
    return "ok" if reached else "MISSED"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def add_options(parser: argparse.ArgumentParser, queries: int) -> None:
    """Add what `grid_of` reads."""
    parser.add_argument("--audio", type=Path, default=DEFAULT_AUDIO, help="folder of the corpus")
    parser.add_argument("--queries", type=int, default=queries, help="a cell [%(default)s]")
    parser.add_argument("--seconds", default="3,5,10", help="lengths of clips [%(default)s]")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="[all]")
    parser.add_argument("--backend", default="shazam", help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes [%(default)s]")


def grid_of(
    arguments: argparse.Namespace, parameters: dict[str, Parameter], *, absent: bool
) -> Grid:
    """Read the options."""
    conditions = tuple(arguments.conditions.split(","))
    if unknown := set(conditions) - set(CONDITIONS):
        raise SystemExit(f"no condition {', '.join(sorted(unknown))}: {', '.join(CONDITIONS)}")
    return Grid(
        audio=arguments.audio,
        queries=arguments.queries,
        seconds=tuple(int(text) for text in arguments.seconds.split(",")),
        conditions=conditions,
        absent=absent,
        backend=arguments.backend,
        parameters=parameters,
        seed=arguments.seed,
        jobs=min(arguments.jobs, len(os.sched_getaffinity(0))),
    )


def _parameter(text: str) -> tuple[str, Parameter]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, queries=200)
    parser.add_argument("--density", type=float, help="same as -p density=…")
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--no-absent", action="store_true", help="skip the absent queries")
    parser.add_argument("--output", type=Path, default=RESULTS / "accuracy.json")
    arguments = parser.parse_args()
    parameters = dict(_parameter(text) for text in arguments.param)
    if arguments.density is not None:
        parameters["density"] = arguments.density
    outcome = run(grid_of(arguments, parameters, absent=not arguments.no_absent))
    results = judge(outcome)
    print_results(results)
    write_json(arguments.output, results)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in outcome.rows)
    packed = gzip.compress(lines.encode(), mtime=0)
    rows_path = arguments.output.with_suffix(".rows.jsonl.gz")
    rows_path.write_bytes(packed)
    if len(packed) > ROWS_LIMIT:
        print(f"{rows_path} takes {len(packed) / 1e6:.1f} MB: keep it out of the repository")


if __name__ == "__main__":
    main()
