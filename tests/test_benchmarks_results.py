"""The results that are kept beside the benchmarks are what their rows come to."""

import json
from pathlib import Path

import pytest

from afp.bench.rows import read_rows
from afp.bench.scoring import as_json, score

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
ROWS = sorted(RESULTS.glob("*.rows.jsonl.gz"))


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.name)
def test_rows_score_to_the_results(path):
    about, rows = read_rows(path)
    kept = json.loads(path.with_name(path.name.replace(".rows.jsonl.gz", ".json")).read_text())
    assert json.loads(json.dumps(as_json(score(about, rows)))) == kept["scores"]


def test_there_are_rows():
    assert ROWS
