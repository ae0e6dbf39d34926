"""Where results are kept, and how they are shown."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from afp.bench.table import Section
from afp.errors import AfpError

RESULTS = Path(__file__).parent / "results"


def script(main: Callable[[], None]) -> None:
    """Run a script; what is wrong with its input, in one line rather than a traceback."""
    try:
        main()
    except AfpError as error:
        raise SystemExit(f"{error}\nhint: {error.hint}" if error.hint else str(error)) from None


def note(text: str) -> None:
    """Tell on stderr how it goes."""
    print(text, file=sys.stderr, flush=True)


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Write results where they are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
    note(f"wrote {path}")


def print_section(section: Section) -> None:
    """Print a table below its title, however wide it is."""
    lines = [section.columns, *section.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["rjust" if name in section.right else "ljust" for name in section.columns]
    print(f"\n{section.title}")
    for line in lines:
        cells = zip(line, aligned, widths, strict=True)
        print("  ".join(getattr(text, align)(width) for text, align, width in cells).rstrip())
