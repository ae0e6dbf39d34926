"""Accuracy against bytes per second of audio, for several densities of the reference.

Held against audfprint at its default density, in every condition that it was measured under.

    python benchmarks/frontier.py                         # 100 queries a cell
    python benchmarks/frontier.py --queries 10 --points 20:36,80:36 --out /tmp/f

Draws the picture beside the results when matplotlib is installed.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accuracy import ABSENT, DISTORTIONS
from measure import add_options, distortions_of, grid_of, lengths_of, measure
from output import RESULTS, note, script, write_json
from peers import BYTES_PER_SECOND, DIFFERENT, NOT_COMPARED, SECOND_SOURCE, SOURCE, peers

from afp.bench.scores import Cell
from afp.bench.scoring import score
from afp.distort import Distortion

BACKEND = "shazam"
POINTS = "15:24,20:36,40:36,80:36,160:54"  # density:peak_density
RIVAL = "audfprint"
SMALL_BYTES = 200.0  # per second: what a point that is held against the rival may take


def rival(condition: str, seconds: float) -> int | None:
    """Return the rival's figure for a cell, in %."""
    return next((p.percent for p in peers(condition, seconds) if p.name == RIVAL), None)


def point(
    arguments: argparse.Namespace,
    distortions: tuple[Distortion, ...],
    density: float,
    peak_density: float,
) -> dict[str, Any]:
    """Measure one pair of densities."""
    parameters = {"density": density, "peak_density": peak_density}
    note(f"density {density:g}, peak density {peak_density:g}")
    grid = grid_of(
        arguments, distortions, {BACKEND: parameters}, absent=ABSENT if arguments.absent else 0.0
    )
    about, rows = measure(grid, n_workers=arguments.jobs)
    scores = score(about, rows)
    cells = list(_against_rival(scores.cells))
    (cost,) = scores.costs
    false = scores.absent[0].false if scores.absent else None
    return {
        "parameters": about.backends[BACKEND]["parameters"],
        "bytes_per_second": cost.bytes_per_second,
        "cpu_ms": cost.query_cpu_ms,
        "false": false and false.k,
        "absent_queries": false.n if false else 0,
        "behind": [
            f"{cell['condition']}, {cell['seconds']:g} s"
            for cell in cells
            if cell["condition"] not in NOT_COMPARED and cell["right"] < cell[RIVAL]
        ],
        "cells": cells,
        "about": about.to_json(),
    }


def _against_rival(cells: Iterable[Cell]) -> Iterable[dict[str, Any]]:
    for cell in cells:
        percent = rival(cell.condition, cell.seconds)
        if percent is not None:
            yield {
                "condition": cell.condition,
                "seconds": cell.seconds,
                "queries": cell.track.n,
                "right": 100 * cell.track.share,
                "interval": [100 * cell.track.low, 100 * cell.track.high],
                "right_at_any_score": 100 * cell.any_track.share,
                RIVAL: percent,
            }


def cell_of(measured: dict[str, Any], condition: str, seconds: float) -> dict[str, Any]:
    """Find a cell of a point."""
    found: dict[str, Any] = next(
        cell
        for cell in measured["cells"]
        if (cell["condition"], cell["seconds"]) == (condition, seconds)
    )
    return found


def _marked(condition: str) -> str:
    return f"{condition} *" if condition in DIFFERENT else condition


def print_points(points: list[dict[str, Any]]) -> None:
    """Print a column for each point, and who is ahead."""
    sizes = [p["bytes_per_second"] for p in points]
    print(f"{'bytes a second':24}" + "".join(f"{size:9.0f}" for size in sizes), end="")
    print(f"{BYTES_PER_SECOND[RIVAL]:12} {RIVAL}")
    for row in zip(*(p["cells"] for p in points), strict=True):
        print(f"{_marked(row[0]['condition']):18}{row[0]['seconds']:4g} s", end="")
        print("".join(f"{cell['right']:9.1f}" for cell in row) + f"{row[0][RIVAL]:12}")
    print(f"{'CPU ms a query':24}" + "".join(f"{p['cpu_ms']:9.1f}" for p in points))
    for p in points:
        if p["false"] is not None:
            print(f"{p['parameters']}: {p['false']} false answers of {p['absent_queries']}")
        if p["bytes_per_second"] <= SMALL_BYTES:
            verdict = f"MISSED: behind in {', '.join(p['behind'])}" if p["behind"] else "ok"
            print(f"{p['bytes_per_second']:.0f} bytes a second against {RIVAL}: {verdict}")
    if min(sizes) > SMALL_BYTES:
        print(f"MISSED: no point takes {SMALL_BYTES:.0f} bytes a second or less")
    for condition, remark in DIFFERENT.items():
        if any(cell["condition"] == condition for cell in points[0]["cells"]):
            print(f"* {condition}: {remark}")


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each condition."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        note("no picture: matplotlib is not installed (pip install matplotlib)")
        return
    lengths = sorted({cell["seconds"] for cell in points[0]["cells"]})
    conditions = list(dict.fromkeys(cell["condition"] for cell in points[0]["cells"]))
    sizes = [p["bytes_per_second"] for p in points]
    columns = min(5, len(conditions))
    lines = -(-len(conditions) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.4 * lines + 0.6), layout="constrained")
    panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel in panels:
        panel.set(xscale="log", ylim=(-3, 103))
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    for panel, condition in zip(panels, conditions, strict=False):
        panel.set_title(_marked(condition), fontsize="medium")
        for i, seconds in enumerate(lengths):
            row = [cell_of(p, condition, seconds) for p in points]
            right, theirs = [cell["right"] for cell in row], row[0][RIVAL]
            panel.plot(sizes, right, f"C{i}.-", label=f"afp, {seconds:g} s")
            panel.plot(
                BYTES_PER_SECOND[RIVAL],
                theirs,
                f"C{i}s",
                markerfacecolor="none",
                label=f"{RIVAL}, {seconds:g} s",
            )
        panel.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    panels[0].legend(fontsize="x-small", loc="lower right")
    figure.supxlabel("bytes per second of audio")
    figure.supylabel("right track at the default threshold, %")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    note(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, distortions=DISTORTIONS, seconds="5,10", queries=100)
    parser.add_argument("--points", default=POINTS, help="density:peak_density,… [%(default)s]")
    parser.add_argument("--absent", action="store_true", help="count false answers too")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder [%(default)s]")
    arguments = parser.parse_args()
    compared = tuple(
        distortion
        for distortion in distortions_of(arguments.distort or DISTORTIONS)
        if any(
            rival(distortion.condition, seconds) is not None
            for seconds in lengths_of(arguments.seconds)
        )
    )
    if not compared:
        parser.error(f"{RIVAL} was measured under none of these conditions and lengths")
    pairs = [tuple(map(float, text.split(":"))) for text in arguments.points.split(",")]
    points = sorted(
        (point(arguments, compared, *pair) for pair in pairs), key=lambda p: p["bytes_per_second"]
    )
    print_points(points)
    results = {"rival": RIVAL, "source": SOURCE, "second_source": SECOND_SOURCE, "points": points}
    write_json(arguments.out / "frontier.json", results)
    draw(points, arguments.out / "frontier.png")


if __name__ == "__main__":
    script(main)
