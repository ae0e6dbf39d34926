"""Fit the null model of the `shazam` backend, and hold p_false against what is observed.

Reads the rows that ``benchmarks/accuracy.py``, or ``afp bench --out``, has written: the best
answer to each query that no track answers, whatever the threshold.

    python benchmarks/accuracy.py
    python benchmarks/null_model.py benchmarks/results/accuracy.rows.jsonl.gz
"""

import argparse
import math
from pathlib import Path

import numpy as np
from output import script

from afp.backends.shazam import NULL
from afp.bench.rows import PRESENT, read_rows

BACKEND = "shazam"
TAIL = 0.95  # the fit is through the scores above this quantile
LEVELS = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)


def equivalent_score(p_false: float) -> float:
    """Return the score that has this p_false at nominal speed in a store of the fit's size."""
    p = min(max(p_false, 1e-300), 1 - 1e-12)
    return NULL.score - math.log(-math.log1p(-p)) / NULL.decay


def main() -> None:
    """Print the fit and the calibration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path, help="rows of benchmarks/accuracy.py")
    _, rows = read_rows(parser.parse_args().rows)
    absent = [row for row in rows if row.backend == BACKEND and row.kind != PRESENT]
    if not absent:
        parser.error(f"there is no absent query of {BACKEND} among {len(rows)} rows")
    p = np.array([row.answers[0].p_false if row.answers else 1.0 for row in absent])
    scores = np.array([equivalent_score(value) for value in p])

    threshold = float(np.quantile(scores, TAIL))
    decay = 1 / float(np.mean(scores[scores > threshold] - threshold))
    score = threshold + math.log(-math.log(TAIL)) / decay
    print(f"{len(absent)} absent queries; in use: score {NULL.score}, decay {NULL.decay}")
    print(f"exponential tail above {threshold:.2f}: score {score:.2f}, decay {decay:.2f}")
    print(f"{'p_false at most':>16} {'observed':>9}")
    for level in LEVELS:
        print(f"{level:>16} {np.mean(p <= level):>9.4f}")


if __name__ == "__main__":
    script(main)
