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
UNKNOWN_TITLE = "Somebody Else's Song"
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


@click.command()
@options.backend
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Leave the music, the clips and the store in DIR, to play with.",
)
def command(backend: str | None, keep: Path | None) -> None:
    """Make a small music library, index it, and query it through noise.

    Everything is synthesised and lies in a temporary folder that is removed at the end. One of
    the clips is from a song that is not in the store: no answer is the right answer to it.

    \b
    Examples:
      afp demo
      afp demo --keep /tmp/afp-demo
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="afp-demo-"))
    try:
        n_wrong = _run(folder, backend)
    finally:
        if keep is None:
            shutil.rmtree(folder)
    if keep is not None:
        terminal.note(f"\nkept in {keep}; for example: afp -h; afp query -d {keep / 'store'} …")
    terminal.note(
        "\nnow with your own music:\n"
        "  afp index ~/Music          fingerprint a folder; again to bring it up to date\n"
        "  afp query clip.wav         name a clip\n"
        "  afp query --all show.mp3   list everything in a long recording\n"
        "  afp stats                  what is stored, and what it costs"
    )
    if n_wrong:
        raise SystemExit(ExitCode.NO_MATCH)


def _run(folder: Path, backend: str | None) -> int:
    from afp.library import Searcher, index

    started = time.perf_counter()
    terminal.note(f"composing {len(TITLES)} songs of {terminal.duration(SONG_SECONDS)} …")
    clips = _make_library(folder)
    terminal.note(f"  {time.perf_counter() - started:.1f} s\nindexing them …")
    report = index(folder / "store", [folder / "music"], backends=[backend] if backend else ())
    terminal.note(
        f"  {report.wall_seconds:.1f} s for {terminal.duration(report.audio_seconds)} of audio\n"
        f"querying {terminal.count(len(clips), 'clip')} of {CLIP_SECONDS:.0f} s in noise …"
    )
    with Searcher.open(folder / "store") as searcher:
        started = time.perf_counter()
        results = [searcher.query(clip.path) for clip in clips]
        seconds = time.perf_counter() - started
    terminal.note(f"  {1000 * seconds / len(clips):.0f} ms a clip\n")
    return _show(clips, results)


def _make_library(folder: Path) -> list[_Clip]:
    import numpy as np

    from afp.synthesis import song

    rng = np.random.default_rng(20)
    clips = []
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
            place = f"{terminal.clock(offset)} – {terminal.clock(offset + CLIP_SECONDS)}"
            error = f"{1000 * (offset - clip.start_seconds):+.0f} ms"
            p_false = terminal.probability(match.p_false)
        truth = clip.title if clip.title != UNKNOWN_TITLE else f"{clip.title} (not in the store)"
        mark = "✓" if right else "✗"
        rows.append((truth, f"{clip.snr_db:+.0f} dB", mark, answer, place, error, p_false))
    columns = ("clip of", "music/noise", "", "answer", "found at", "error", "p_false")
    if terminal.is_interactive():
        terminal.table(columns, rows, right="music/noise error p_false")
    else:
        for row in (columns, *rows):
            terminal.tsv_line(row)
    n_right = len(rows) - n_wrong
    terminal.note(f"\n{n_right} of {len(rows)} right; p_false: how likely such a score is by chance")
    return n_wrong
