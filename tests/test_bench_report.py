"""Pictures and reports of a benchmark: the figures in them, and that nothing in them is markup."""

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from bench_scores import HOSTILE, NOISE, SINGLE, absent, cell, scores
from hypothesis import given
from hypothesis import strategies as st

from afp.bench.metrics import wilson
from afp.bench.report import png, svg
from afp.bench.report.axes import Scale, written_percent, written_power
from afp.bench.report.charts import charts
from afp.bench.report.html import report
from afp.bench.report.severities import QUANTITIES
from afp.bench.report.wording import number, printable
from afp.bench.rows import PRESENT, Answer, Row, Truth
from afp.bench.scores import DetPoint
from afp.bench.scoring import score
from afp.distort import FAMILIES
from afp.errors import UsageError

VOID = {"meta", "br"}


def named(made, name):
    return next(chart for chart in charts(made) if chart.name == name)


def points(chart):
    return [point for _, panel in chart.panels for series in panel for point in series.points]


class Page(HTMLParser):
    """A page's tags, attributes and texts; fails where an element is not closed."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.tables, self.policy = [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]
        if dict(attributes).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attributes)["content"]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def hostile():
    """Return scores with a hostile text wherever a text can be."""
    made = scores(backends=("shazam", HOSTILE), errors=[f"{HOSTILE}: no such file"])
    odd = [
        cell(HOSTILE, HOSTILE, {HOSTILE: value, "file": HOSTILE}, seconds)
        for value in (1.0, 2.0)
        for seconds in (2.0, 5.0)
    ]
    about = replace(
        made.about,
        afp=HOSTILE,
        date=HOSTILE,
        command=f"afp bench '{HOSTILE}'",
        machine={HOSTILE: HOSTILE},
        backends={HOSTILE: {"version": HOSTILE, "parameters": {HOSTILE: HOSTILE}}},
    )
    kinds = replace(absent("shazam"), of=HOSTILE, by_kind={HOSTILE: wilson(1, 9)})
    pairs = [replace(made.pairs[1], condition=HOSTILE), *made.pairs]
    return replace(
        made,
        about=about,
        cells=made.cells + odd,
        absent=[kinds, absent(HOSTILE)],
        pairs=pairs,
    )


def test_charts_of_a_run():
    names = [chart.name for chart in charts(scores())]
    assert names == [
        "conditions",
        "severity-noise",
        "severity-reverb",
        "length",
        "det",
        "reliability",
    ]


def test_severity_holds_the_figures():
    chart = named(scores(), "severity-noise")
    assert [title for title, _ in chart.panels] == ["2 s", "5 s", "10 s"]
    assert chart.x.label == "signal-to-noise ratio, dB"
    assert [label for _, label in chart.x.ticks] == ["−5", "0", "5", "10"]
    _, panel = chart.panels[1]
    assert [series.label for series in panel] == ["shazam", "philips"]
    expected = [cell("shazam", *condition, 5.0).track for condition in NOISE]
    assert [(p.y, p.low, p.high) for p in panel[0].points] == [
        (track.share, track.low, track.high) for track in expected
    ]
    assert panel[0].points[1].text == (
        f"shazam, noise:snr=0, 5 s: {100 * expected[1].share:.1f} % ({expected[1].k} of 50; "
        f"95 % interval {100 * expected[1].low:.1f}–{100 * expected[1].high:.1f} %)"
    )


def test_a_range_is_no_place_on_an_axis():
    made = scores()
    assert not [p for p in points(named(made, "severity-noise")) if "0..10" in p.text]
    assert "noise:snr=0..10" in [title for title, _ in named(made, "length").panels]
    assert "noise:snr=0..10" in [label for _, label in named(made, "conditions").y.ticks]


def test_conditions_lie_sideways_in_the_order_of_the_rows():
    made = scores(lengths=(5.0,))
    chart = named(made, "conditions")
    ticks = {label: at for at, label in chart.y.ticks}
    assert list(ticks) == list(dict.fromkeys(cell.condition for cell in made.cells))
    assert list(ticks.values()) == sorted(ticks.values(), reverse=True)
    for point in points(chart):
        condition = point.text.split(", ")[1]
        nearest = min(ticks, key=lambda label: abs(ticks[label] - point.y))
        assert condition == nearest
        assert point.low <= point.x <= point.high
        assert point.text.split(": ")[1].startswith(f"{100 * point.x:.1f} %")


def test_one_backend_has_a_series_for_each_length():
    chart = named(scores(backends=("shazam",)), "severity-reverb")
    ((_, panel),) = chart.panels
    assert [series.label for series in panel] == ["2 s", "5 s", "10 s"]
    assert len({series.colour for series in panel}) == 3


def test_other_severities_get_panels_of_their_own():
    conditions = [
        ("echo", {"ms": ms, "db": db}) for ms in (20.0, 40.0, 80.0) for db in (-3.0, -6.0)
    ]
    chart = named(scores(lengths=(5.0,), conditions=conditions), "severity-echo")
    assert [title for title, _ in chart.panels] == ["db=−3, 5 s", "db=−6, 5 s"]
    assert chart.x.label == "delay, ms"
    assert len(points(chart)) == 12


@pytest.mark.parametrize(
    ("distortion", "key", "label"),
    [
        ("speed", "percent", "change, %"),
        ("crop", "percent", "share of the clip that is left, %"),
        ("echo", "percent", "level of each echo, %"),
        ("room+noise+mp3", "noise.snr", "noise: signal-to-noise ratio, dB"),
        ("mp3+noise+mp3", "mp32.kbps", "mp32: bit rate, kbit/s"),
        ("noise+pitch+noise", "noise2.snr", "noise2: signal-to-noise ratio, dB"),
        ("noise", "loudness", "loudness"),
        ("unheard", "of.it", "of.it"),
    ],
)
def test_severities_are_told_with_their_units(distortion, key, label):
    conditions = [(distortion, {key: value}) for value in (1.0, 2.0)]
    slug = distortion.replace("+", "-")
    chart = named(scores(lengths=(5.0,), conditions=conditions), f"severity-{slug}")
    assert chart.x.label == label


def test_every_severity_has_a_quantity():
    for family in FAMILIES.values():
        for severity in family.severities:
            assert {severity.name, f"{family.name}.{severity.name}"} & set(QUANTITIES)


def test_one_length_has_no_chart_of_lengths():
    assert "length" not in [chart.name for chart in charts(scores(lengths=(5.0,)))]


def test_a_backend_keeps_its_colour():
    made = scores(backends=("shazam", "philips", "neural"))
    for chart in charts(made):
        assert chart.legend() == {"shazam": 0, "philips": 1, "neural": 2}


def test_cells_without_queries_are_left_out():
    made = scores()
    none = replace(made.cells[0], condition="none", track=wilson(0, 0))
    empty = replace(made, cells=[none], det={}, absent=[])
    assert charts(empty) == []
    assert "none" in report(empty)


def test_det_marks_the_threshold_in_use():
    chart = named(scores(), "det")
    marked = [point for point in points(chart) if point.main]
    assert len(marked) == 2
    assert all("p_false ≤ 0.001:" in point.text for point in marked)
    assert chart.x.label == "false answers to music that is not in the store, %"
    (at, label), *_ = chart.x.ticks
    assert (at, label) == (0.0, "0")


def test_det_marks_nothing_below_all_thresholds():
    made = replace(scores(), max_p=1e-9)
    assert not [point for point in points(named(made, "det")) if point.main]


def test_det_without_a_single_false_answer():
    made = scores(backends=("shazam",))
    made = replace(made, det={"shazam": [DetPoint(p, 0.0, 0.0) for p in (1e-6, 1e-3, 1.0)]})
    chart = named(made, "det")
    (point,) = points(chart)
    assert (point.x, point.y) == (0.0, 0.0)
    assert point.main
    assert chart.x.ticks[0] == (0.0, "0")


def test_reliability_compares_with_the_diagonal():
    chart = named(scores(backends=("shazam",)), "reliability")
    never, *_, always = points(chart)
    assert never.y == never.low == 0.0 < never.high
    assert "0.0 % (0 of 200" in never.text
    assert always.low < always.y < always.high
    # The line has the same value at the ticks of both axes.
    (x1, y1), (x2, y2) = chart.guide
    y_ticks = {label: at for at, label in chart.y.ticks}
    for at, label in chart.x.ticks:
        if label in y_ticks and label != "0" and x1 <= at <= x2:
            on_line = y1 + (at - x1) / (x2 - x1) * (y2 - y1)
            assert on_line == pytest.approx(y_ticks[label])


@given(
    st.lists(st.floats(1e-12, 1.0) | st.just(0.0), min_size=1, max_size=20),
    st.floats(1e-5, 1.0),
)
def test_shares_on_a_logarithmic_axis(values, smallest):
    scale = Scale.of_shares(values, smallest)
    places = [scale(value) for value in sorted(values)]
    assert all(0.0 <= place <= 1.0 for place in places)
    assert places == sorted(places)
    zero = min(values) == 0.0
    for written in (written_percent, written_power):
        ticks = scale.decades(written, zero=zero)
        assert len(ticks) <= 7
        at = [place for place, _ in ticks]
        assert at == sorted(set(at))
        assert (ticks[:1] == ((0.0, "0"),)) == zero


@given(st.lists(st.integers(-(10**8), 10**8).map(lambda n: n / 1000), min_size=1, max_size=20))
def test_measured_values_on_an_axis(values):
    scale = Scale.around(values)
    assert all(0.0 < scale(value) < 1.0 for value in values)
    ticks = scale.at(values)
    assert {label for _, label in ticks} <= {number(value) for value in values}
    assert all(b[0] - a[0] > 0.08 for a, b in pairwise(ticks))


def test_frequencies_stand_on_a_logarithmic_axis():
    scale = Scale.around([100.0, 1000.0, 10000.0])
    low, middle, high = (scale(value) for value in (100.0, 1000.0, 10000.0))
    assert middle - low == pytest.approx(high - middle)


def test_probabilities_are_written_short():
    written = [written_power(p) for p in (1.0, 0.5, 0.01, 1e-3, 1e-12, 2e-4)]
    assert written == ["1", "0.5", "0.01", "10⁻³", "10⁻¹²", "0.0002"]


def test_what_has_no_shape_is_escaped():
    assert printable("ä 音\x00\x1b\n\udcff\u202e") == "ä 音\\x00\\x1b\\n\\udcff\\u202e"


@pytest.mark.parametrize("made", [scores(), scores(backends=("shazam",)), hostile()])
def test_drawings_are_well_formed_and_hold_every_point(made):
    for chart in charts(made):
        figure = ElementTree.fromstring(svg.draw(chart))
        plots = [plot for plot in figure.iter("svg") if plot.get("class") == "plot"]
        assert len(plots) == len(chart.panels)
        assert all(plot.get("role") == "img" for plot in plots)
        assert all(chart.title in plot.get("aria-label") for plot in plots)
        titles = [g.findtext("title") for g in figure.iter("g") if "point" in g.get("class", "")]
        assert titles == [point.text for point in points(chart)]
        legend = ["".join(entry.itertext()) for entry in figure.iter("li")]
        assert legend == [*chart.legend(), *[chart.guide_label] * bool(chart.guide)]


def test_a_drawing_puts_points_where_they_belong():
    chart = named(scores(backends=("shazam",), lengths=(5.0,)), "severity-noise")
    figure = ElementTree.fromstring(svg.draw(chart))
    texts = {text.text: float(text.get("y")) for text in figure.iter("text") if text.get("y")}
    marks = [
        float(g.get("transform").split(",")[1].rstrip(")"))
        for g in figure.iter("g")
        if (g.get("transform") or "").startswith("translate") and g.find("circle") is not None
    ]
    top, bottom = texts["100"] - 4, texts["0"] - 4
    assert top < bottom
    expected = [bottom + (top - bottom) * point.y for point in points(chart)]
    assert marks == pytest.approx(expected, abs=0.2)


def test_a_long_name_is_cut_and_told_whole():
    long = "chain-" * 12
    chart = named(scores(conditions=((long, {}),)), "conditions")
    figure = ElementTree.fromstring(svg.draw(chart))
    row = next(text for text in figure.iter("text") if text.get("class") == "row")
    assert row.findtext("title") == long
    assert "".join(row.itertext()).endswith("…")


def test_report_needs_nothing_else():
    html = report(scores())
    page = Page(html)
    assert page.policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.tags)
    assert not [
        name for name in page.attributes if name.startswith("on") or name in {"src", "href"}
    ]
    for reference in ("http://", "https://", "url(", "@import", "javascript:"):
        assert reference not in html


def test_report_tells_every_figure():
    made = scores()
    page = Page(report(made))
    summary, cells, kinds, promised, pairs = page.tables
    shares = [one.track for one in made.cells if one.backend == "shazam"]
    pooled = 100 * sum(of.k for of in shares) / sum(of.n for of in shares)
    assert summary[1][:2] == ["shazam", f"{pooled:.1f}"]
    # 1 of 200 by 50 excerpts: the design effect is the mean of 1 (one excerpt) and 4.
    false = made.absent[0].false
    shown = f"0.5 {100 * false.low:.1f}–{100 * false.high:.1f}"
    assert summary[1][3:6] == [shown, "96", "210"]
    assert summary[2][5] == "–"
    phone = cell("philips", *SINGLE[1], 5.0)
    row = cells[2 + 6 + 3]
    assert cells[2 + 6][0] == "phone"
    assert row[:4] == ["5", "philips", "50", f"{100 * phone.track.share:.1f}"]
    assert row[4] == f"{100 * phone.track.low:.1f}–{100 * phone.track.high:.1f}"
    expected = [phone.wrong, phone.near, phone.exact, phone.close]
    expected += [phone.any_track, phone.any_near, phone.any_exact, phone.any_close]
    expected += [phone.recall[5], phone.recall[10]]
    assert row[5:15] == [f"{100 * of.share:.1f}" for of in expected]
    assert row[15:] == ["0.875", "4.2", "21.5", "12.5", "31.0"]
    assert kinds[1] == ["shazam", "music", "50", "200", "1", *shown.split()]
    assert kinds[2][:4] == ["speech", "50", "200", "0"]
    assert len(promised) == 1 + 9
    assert len(pairs) == 1 + 1 + len(made.cells) / 2
    first = made.pairs[0]
    assert pairs[1][2:6] == [
        str(n) for n in (first.both, first.only_first, first.only_second, first.neither)
    ]
    assert pairs[1][6] == f"{first.for_first} : {first.for_second}"
    last = made.pairs[-1]
    assert last.p < last.p_adjusted
    assert float(pairs[-1][7]) == pytest.approx(last.p_adjusted, rel=0.1)
    text = " ".join(page.texts)
    asked = sum(one.track.n for one in made.cells if one.backend == "shazam") + 2 * 200
    assert f"{asked:,} queries to each backend, on 240 indexed tracks" in text
    assert "those with a right answer are of 50 excerpts" in text
    assert "measured while 2 processes worked side by side" in text
    assert "3 excerpts drawn again" in text
    assert f"Of 50 excerpts, {first.for_first} favour" in text


def test_report_tells_who_finds_more():
    made = scores()
    assert "<b>shazam</b> finds more than <b>philips</b>" in report(made)
    swapped = scores(backends=("philips", "shazam"))
    assert "<b>shazam</b> finds more than <b>philips</b>" in report(swapped)
    # Excerpts decide, not queries.
    turned = replace(made.pairs[0], for_first=1, for_second=20)
    assert "<b>philips</b> finds more than" in report(replace(made, pairs=[turned]))
    equal = replace(made, pairs=[replace(made.pairs[0], p=0.01, p_adjusted=0.2)])
    assert "no difference can be told" in report(equal)


def test_no_text_of_a_run_is_markup():
    html = report(hostile())
    html.encode()  # no lone surrogates
    assert not [c for c in html if not c.isprintable() and c != "\n"]
    page = Page(html)
    assert "script" not in page.tags
    told = printable(HOSTILE)
    assert "<script>alert(1)</script>" in told
    assert f"afp bench '{told}'" in page.texts
    assert f"{told}: no such file" in page.texts
    assert f"{told}={told}" in page.texts


def test_report_of_nothing():
    html = report(scores(conditions=(), with_absent=False))
    page = Page(html)
    assert "No query of an indexed track was asked." in page.texts
    assert "figure" not in page.tags


def test_report_of_rows():
    """Rows of which one has failed, from scoring to the page."""
    about = scores(backends=("shazam",)).about
    costs = {"bytes_per_second": 96.0, "index_cpu_seconds": 0.0, "index_wall_seconds": 0.0}
    about = replace(about, backends={"shazam": {"version": 1, "parameters": {}, **costs}})
    right = Answer("a", "a.wav", 3.0, 50.0, 1e-9)
    asked = {"seconds": 5.0, "seed": 7, "source": "a.wav", "start": 3.01, "truth": Truth("a", 3.01)}
    where = {"condition": "clean", "distortion": "clean", "severity": {}, "kind": PRESENT}
    rows = [
        Row("shazam", 1, {}, number=0, answers=(right,), query_ms=12.0, **where, **asked),
        Row("shazam", 1, {}, number=1, error=HOSTILE, **where, **asked),
    ]
    page = Page(report(score(about, rows)))
    assert page.tables[0][1][:2] == ["shazam", "50.0"]
    assert [text for text in page.texts if text.endswith(printable(HOSTILE))]
    assert "1 query could not be answered" in page.texts


@pytest.mark.filterwarnings("error")
def test_pictures_are_written(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    made = hostile()
    written = png.draw(made, tmp_path / "made" / "here")
    assert [path.stem for path in written] == [chart.name for chart in charts(made)]
    assert len(set(written)) == len(written)
    for path in written:
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(head[16:20], "big") > 600


def test_pictures_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib, which is not installed") as caught:
        png.draw(scores(), tmp_path / "pictures")
    assert caught.value.hint == "pip install 'afp[plot]'"
    assert not (tmp_path / "pictures").exists()


def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


def shown(html, folder):
    """Return a page's DOM and the messages on its console, as a browser has them."""
    folder.mkdir()
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    options = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update"),
        *(f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom"),
    )
    ran = subprocess.run(
        [browser(), *options, path.as_uri()], capture_output=True, timeout=120, check=True
    )
    log = ran.stderr.decode(errors="replace")
    return ran.stdout.decode(), [line for line in log.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(browser() is None, reason="no Chromium or Chrome on the PATH")
def test_a_browser_shows_every_chart(tmp_path):
    made = hostile()
    html = report(made)
    dom, console = shown(html, tmp_path / "report")
    assert console == []
    page = Page(dom)
    assert "script" not in page.tags
    for chart in charts(made):
        assert f'id="{chart.name}"' in dom
    assert dom.count('class="plot"') == sum(len(chart.panels) for chart in charts(made))
    for point in points(named(made, "det")):
        assert point.text in page.texts
    # What would be wrong is seen: the policy stops a script, and the console tells.
    _, console = shown(html.replace("</main>", "<script>1</script></main>"), tmp_path / "wrong")
    assert console


def test_shares_of_nothing_are_no_numbers():
    made = scores()
    none = replace(made.cells[0], track=wilson(0, 0), mrr=math.nan)
    html = report(replace(made, cells=[none]))
    assert "nan" not in html.lower()
