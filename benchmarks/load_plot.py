"""The picture of `load.py`: every figure against the size of the store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from output import note

SECONDS = 1e-3
# Title, unit, and the figures in it: name in the JSON, label, factor.
PANELS: tuple[tuple[str, str, tuple[tuple[str, str, float], ...]], ...] = (
    (
        "adding",
        "million postings a second",
        (
            ("fill_million_postings_per_s", "100 tracks at a time", 1.0),
            ("single_million_postings_per_s", "one at a time", 1.0),
        ),
    ),
    (
        "bytes a posting",
        "bytes",
        (
            ("fill_written_bytes_per_posting", "written while filling", 1.0),
            ("bytes_per_posting", "postings, compacted", 1.0),
        ),
    ),
    (
        "a query of 5 s",
        "ms",
        (
            ("query_p50_ms", "median", 1.0),
            ("query_p95_ms", "95 %", 1.0),
            ("query_p99_ms", "99 %", 1.0),
            ("query_absent_p50_ms", "absent, median", 1.0),
            ("cold_p50_ms", "cold, median", 1.0),
        ),
    ),
    (
        "looking up",
        "ms; ns a posting",
        (
            ("gather_kept_ms", "500 hashes, views kept", 1.0),
            ("gather_fresh_ms", "in a fresh transaction", 1.0),
            ("vote_ns", "vote, ns a posting", 1.0),
        ),
    ),
    (
        "upkeep",
        "s",
        (
            ("fill_slowest_batch_ms", "slowest batch", SECONDS),
            ("compact_wall_ms", "compact", SECONDS),
            ("check_wall_ms", "check", SECONDS),
            ("remove_wall_ms", "removing 1,000 tracks", SECONDS),
        ),
    ),
    (
        "memory of afp",
        "MiB without mapped files",
        (
            ("query_anonymous_mib", "query", 1.0),
            ("index_anonymous_mib", "index", 1.0),
            ("compact_anonymous_mib", "compact", 1.0),
        ),
    ),
)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw a panel for each kind of figure; embeddings are dashed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        note("no picture: matplotlib is not installed (pip install matplotlib)")
        return
    figure = Figure(figsize=(12.5, 7.0), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True).flat
    for panel, (title, unit, lines) in zip(panels, PANELS, strict=True):
        for i, (name, label, factor) in enumerate(lines):
            for backend, style in (("shazam", "-"), ("neural", "--")):
                rows = [row for row in results[backend] if row.get(name)]
                sizes = [row["postings"] for row in rows]
                values = [factor * row[name] for row in rows]
                shown = label if style == "-" else None
                panel.plot(sizes, values, f"C{i}o{style}", markersize=3, label=shown)
        panel.set(xscale="log", yscale="log", title=title, ylabel=unit)
        panel.grid(alpha=0.3)
        panel.legend(fontsize="x-small")
    figure.supxlabel("postings (solid), embeddings (dashed)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    note(f"wrote {path}")
