"""A run of the benchmark as one HTML file that needs nothing else."""

from collections.abc import Sequence
from typing import Any

from afp.bench.report import svg, tables
from afp.bench.report.charts import charts, colours_of
from afp.bench.report.tables import escaped, several
from afp.bench.scores import Scores


def report(scores: Scores) -> str:
    """Write the report of a run.

    Parameters
    ----------
    scores : Scores

    Returns
    -------
    str
        HTML without scripts, and without anything from elsewhere. No text of the rows is
        markup in it.
    """
    about = scores.about
    queries = max((_queries(scores, name) for name in colours_of(scores)), default=0)
    told = (
        f"{several(queries, 'query', 'queries')} to each backend, on "
        f"{several(about.tracks, 'indexed track')} ({_duration(about.seconds)})"
    )
    if about.absent_tracks:
        told += f" and {several(about.absent_tracks, 'track')} kept out"
    if scores.excerpts:
        told += f"; those with a right answer are of {several(scores.excerpts, 'excerpt')}"
    drawn = "".join(map(svg.draw, charts(scores)))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Audio fingerprints: {escaped(", ".join(colours_of(scores)))}</title>
<style>{svg.STYLE}{STYLE}</style>
</head>
<body>
<header>
<p class="over">afp bench · {escaped(about.date)}</p>
<h1>How often is the right recording found?</h1>
<p class="lede">{told}. An answer counts when its p_false is at most {scores.max_p:g}.</p>
</header>
<main>
{_section("Which backend", tables.summary(scores) + tables.verdicts(scores))}
{_section("Pictures", f'<div class="charts">{drawn}</div>' if drawn else "")}
{_section("How to read this", HOW_TO_READ.format(max_p=f"{scores.max_p:g}"))}
{_section("Every condition and length", tables.cells(scores))}
{_section("Queries without a right answer", tables.absent(scores))}
{_section("Backends against each other", tables.pairs(scores))}
{_section("Queries that failed", _errors(scores.errors))}
{_section("What was run", _about(scores))}
</main>
</body>
</html>
"""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>\n{content}</section>" if content else ""


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _queries(scores: Scores, backend: str) -> int:
    present = sum(cell.track.n for cell in scores.cells if cell.backend == backend)
    absent = [one.by_kind.values() for one in scores.absent if one.backend == backend]
    return present + sum(false.n for kinds in absent for false in kinds)


def _errors(errors: Sequence[str]) -> str:
    if not errors:
        return ""
    lines = "".join(f"<li>{escaped(error)}</li>\n" for error in errors)
    count = several(len(errors), "query", "queries")
    return f"<details><summary>{count} could not be answered</summary><ul>{lines}</ul></details>"


def _about(scores: Scores) -> str:
    about = scores.about
    entries: list[tuple[str, str]] = [
        ("Command", f"<code>{escaped(about.command)}</code>"),
        ("Date", escaped(about.date)),
        ("Version", f"afp {escaped(about.afp)}"),
        ("Seed", escaped(about.seed)),
        ("Indexed", f"{several(about.tracks, 'track')}, {_duration(about.seconds)}"),
        ("Kept out", several(about.absent_tracks, "track")),
        ("Silent", f"{several(about.silent, 'excerpt')} drawn again"),
        ("Threshold", f"p_false ≤ {scores.max_p:g} (default {about.max_p:g})"),
        ("Machine", _settings(about.machine)),
    ]
    for name, known in about.backends.items():
        version = f"version {escaped(known.get('version', '?'))}"
        entries.append((escaped(name), f"{version}<br>{_settings(known.get('parameters', {}))}"))
    rows = "".join(f"<dt>{title}</dt><dd>{value}</dd>\n" for title, value in entries)
    return f"<dl>{rows}</dl>"


def _settings(values: dict[str, Any]) -> str:
    return " ".join(
        f"<code>{escaped(name)}={escaped(value)}</code>" for name, value in values.items()
    )


HOW_TO_READ = """<p><b>Right</b> is an accepted first answer that names the recording the query \
was cut from; <b>wrong</b> names another; otherwise there was no answer. Accepted means \
p_false ≤ {max_p}, the probability that a query which is of no indexed track scores as high. \
±500, ±250 and ±50 ms also ask for the right place in the track. “Whatever its p_false” counts \
first answers as tools without a threshold do; these columns compare with the literature.</p>
<p>Every cell distorts the same excerpts, so queries made from one excerpt are not independent. \
Within a cell intervals are Wilson’s, at 95 %; where several cells are counted together the \
interval is wider by what the excerpts differ. All backends were asked the same queries, so \
compare two of them by the tests, not by whether their intervals overlap. In a cell that is \
McNemar’s exact test, with p after Holm, since there are as many tests as cells. For all cells \
together it is a sign test: each excerpt counts once, for the backend that answers more of its \
queries rightly. Figures over all cells describe this grid alone.</p>
<p>False answers, the reliability of p_false and the error trade-off are of \
<b>music that is not in the store</b>, where there is any; other sounds, such as silence or \
tones, stand in the table of their own.</p>
"""

STYLE = """
:root{--paper:#fff;--ink:#1b1f24;--soft:#5b6570;--line:#e3e6ea;--band:#f6f7f9}
@media screen and (prefers-color-scheme:dark){
:root{--paper:#15181c;--ink:#e8ebee;--soft:#9aa5b0;--line:#2c323a;--band:#1c2026}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:clamp(1rem,4vw,3.5rem) clamp(1rem,4vw,3rem);max-width:84rem;
background:var(--paper);color:var(--ink);line-height:1.55;
font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
.over{margin:0;color:var(--soft);font-size:.875rem}
h1{margin:.2rem 0 .5rem;font-size:clamp(1.6rem,4.5vw,2.4rem);line-height:1.15;
letter-spacing:-.02em;text-wrap:balance}
.lede{margin:0;max-width:44rem;font-size:1.0625rem;color:var(--soft)}
section{margin-top:3rem}
h2{margin:0 0 1rem;font-size:1.25rem;letter-spacing:-.01em;break-after:avoid}
p,.verdicts{max-width:44rem}
.verdicts{margin:1rem 0 0;padding-left:1.1rem}
.scroll{overflow-x:auto;margin-bottom:1.25rem}
table{border-collapse:collapse;font-size:.8125rem;line-height:1.3;
font-variant-numeric:tabular-nums lining-nums}
th,td{padding:.3rem .42rem;text-align:right;white-space:nowrap}
thead th{vertical-align:bottom;color:var(--soft);font-weight:500}
thead tr:last-child>*{border-bottom:1px solid var(--soft)}
thead th[scope=colgroup]{text-align:center;border-left:1px solid var(--line);
border-bottom:1px solid var(--line)}
th:first-child,td.backend,thead th.backend{text-align:left}
tbody th{font-weight:600;vertical-align:top;background:var(--paper)}
tbody th:first-child{position:sticky;left:0;z-index:1}
tbody tr{border-bottom:1px solid var(--line)}
tbody td{background:none}
tbody tr:hover td{background-color:var(--band)}
.summary{font-size:.9375rem}
.summary th,.summary td{padding:.5rem .9rem}
.summary th:first-child{padding-left:0}
.best{font-weight:700}
small,.interval{color:var(--soft);font-size:.92em;font-weight:400}
.first{border-left:1px solid var(--line)}
.right{min-width:5rem;font-weight:600;background:linear-gradient(to right,
color-mix(in srgb,var(--c) 24%,transparent) var(--share),transparent 0) no-repeat}
.swatch{width:.8rem;height:.8rem;margin-right:.35rem;vertical-align:-.08rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.4rem 1.5rem;margin:0;font-size:.9375rem}
dt{color:var(--soft)}
dd{margin:0;min-width:0}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em;
overflow-wrap:anywhere}
dd code+code{margin-left:.5em}
details li{overflow-wrap:anywhere}
summary{cursor:pointer}
@media (max-width:36rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.6rem}}
@media print{
@page{margin:12mm}
body{padding:0;font-size:10pt}
section{margin-top:1.5rem}
.charts{display:block}
.chart{margin-bottom:1.5rem}
.panels{grid-template-columns:repeat(3,1fr)}
.scroll{overflow:visible}
table{font-size:6pt}
.summary{font-size:9pt}
th,td,.summary th,.summary td{padding:.15rem .25rem}
tbody th:first-child{position:static}
thead{display:table-header-group}
tr{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
