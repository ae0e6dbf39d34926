"""``afp demo``."""

import shutil
import tempfile
import time
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from afp.cli import options, terminal
from afp.cli.command import Command
from afp.errors import ExitCode

if TYPE_CHECKING:
    from afp.fingerprint import F32
    from afp.library.querying import QueryResult

TITLES = (
    "Amber Harbour",
    "Paper Lanterns",
    "Slow Comet",
    "Nine Bridges",
    "Copper Rain",
    "The Long Tide",
    "Winter Ferry",
    "Glass Orchard",
    "Night Tram",
    "Salt and Cedar",
    "Second Sunday",
    "Open Window",
)
UNKNOWN_TITLE = "(song not indexed)"
SONG_SECONDS = 45.0
CLIP_SECONDS = 6.0
SAMPLE_RATE = 16_000
SNRS_DB = (20.0, 10.0, 5.0, 0.0, -3.0)


@dataclass(frozen=True)
class _Clip:
    path: Path
    title: str
    start_seconds: float
    snr_db: float


@click.command(
    cls=Command,
    examples=(
        "afp demo",
        "afp demo --keep /tmp/afp-demo",
    ),
)
@click.option("-b", "--backend", metavar="NAME", help="Backend.  [default: shazam]")
@click.option(
    "--keep",
    type=options.PathType(path_type=Path),
    metavar="DIR",
    help="Leave the music, the clips and the store in DIR, to play with.",
)
def command(*, backend: str | None, keep: Path | None) -> None:
    """Make a small music library, index it, and query it through noise.

    Everything is synthesised and lies in a temporary folder that is removed at the end. One of
    the clips is from a song that is not in the store: no answer is the right answer to it.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="afp-demo-"))
    try:
        n_wrong = _run(folder, backend)
    finally:
        if keep is None:
            shutil.rmtree(folder)
    if keep is not None:
        terminal.note("", f"kept in {keep}; try: afp query -d {keep}/store {keep}/clips/*")
    terminal.note(
        "",
        "now with your own music:",
        "  afp index ~/Music          fingerprint a folder; again to bring it up to date",
        "  afp query clip.wav         name a clip",
        "  afp query --all show.mp3   list everything in a long recording",
        "  afp stats                  what is stored, and what it costs",
    )
    if n_wrong:
        raise SystemExit(ExitCode.NO_MATCH)


def _run(folder: Path, backend: str | None) -> int:
    from afp.library import Searcher, index

    started = time.perf_counter()
    clips = _make_library(folder)
    seconds = time.perf_counter() - started
    length = terminal.duration(SONG_SECONDS)
    terminal.note(f"composed {len(TITLES)} songs of {length} in {seconds:.1f} s")
    report = index(folder / "store", [folder / "music"], backends=[backend] if backend else ())
    length = terminal.duration(report.audio_seconds)
    terminal.note(f"indexed {length} of audio in {report.wall_seconds:.1f} s")
    with Searcher.open(folder / "store") as searcher:
        started = time.perf_counter()
        results = [searcher.query(clip.path) for clip in clips]
        seconds = time.perf_counter() - started
    milliseconds = 1000 * seconds / len(clips)
    terminal.note(
        f"queried {len(clips)} noisy clips of {CLIP_SECONDS:.0f} s, {milliseconds:.0f} ms each"
    )
    terminal.note("")
    return _show(clips, results)


def _make_library(folder: Path) -> list[_Clip]:
    import numpy as np

    from afp.synthesis import song

    rng = np.random.default_rng(20)
    clips: list[_Clip] = []
    for name in ("music", "clips"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, title in enumerate((*TITLES, UNKNOWN_TITLE)):
        samples = song(number, seconds=SONG_SECONDS, sample_rate=SAMPLE_RATE)
        if title != UNKNOWN_TITLE:
            _write_wav(folder / "music" / f"{title}.wav", samples)
        if number % 2 and title != UNKNOWN_TITLE:
            continue
        start = int(rng.integers(len(samples) - int(CLIP_SECONDS * SAMPLE_RATE)))
        excerpt = samples[start:][: int(CLIP_SECONDS * SAMPLE_RATE)]
        snr_db = SNRS_DB[len(clips) % len(SNRS_DB)]
        noise = rng.standard_normal(len(excerpt)).astype(np.float32)
        noise *= np.sqrt(np.mean(excerpt**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
        path = folder / "clips" / f"clip{len(clips) + 1}.wav"
        _write_wav(path, 0.25 * (excerpt + noise))
        clips.append(_Clip(path, title, start / SAMPLE_RATE, snr_db))
    return clips


def _write_wav(path: Path, samples: "F32") -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


def _show(clips: list[_Clip], results: "list[QueryResult]") -> int:
    rows = []
    n_wrong = 0
    for clip, result in zip(clips, results, strict=True):
        match = result.matches[0] if result.matches else None
        answer = Path(match.track.path).stem if match else "no match"
        right = answer == (clip.title if clip.title != UNKNOWN_TITLE else "no match")
        n_wrong += not right
        place = error = p_false = ""
        if match is not None:
            offset = match.track_start - match.query_start
            place = terminal.clock(offset)
            error = f"{1000 * (offset - clip.start_seconds):+.0f} ms"
            p_false = terminal.probability(match.p_false)
        mark = "✓" if right else "✗"
        rows.append((clip.title, f"{clip.snr_db:+.0f} dB", mark, answer, place, error, p_false))
    columns = ("clip of", "music/noise", "", "answer", "found at", "error", "p_false")
    if terminal.is_interactive():
        terminal.Table(columns, right=("music/noise", "error", "p_false")).draw(rows)
    else:
        for row in (columns, *rows):
            terminal.tsv_line(row)
    n_right = len(rows) - n_wrong
    terminal.note(
        "", f"{n_right} of {len(rows)} right; p_false: how likely such a score is by chance"
    )
    return n_wrong
