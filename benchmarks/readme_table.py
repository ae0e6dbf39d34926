"""Print the README's table of figures from what ``accuracy.py`` has written, as Markdown.

python benchmarks/readme_table.py
python benchmarks/readme_table.py /tmp/a/accuracy.json
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from output import RESULTS, script

LABELS = {
    "clean": "clean",
    "mp3:kbps=32": "MP3, 32 kbit/s",
    "noise:snr=10": "recorded noise, 10 dB",
    "noise:snr=5": "recorded noise, 5 dB",
    "noise:snr=0": "recorded noise, 0 dB",
    "noise:snr=-5": "recorded noise, −5 dB",
    "white:snr=0": "white noise, 0 dB",
    "pink:snr=0": "pink noise, 0 dB",
    "room": "room",
    "chang": "room, then noise at 0–10 dB",
    "phone": "phone: room, noise, microphone, MP3 32k, telephone line",
    "gsm:errors=0": "GSM",
    "equaliser:db=6": "equaliser, ±6 dB",
    "speed:percent=-4": "speed −4 %",
    "speed:percent=-2": "speed −2 %",
    "speed:percent=2": "speed +2 %",
    "speed:percent=4": "speed +4 %",
    "speed:percent=-4..4": "speed within ±4 %",
    "pitch:semitones=1": "pitch +1 semitone",
}
OFFSET_SECONDS = 5.0
PEER_SECONDS = (5.0, 10.0)
NONE = "–"

Key = tuple[str, str, float]  # backend, condition, seconds
Found = Mapping[Key, dict[str, Any]]


def by_cell(values: Iterable[dict[str, Any]]) -> Found:
    """Find cells, and what they are held against, by backend, condition and seconds."""
    return {(v["backend"], v["condition"], v["seconds"]): v for v in values}


def table(results: dict[str, Any]) -> list[str]:
    """Return the lines of the table: a condition a line."""
    scores = results["scores"]
    cells, held = by_cell(scores["cells"]), by_cell(results["held"])
    backends = [cost["backend"] for cost in scores["costs"]]
    lengths = sorted({seconds for _, _, seconds in cells})
    told = " / ".join(f"{seconds:g}" for seconds in lengths)
    headings = [
        "clip",
        *(f"`{backend}` {told} s" for backend in backends),
        f"median offset error, {OFFSET_SECONDS:g} s",
        f"best of six other tools, {' / '.join(f'{seconds:g} s' for seconds in PEER_SECONDS)}",
    ]
    lines = [headings]
    for condition in dict.fromkeys(condition for _, condition, _ in cells):
        shares = [
            " / ".join(_percent(cells.get((backend, condition, seconds))) for seconds in lengths)
            for backend in backends
        ]
        offsets = [_offset(cells.get((b, condition, OFFSET_SECONDS))) for b in backends]
        offset = NONE if set(offsets) == {NONE} else f"{' / '.join(offsets)} ms"
        best = [_peer(held.get((backends[0], condition, seconds))) for seconds in PEER_SECONDS]
        mark = "*" if condition in results["peers"]["different"] else ""
        other = f"{' / '.join(best)}{mark}" if set(best) != {NONE} else NONE
        lines.append([LABELS.get(condition, f"`{condition}`"), *shares, offset, other])
    heading, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return [heading, "|---" * len(headings) + "|", *rest]


def _percent(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return NONE
    percent = 100 * cell["track"]["share"]
    return "100" if percent == 100 else f"{percent:.1f}"


def _offset(cell: dict[str, Any] | None) -> str:
    few = cell is None or cell["track"]["k"] < 10  # no median of a handful
    return NONE if cell is None or few else f"{cell['offset_median_ms']:.1f}"


def _peer(verdict: dict[str, Any] | None) -> str:
    best = verdict and verdict["best_peer"]
    return f"{best['right']} {best['name']}" if best else NONE


def before_table(results: dict[str, Any]) -> str:
    """Tell what was measured on what."""
    scores = results["scores"]
    about, machine = scores["about"], scores["about"]["machine"]
    python = ".".join(machine["python"].split(".")[:2])
    counts = {cell["backend"]: cell["track"]["n"] for cell in scores["cells"]}
    several = len(set(counts.values())) > 1
    queries = " and ".join(
        f"{n} random clips a cell{f' for `{backend}`' if several else ''}"
        for backend, n in (counts.items() if several else [("", max(counts.values()))])
    )
    return (
        f"{about['tracks']} tracks ({about['seconds'] / 3600:.1f} h) indexed, "
        f"{queries}, on {machine['cores']} cores of an {machine['cpu']} with "
        f"Python {python}, {about['date']}: `{about['command']}`."
    )


def after_table(results: dict[str, Any]) -> Iterable[str]:
    """Sum each backend up, and tell what differs from the other tools."""
    scores = results["scores"]
    several = len(scores["costs"]) > 1
    absent = {found["backend"]: found for found in scores["absent"]}
    for backend in (cost["backend"] for cost in scores["costs"]):
        cells = [cell for cell in scores["cells"] if cell["backend"] == backend]
        n = sum(cell["track"]["n"] for cell in cells)
        right = sum(cell["track"]["k"] for cell in cells)
        wrong = sum(cell["wrong"]["k"] for cell in cells)
        yield (
            f"{f'`{backend}`: a' if several else 'A'}ll {n:,} clips together: "
            f'{100 * right / n:.1f} % named rightly, {wrong} wrongly; the rest got "no match".'
        )
        if backend in absent:
            false = absent[backend]["false"]
            kinds = absent[backend]["by_kind"].items()
            counts = ", ".join(
                f"{share['k']} of {share['n']} {kind}" for kind, share in kinds if kind != "music"
            )
            answers = "false answer" if false["k"] == 1 else "false answers"
            yield (
                f"{false['n']:,} queries of music that is not in the store: {false['k']} {answers} "
                f"({100 * false['share']:.2f} %, 95 % interval {100 * false['low']:.2f} to "
                f"{100 * false['high']:.2f}). Other sounds: {counts}."
            )
    measured = {cell["condition"] for cell in scores["cells"]}
    for condition, remark in results["peers"]["different"].items():
        if condition in measured:
            yield f"\\* {condition}: {remark}."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", nargs="?", type=Path, default=RESULTS / "accuracy.json", help="[%(default)s]"
    )
    results = json.loads(parser.parse_args().results.read_text(encoding="utf-8"))
    print(before_table(results), "", *table(results), "", *after_table(results), sep="\n")


if __name__ == "__main__":
    script(main)
