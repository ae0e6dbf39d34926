"""The audio that the benchmarks work with: where music, noise, rooms and speech are."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from afp.audio import walk

DEFAULT_AUDIO = Path(__file__).parents[2] / "shared" / "audio"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Folders of audio files.

    Attributes
    ----------
    music : Path
    noise, rooms, speech : Path or None
        Recordings of noise, impulse responses of rooms, and speech.
    """

    music: Path
    noise: Path | None = None
    rooms: Path | None = None
    speech: Path | None = None

    def tracks(self) -> list[Path]:
        """List the music, sorted."""
        found = sorted(Path(file.path).absolute() for file in walk([self.music]))
        if not found:
            raise SystemExit(f"{self.music}: no audio; name a folder of music with --audio")
        return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `corpus_of` reads."""
    parser.add_argument(
        "--audio",
        type=Path,
        default=DEFAULT_AUDIO,
        help="folder with music/dev, noise/dev, ir/dev and speech/dev, or any folder of music",
    )
    parser.add_argument("--noise", type=Path, help="recordings of noise [noise/dev of --audio]")
    parser.add_argument("--ir", type=Path, help="impulse responses of rooms [ir/dev of --audio]")
    parser.add_argument("--speech", type=Path, help="recordings of speech [speech/dev of --audio]")


def corpus_of(arguments: argparse.Namespace) -> Corpus:
    """Read the options."""
    audio = arguments.audio.absolute()

    def part(kind: str) -> Path | None:
        folder = audio / kind / "dev"
        return folder if folder.is_dir() else None

    return Corpus(
        music=part("music") or audio,
        noise=arguments.noise or part("noise"),
        rooms=arguments.ir or part("ir"),
        speech=arguments.speech or part("speech"),
    )
