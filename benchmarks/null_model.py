"""Hold p_false against what is observed, and fit the tails of the null models.

Reads the rows that ``benchmarks/accuracy.py``, or ``afp bench --out``, has written: the best
answer to each query that no track answers, whatever the threshold.

    python benchmarks/accuracy.py
    python benchmarks/null_model.py benchmarks/results/accuracy.rows.jsonl.gz
    afp bench ~/Music -b philips --absent 0.5 --out rows
    python benchmarks/null_model.py rows/rows.jsonl
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from output import print_section, script

from afp.backends import neural, philips, shazam
from afp.bench.rows import PRESENT, Row, read_rows
from afp.bench.table import Section
from afp.matching.significance import NullModel

NULLS = {"shazam": shazam.NULL, "philips": philips.NULL, "neural": neural.NULL}
RECORDED = ("music", "noise", "speech")  # what the fit is to; made-up sounds are mostly easier
TAIL = 0.95  # the fit is through the scores above this quantile
LEVELS = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)


def lowest_p(row: Row) -> float:
    """Return the p_false of the best answer, 1 where there is none."""
    return row.answers[0].p_false if row.answers else 1.0


def equivalent_score(p_false: float, null: NullModel) -> float:
    """Return the score that has this p_false at nominal speed in a store of the fit's size."""
    p = min(max(p_false, 1e-300), 1 - 1e-12)
    return null.score - math.log(-math.log1p(-p)) / null.decay


def fitted(p_false: Sequence[float], null: NullModel) -> tuple[float, float, int]:
    """Return score and decay of an exponential tail, and how many scores it is fitted to."""
    return tail([equivalent_score(p, null) for p in p_false])


def tail(scores: Sequence[float]) -> tuple[float, float, int]:
    """Fit an exponential tail: return score and decay, and how many scores they come from."""
    each = np.array(scores)
    threshold = float(np.quantile(each, TAIL))
    above = each[each > threshold] - threshold
    decay = 1 / float(np.mean(above))
    return threshold + math.log(-math.log(TAIL)) / decay, decay, len(above)


def calibration(backend: str, absent: Sequence[Row]) -> Section:
    """Tell how many queries of each kind fall below each p_false, and how many should."""
    kinds = sorted({row.kind for row in absent})
    groups = {"recorded": [row for row in absent if row.kind in RECORDED]}
    groups |= {kind: [row for row in absent if row.kind == kind] for kind in kinds}
    lines = []
    for name, rows in groups.items():
        p = np.array([lowest_p(row) for row in rows])
        observed = [f"{np.count_nonzero(p <= level)} / {level * len(p):.1f}" for level in LEVELS]
        lines.append((name, str(len(p)), *observed))
    right = ("queries", *(f"{level:g}" for level in LEVELS))
    title = f"{backend}: absent queries with p_false at most so much, observed / nominal"
    return Section(title, ("kind", *right), lines, right)


def main() -> None:
    """Print the fit and the calibration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path, help="rows of benchmarks/accuracy.py, or of afp bench")
    _, rows = read_rows(parser.parse_args().rows)
    for name in dict.fromkeys(row.backend for row in rows):
        absent = [row for row in rows if row.backend == name and row.kind != PRESENT]
        recorded = [lowest_p(row) for row in absent if row.kind in RECORDED]
        if len(recorded) * (1 - TAIL) < 2:
            parser.error(f"{len(recorded)} absent queries of {name} are too few")
        print_section(calibration(name, absent))
        if name not in NULLS:
            continue
        null = NULLS[name]
        score, decay, n = fitted(recorded, null)
        print(f"in use: score {null.score}, decay {null.decay}, for {null.hours} h")
        print(
            f"exponential tail of {n} of {len(recorded)}: score {score:.2f}, "
            f"decay {decay:.2f} ± {decay / math.sqrt(n):.2f}"
        )


if __name__ == "__main__":
    script(main)
