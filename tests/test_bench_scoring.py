"""Scores of rows that were made up so that every figure can be counted by hand."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afp.bench.metrics import clustered
from afp.bench.rows import PRESENT, About, Answer, Row, Truth
from afp.bench.scores import DetPoint
from afp.bench.scoring import as_json, score
from afp.bench.table import bar, sections
from afp.errors import InputError

BACKEND = {
    "version": 1,
    "parameters": {},
    "bytes_per_second": 200.0,
    "index_cpu_seconds": 50.0,
    "index_wall_seconds": 25.0,
}
ABOUT = About(
    afp="0.1.0",
    date="2025-01-31",
    command="afp bench",
    machine={},
    seed=0,
    max_p=1e-3,
    tracks=9,
    absent_tracks=1,
    silent=0,
    seconds=10_000.0,
    backends={"a": BACKEND, "b": BACKEND | {"index_cpu_seconds": 0.0}},
)


def answer(track="right", start=10.0, p=1e-9):
    return Answer(track, f"{track}.flac", start, 5.0, p)


def row(number, *answers, backend="a", condition="clean", seconds=5.0, kind=PRESENT, **changes):
    plain = Row(
        backend=backend,
        version=1,
        parameters={},
        condition=condition,
        distortion=condition.partition(":")[0],
        severity={},
        seconds=seconds,
        kind=kind,
        number=number,
        seed=0,
        source="",
        start=0.0,
        truth=Truth("right", 10.0) if kind == PRESENT else None,
        answers=answers,
    )
    return replace(plain, **changes)


def counts(*proportions):
    return [(proportion.k, proportion.n) for proportion in proportions]


def test_a_cell_by_hand():
    wrong = [answer(f"w{i}", p=0.5) for i in range(9)]
    rows = [
        row(0, answer(start=10.05), query_ms=1, query_cpu_ms=1),  # 50 ms late: close
        row(1, answer(start=9.75), query_ms=2, query_cpu_ms=2),  # 250 ms early: exact
        row(2, answer(start=10.5), query_ms=3, query_cpu_ms=3),  # 500 ms late: near
        row(3, answer(start=10.501), query_ms=4, query_cpu_ms=4),  # the track alone
        row(4, answer(start=10.0, p=1.01e-3), wrong[0], query_ms=5, query_cpu_ms=5),  # p too large
        row(5, answer("w"), answer(), query_ms=6, query_cpu_ms=6),  # wrong; right is second
        row(6, *wrong, answer(p=0.9), query_ms=7, query_cpu_ms=13),  # right is tenth
        row(7, query_ms=8, query_cpu_ms=14),  # no answer
    ]
    (cell,) = score(ABOUT, rows).cells
    names = (cell.backend, cell.condition, cell.distortion, cell.seconds)
    assert names == ("a", "clean", "clean", 5.0)
    assert counts(cell.track, cell.near, cell.exact, cell.close, cell.wrong) == [
        (4, 8),
        (3, 8),
        (2, 8),
        (1, 8),
        (1, 8),
    ]
    assert counts(cell.any_track, cell.any_near, cell.any_exact, cell.any_close) == [
        (5, 8),
        (4, 8),
        (3, 8),
        (2, 8),
    ]
    assert {at: share.k for at, share in cell.recall.items()} == {1: 5, 5: 6, 10: 7}
    assert cell.mrr == pytest.approx((5 * 1 + 1 / 2 + 1 / 10) / 8)
    # 50, 250, 500, 501 ms: the median is between 250 and 500; the 95th percentile is at 0.95 · 3
    # = 2.85 of the way through them, 500 + 0.85 · 1.
    assert cell.offset_median_ms == pytest.approx(375)
    assert cell.offset_p95_ms == pytest.approx(500.85)
    # 1 … 8: median 4.5, 95th percentile 1 + 0.95 · 7.
    assert (cell.query_median_ms, cell.query_p95_ms) == pytest.approx((4.5, 7.65))
    assert cell.query_cpu_ms == pytest.approx(48 / 8)


def test_the_threshold_is_that_of_the_run_unless_given():
    rows = [row(0, answer(p=1e-3)), row(1, answer(p=1e-2)), row(2, answer(p=0.5), kind="music")]
    for max_p, found, false in ((None, 1, 0), (1e-2, 2, 0), (0.9, 2, 1), (1e-4, 0, 0)):
        scores = score(ABOUT, rows, max_p=max_p)
        assert scores.max_p == (1e-3 if max_p is None else max_p)
        assert scores.cells[0].track.k == found
        assert scores.cells[0].any_track.k == 2
        assert scores.absent[0].false.k == false


def test_only_the_first_answer_decides():
    (cell,) = score(ABOUT, [row(0, answer("w", p=0.5), answer(p=1e-9))]).cells
    assert counts(cell.track, cell.wrong, cell.recall[5]) == [(0, 1), (0, 1), (1, 1)]


def test_without_a_right_answer_there_is_no_offset():
    (cell,) = score(ABOUT, [row(0), row(1, answer("w"))]).cells
    assert (cell.offset_median_ms, cell.offset_p95_ms, cell.mrr) == (None, None, 0.0)


def test_cells_come_in_the_order_of_the_rows():
    keys = [
        ("b", "noise:snr=0", 5.0),
        ("a", "clean", 5.0),
        ("a", "clean", 3.0),
        ("b", "clean", 5.0),
    ]
    rows = [
        row(i, backend=backend, condition=condition, seconds=seconds)
        for i in range(2)
        for backend, condition, seconds in keys
    ]
    found = [(cell.backend, cell.condition, cell.seconds) for cell in score(ABOUT, rows).cells]
    assert found == keys


def test_errors_count_as_missed_and_are_told():
    failed = row(1, error="no audio", query_ms=900.0)
    scores = score(ABOUT, [row(0, answer(), query_ms=4.0), failed, row(0, error="x", kind="music")])
    (cell,) = scores.cells
    assert counts(cell.track, cell.any_track, cell.wrong) == [(1, 2), (1, 2), (0, 2)]
    assert cell.mrr == 0.5
    assert cell.query_p95_ms == 4.0
    assert scores.errors == [
        "a, clean, 5 s, present 1: no audio",
        "a, clean, 5 s, music 0: x",
    ]
    assert scores.absent == []


def both(number, first, second, **where):
    for backend, found in (("a", first), ("b", second)):
        yield row(number, *([answer()] if found else []), backend=backend, **where)


def test_pairs_by_hand():
    rows = [
        *(one for i in range(6) for one in both(i, True, False)),
        *(one for i in range(6, 8) for one in both(i, True, True)),
        *both(0, False, True, seconds=3.0),
        *both(1, True, False, seconds=3.0),
        *both(8, False, True, seconds=3.0),
        *both(9, False, False, seconds=3.0),
        row(9, answer(), backend="a"),  # asked of one alone
        *(one for i in range(3) for one in both(i, True, False, kind="music")),  # absent
    ]
    everything, five, three = score(ABOUT, rows).pairs
    assert (five.first, five.second, five.condition, five.seconds) == ("a", "b", "clean", 5.0)
    assert (five.both, five.only_first, five.only_second, five.neither) == (2, 6, 0, 0)
    assert (five.excerpts, five.for_first, five.for_second) == (8, 6, 0)
    assert five.p == pytest.approx(2 / 64)
    # Two tests: alone it would be significant, not after Holm.
    assert five.p_adjusted == pytest.approx(4 / 64)
    assert not five.is_significant
    assert (three.both, three.only_first, three.only_second, three.neither) == (0, 1, 2, 1)
    assert (three.p, three.p_adjusted) == (1.0, 1.0)
    assert (everything.condition, everything.seconds) == ("", 0.0)
    assert (everything.both, everything.only_first, everything.only_second) == (2, 7, 2)
    # Excerpt 0 is even; 1 to 5 favour the first, 8 the second.
    assert (everything.excerpts, everything.for_first, everything.for_second) == (10, 5, 1)
    assert everything.p == everything.p_adjusted == pytest.approx(2 * (1 + 6) / 64)


def test_repeated_queries_of_one_excerpt_prove_nothing():
    rows = [one for s in range(1, 31) for one in both(0, True, False, seconds=float(s))]
    everything, *cells = score(ABOUT, rows).pairs
    assert everything.only_first == 30
    assert everything.p == 1.0
    assert not any(pair.is_significant for pair in (everything, *cells))


def test_without_common_queries_there_are_no_pairs():
    assert score(ABOUT, [row(0), row(1, backend="b")]).pairs == []


def test_absent_queries_by_hand():
    rows = [
        row(0, answer("w", p=1e-3), kind="music"),
        row(0, answer("w", p=0.9), kind="music", seconds=3.0),
        row(1, answer("w", p=2e-3), kind="music"),
        row(2, kind="music"),
        row(0, answer("w", p=1e-9), kind="speech"),
        row(0, answer(), backend="b"),
    ]
    (absent,) = score(ABOUT, rows).absent
    assert (absent.backend, absent.of) == ("a", "music")
    assert counts(absent.false, *absent.by_kind.values()) == [(1, 4), (1, 4), (1, 1)]
    assert list(absent.by_kind) == ["music", "speech"]
    assert absent.false == absent.by_kind["music"] == clustered([(1, 2), (0, 1), (0, 1)])
    assert absent.false.clusters == 3
    shares = {nominal: share.k for nominal, share in absent.reliability}
    assert shares == {1e-6: 0, 1e-5: 0, 1e-4: 0, 1e-3: 1, 1e-2: 2, 1e-1: 2, 0.3: 2}
    assert {(share.n, share.clusters) for _, share in absent.reliability} == {(4, 3)}


def test_without_absent_music_every_kind_counts():
    rows = [row(0, answer("w"), kind="speech"), row(0, kind="tones"), row(0, answer())]
    scores = score(ABOUT, rows)
    (absent,) = scores.absent
    assert absent.of == "all"
    assert list(absent.listed) == ["all", "speech", "tones"]
    # Speech 0 and tones 0 are two excerpts.
    assert (absent.false.k, absent.false.n, absent.false.clusters) == (1, 2, 2)
    assert scores.det["a"][0].false == 0.5


def test_det_by_hand():
    rows = [
        row(0, answer(p=1e-9)),
        row(1, answer("w", p=1e-5), answer(p=1e-8)),  # missed at every threshold
        row(0, answer("w", p=1e-4), kind="music"),
        row(1, kind="music"),
        row(0, kind="silence"),  # left out beside music
        row(0, answer(), backend="b"),
    ]
    assert score(ABOUT, rows).det == {
        "a": [DetPoint(1e-9, missed=0.5, false=0.0), DetPoint(1e-4, missed=0.5, false=0.5)],
        "b": [],
    }


def test_costs_by_hand():
    rows = [row(0, query_ms=2.0, query_cpu_ms=1.0), row(0, kind="music", query_ms=4.0)]
    first, second = score(ABOUT, [*rows, row(0, backend="b", query_ms=9.0)]).costs
    assert (first.backend, first.bytes_per_second, first.index_x_realtime) == ("a", 200.0, 200.0)
    assert (first.query_median_ms, first.query_cpu_ms) == (3.0, 0.5)
    assert first.query_p95_ms == pytest.approx(3.9)
    assert (second.backend, second.index_x_realtime) == ("b", None)


def test_nothing_gives_nothing():
    scores = score(ABOUT, [])
    assert (scores.cells, scores.pairs, scores.absent, scores.det, scores.costs) == (
        [],
        [],
        [],
        {},
        [],
    )
    assert sections(scores) == []


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (
            [row(3), row(3, answer())],
            "a query is there twice: a, clean, 5 s, present 3, seed 0",
        ),
        (
            [row(0), row(0, backend="b", truth=Truth("other", 1.0))],
            "b, clean, 5 s, present 0 is another query than that of a: .* in track, start in the",
        ),
        (
            [row(0), row(0, backend="b", truth=Truth("right", 10.0011))],
            "than that of a: they differ in start in the track$",
        ),
        (
            [row(0), row(0, backend="b", truth=Truth("right", 10.0, 1.02))],
            "they differ in speed$",
        ),
        (
            [row(0, source="x"), row(0, backend="b", source="y", drawn={"noise": "fan"})],
            "they differ in source, what chance chose$",
        ),
        ([row(0, backend="c")], "there are rows of c, but the run tells only of a, b"),
    ],
)
def test_rows_that_cannot_be_scored(rows, wrong):
    with pytest.raises(InputError, match=wrong) as caught:
        score(ABOUT, rows)
    assert caught.value.hint


def test_absent_queries_need_not_be_the_same():
    rows = [row(0, kind="music", start=1.0), row(0, kind="music", backend="b", start=1.1)]
    assert len(score(ABOUT, rows).absent) == 2


def test_a_start_may_be_off_by_rounding():
    rows = [row(0, answer()), row(0, answer(), backend="b", truth=Truth("right", 10.0004))]
    assert len(score(ABOUT, rows).pairs) == 2


answers = st.builds(
    answer,
    st.sampled_from(["right", "w1", "w2"]),
    st.floats(9, 11),
    st.sampled_from([1e-9, 1e-4, 1e-3, 0.01, 0.5]),
)
rows_lists = st.lists(
    st.builds(
        lambda number, found, backend, condition, kind, error, ms: row(
            number,
            *found,
            backend=backend,
            condition=condition,
            kind=kind,
            error=error,
            query_ms=ms,
            query_cpu_ms=ms,
        ),
        st.integers(0, 9),
        st.lists(answers, max_size=3),
        st.sampled_from("ab"),
        st.sampled_from(["clean", "noise:snr=0"]),
        st.sampled_from([PRESENT, PRESENT, "music", "speech"]),
        st.sampled_from([None, None, None, "no audio"]),
        st.floats(0, 100),
    ),
    max_size=40,
    unique_by=lambda row: (row.backend, row.condition, row.kind, row.number),
)


def unordered(scores):
    """All figures, those of two backends from the first in the alphabet to the second."""
    value = as_json(scores)
    for pair in value["pairs"]:
        if pair["first"] > pair["second"]:
            pair["first"], pair["second"] = pair["second"], pair["first"]
            for ours, theirs in (("only_first", "only_second"), ("for_first", "for_second")):
                pair[ours], pair[theirs] = pair[theirs], pair[ours]
    for name in ("cells", "pairs", "absent", "costs", "errors"):
        value[name] = sorted(json.dumps(one, sort_keys=True) for one in value[name])
    return value


@given(rows_lists.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_rows_changes_no_figure(orders):
    first, second = orders
    assert unordered(score(ABOUT, first)) == unordered(score(ABOUT, second))


@given(rows_lists, st.lists(answers, max_size=2))
def test_one_more_row_changes_its_own_cell_alone(rows, found):
    more = row(99, *found, backend="a", condition="clean")
    before = {(c.backend, c.condition): c for c in score(ABOUT, rows).cells}
    after = {(c.backend, c.condition): c for c in score(ABOUT, [*rows, more]).cells}
    cell = after.pop(("a", "clean"))
    old = before.pop(("a", "clean"), None)
    assert {key: repr(c) for key, c in before.items()} == {key: repr(c) for key, c in after.items()}
    assert cell.track.n == (old.track.n if old else 0) + 1
    gained = cell.track.k - (old.track.k if old else 0)
    assert gained == bool(found and found[0].track == "right" and found[0].p_false <= 1e-3)


@given(rows_lists)
def test_figures_agree_with_each_other(rows):
    scores = score(ABOUT, rows)
    for cell in scores.cells:
        assert cell.close.k <= cell.exact.k <= cell.near.k <= cell.track.k <= cell.any_track.k
        assert cell.any_track.k == cell.recall[1].k <= cell.recall[5].k <= cell.recall[10].k
        assert cell.track.k + cell.wrong.k <= cell.track.n
        assert cell.recall[1].share <= cell.mrr + 1e-12 <= cell.recall[10].share + 2e-12
    for pair in scores.pairs:
        assert 0 <= pair.p <= pair.p_adjusted <= 1
        assert pair.for_first + pair.for_second <= pair.excerpts <= scores.excerpts
        margin = pair.only_first - pair.only_second
        assert not pair.condition or margin == pair.for_first - pair.for_second
    json.dumps(as_json(scores), allow_nan=False)


def test_json_is_strict():
    scores = score(ABOUT, [row(0, error="no audio")])
    assert math.isnan(scores.costs[0].query_median_ms)
    value = json.loads(json.dumps(as_json(scores), allow_nan=False))
    assert value["costs"][0]["query_median_ms"] is None
    assert value["cells"][0]["offset_median_ms"] is None
    assert value["cells"][0]["recall"]["10"]["k"] == 0
    assert value["about"] == ABOUT.to_json()
    assert list(value) == list(type(scores).__slots__)


def test_bars_rise():
    assert [bar(i / 7) for i in range(8)] == list("▁▂▃▄▅▆▇█")
    assert (bar(0.92), bar(0.95)) == ("▇", "█")


def test_tables_set_backends_below_each_other():
    rows = [
        *(row(i, answer(), backend="a") for i in range(4)),
        *(row(i, *([answer(start=10.3)] if i else []), backend="b") for i in range(4)),
        row(0, answer(), backend="b", seconds=10.0),
        *(row(i, answer("w"), kind="music") for i in range(2)),
        *(row(i, kind="speech") for i in range(2)),
    ]
    found, overall, absent, costs, pairs = sections(score(ABOUT, rows))
    told = "Right track, % of 1 to 4 queries a cell, 95 % intervals; p_false ≤ 0.001"
    assert found.title == told
    assert found.columns == ("condition", "backend", "5 s", "10 s")
    # Wilson: 4 of 4 4 / (4 + 3.84) = 51 %, 3 of 4 30 to 95 %, 1 of 1 1 / (1 + 3.84) = 21 %.
    assert found.rows == [
        ("clean", "a", "100.0 █ 51–100", ""),
        ("", "b", "75.0 ▆  30–95", "100.0 █ 21–100"),
    ]
    assert overall.columns[:4] == ("backend", "seconds", "right", "±500 ms")
    assert overall.rows == [
        ("a", "5", "100.0", "100.0", "100.0", "100.0", "0.0", "100.0"),
        ("b", "5", "75.0", "75.0", "0.0", "0.0", "0.0", "75.0"),
        ("b", "10", "100.0", "100.0", "100.0", "100.0", "0.0", "100.0"),
    ]
    assert absent.rows == [
        ("a", "music", "2 of 2", "2", "100.00", "34.24–100.00"),
        ("", "speech", "0 of 2", "2", "0.00", "0.00–65.76"),
    ]
    assert costs.rows[0] == ("a", "200", "200", "0.0", "0.0", "0.0")
    assert costs.rows[1][2] == ""
    assert pairs.rows == [("a", "b", "all, 4 excerpts", "", "1", "0", "1")]


def test_many_lengths_leave_no_room_for_intervals():
    rows = [row(0, answer(), seconds=float(seconds)) for seconds in range(1, 5)]
    found, *_ = sections(score(ABOUT, rows))
    # Wilson of 1 of 1: 21 to 100 %.
    assert "95 % intervals up to 79 points wide;" in found.title
    assert found.rows == [("clean", "100.0 █", "100.0 █", "100.0 █", "100.0 █")]


def test_tables_of_one_backend_name_it_in_the_title():
    rows = [row(0, answer()), *(row(i, error="no audio") for i in range(1, 14))]
    found, overall, costs, errors = sections(score(ABOUT, rows))
    assert found.title.startswith("a: right track, % of 14 queries a cell, 95 %")
    assert found.columns == ("condition", "5 s")
    assert found.rows == [("clean", "7.1 ▁   1–31")]
    assert overall.columns[0] == "seconds"
    assert overall.title.startswith("a: all conditions together, of 14 excerpts, %:")
    assert costs.title == "What it takes"
    assert errors.title == "13 queries could not be answered"
    assert errors.rows[0] == ("a, clean, 5 s, present 1: no audio",)
    assert (len(errors.rows), errors.rows[-1]) == (11, ("… and 3 more",))


def test_tables_tell_what_times_were_measured_beside():
    about = replace(ABOUT, machine={"processes": 4})
    *_, costs = sections(score(about, [row(0, answer())]))
    assert costs.title == "What it takes; times with 4 processes side by side"


@given(rows_lists)
def test_tables_are_rectangular(rows):
    for section in sections(score(ABOUT, rows)):
        assert len(set(section.columns)) == len(section.columns)
        assert set(section.right) <= set(section.columns)
        assert all(len(line) == len(section.columns) for line in section.rows)
        assert "nan" not in " ".join(text for line in section.rows for text in line)
