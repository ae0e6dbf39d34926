"""What a run has made ready before its first query, so that it can go on with just that."""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from afp.bench.excerpts import Excerpt, Source
from afp.distort import Recordings, Sounds
from afp.errors import UsageError

_FILE = "prepared.json"
_SOUNDS = ("noise", "rooms", "speech")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What queries are made from.

    Attributes
    ----------
    sounds : Sounds
    excerpts : mapping of (str, int) to Excerpt
        By kind and number.
    content : int
        `checksum` of what is in the store.
    """

    sounds: Sounds
    excerpts: Mapping[tuple[str, int], Excerpt]
    content: int

    def save(self, work: Path) -> None:
        """Note it in the folder that holds the samples."""
        value = {
            "sounds": {
                name: {"names": recordings.names, "bounds": recordings.bounds}
                for name in _SOUNDS
                if (recordings := getattr(self.sounds, name)) is not None
            },
            "excerpts": [
                [e.kind, e.number, e.source.path, e.source.track, e.source.seconds, e.start]
                for e in self.excerpts.values()
            ],
            "content": self.content,
        }
        (work / _FILE).write_text(json.dumps(value), encoding="utf-8")

    @classmethod
    def load(cls, work: Path) -> "Prepared":
        """Read what was saved.

        Raises
        ------
        UsageError
            When it is not there any more.
        """
        try:
            value = json.loads((work / _FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{work}: what the run works with is gone",
                hint=f"remove {work.parent} and run it again, or name another folder with --out",
            ) from error
        sounds = {
            name: Recordings(samples_of(work, name), tuple(kept["names"]), tuple(kept["bounds"]))
            for name, kept in value["sounds"].items()
        }
        excerpts = {
            (kind, number): Excerpt(kind, number, Source(path, track, seconds), start)
            for kind, number, path, track, seconds, start in value["excerpts"]
        }
        return cls(Sounds(**sounds), excerpts, value["content"])


def samples_of(work: Path, name: str) -> Path:
    """Name the file that recordings are decoded into."""
    return work / f"{name}.f32"


def checksum(content: Iterable[str]) -> int:
    """Sum up content ids, in any order."""
    return zlib.crc32("\n".join(sorted(content)).encode())
