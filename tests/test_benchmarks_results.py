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


def kept(name):
    path = RESULTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"no {path.name} is kept")
    return json.loads(path.read_text())


def test_search_is_held_against_float32_of_the_same_run():
    results = kept("search")
    by_size = {}
    for row in results["figures"]:
        by_size.setdefault(row["vectors"], []).append(row)
    assert len(by_size) > 1
    for rows in by_size.values():
        base = rows[0]
        assert base["method"] == "float32 exact"
        assert base["track_recall"] == base["place_recall"] == 1.0
        assert {"afp exact", "afp cells"} <= {row["method"] for row in rows}
        for row in rows:
            assert row["of_float32_exact"] == pytest.approx(row["median_ms"] / base["median_ms"])
            assert row["median_ms"] <= row["p95_ms"]
            assert 0 <= row["place_recall"] <= row["track_recall"] <= 1
            for share in (row["track_recall"], row["place_recall"], row["right"]):
                hits = share * results["queries"]
                assert hits == pytest.approx(round(hits))


def test_nets_are_compared_after_as_many_steps():
    results = kept("networks")
    nets = {row["name"]: row for row in results["networks"]}
    assert "ours" in nets
    assert nets["ours"]["steps"] == results["recipe"]["steps"]
    for row in [*nets.values(), *results["ablations"]]:
        assert row["of_steps"] == results["recipe"]["steps"]
        assert 0 < row["steps"] <= row["of_steps"]
        tracks = [share for name, share in row["scores"].items() if name.endswith("track")]
        assert row["mean_track"] == pytest.approx(sum(tracks) / len(tracks))
        for name, share in row["scores"].items():
            assert 0 <= share <= row["scores"][name.replace("near", "track")] <= 1
    for row in nets.values():
        assert row["realtime"] < row["realtime_net_alone"]
        if "own_operations" in row:
            assert row["operations"] < row["own_operations"]


def test_load_grows_and_answers():
    results = kept("load")
    for backend in ("shazam", "neural"):
        rows = results[backend]
        sizes = [row["postings"] for row in rows]
        assert len(rows) > 1
        assert sizes == sorted(sizes)
        assert all(row["postings"] >= row["size"] for row in rows)
        for row in rows:
            for name in ("query", "cold"):
                assert row[f"{name}_p50_ms"] <= row[f"{name}_p95_ms"] <= row[f"{name}_p99_ms"]
    for row in [*results["shazam"], results["planted_alone"]]:
        hits = row["right"] * row["present"]
        assert hits == pytest.approx(round(hits))
        assert row["right"] <= row["right_at_any_p"]
        assert row["placed"] <= row["right"]
        assert row["wrong"] == row["false"] == 0
    largest = results["shazam"][-1]
    assert largest["bytes_per_posting"] <= results["targets"]["bytes_per_posting"][1]
    assert 0 < results["growth"]["query_p50_ms"] < 1
