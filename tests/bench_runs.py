"""Small benchmarks: music for them, and what of their rows must repeat."""

from pathlib import Path

import numpy as np
from cli_runner import write_wav

from afp.bench.rows import Row, read_rows
from afp.synthesis import song

N_SONGS = 6
SECONDS = 8.0


def write_songs(folder: Path) -> list[Path]:
    """Write songs, and one of them once more under another name."""
    paths = []
    for seed in range(N_SONGS):
        samples = song(seed, seconds=SECONDS)
        paths.append(write_wav(folder / f"song{seed}.wav", samples))
        if seed == 3:
            paths.append(write_wav(folder / "again.wav", samples))
    return sorted(paths)


def write_recordings(folder: Path) -> Path:
    """Write two recordings of noise."""
    rng = np.random.default_rng(0)
    for name in ("fan", "rain"):
        write_wav(folder / f"{name}.wav", 0.2 * rng.standard_normal(24_000))
    return folder


def repeatable(rows: list[Row]) -> list[dict]:
    """Return the rows without the times that they took."""
    return [
        {name: value for name, value in row.to_json().items() if not name.endswith("_ms")}
        for row in rows
    ]


def rows_of(folder: Path) -> list[dict]:
    return repeatable(read_rows(folder / "rows.jsonl")[1])
