"""What a run trains and validates on: folders of recordings, decoded, divided, and prepared."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from afp.audio import AudioFile, walk
from afp.errors import InputError
from afp.training.channel import Bank
from afp.training.config import Config
from afp.training.pcm import Pcm
from afp.training.validation import LENGTHS, Validation
from afp.training.views import Views

HELD_OUT = 10
"""One file in so many is kept for validation where no folder is named for that."""

SHORTEST_SECONDS = LENGTHS[-1] + 0.5

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Folders and files of one kind each.

    Attributes
    ----------
    music, noise, rooms : tuple of path
        To train on. Without noise it is made up, as rooms are.
    validation_music, validation_noise, validation_rooms : tuple of path
        To validate with. Where they are empty, one file in ten of the others is taken, chosen by
        its name, and not trained on.
    """

    music: tuple[str, ...]
    noise: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ()
    validation_music: tuple[str, ...] = ()
    validation_noise: tuple[str, ...] = ()
    validation_rooms: tuple[str, ...] = ()

    def prepared(
        self,
        config: Config,
        folder: Path,
        *,
        n_queries: int,
        n_distractors: int,
        tell: Tell = lambda what, done, total: None,
    ) -> tuple[Views, Validation]:
        """Decode and divide; what is in the folder from an earlier call is taken again.

        Parameters
        ----------
        config : Config
        folder : Path
            Where the decoded samples are kept.
        n_queries, n_distractors : int
            Of the validation: queries in each condition, and segments of training tracks beside
            those of the unseen ones.
        tell : callable
            Called with what is decoded, how many files are done, and of how many.

        Raises
        ------
        InputError
            When there is no music to train on or to validate with.
        """
        folder.mkdir(parents=True, exist_ok=True)

        def decoded(name: str, files: Sequence[AudioFile], shortest_seconds: float = 0.0) -> Pcm:
            return Pcm.decoded(
                files,
                folder / f"{name}.pcm",
                shortest_seconds=shortest_seconds,
                progress=lambda done: tell(name, done, len(files)),
            )

        def optional(name: str, files: Sequence[AudioFile]) -> Pcm | None:
            return decoded(name, files) if files else None

        music, unseen = _divided(self.music, self.validation_music)
        noise, unseen_noise = _divided(self.noise, self.validation_noise)
        rooms, unseen_rooms = _divided(self.rooms, self.validation_rooms)
        if not music or not unseen:
            raise InputError(
                f"{', '.join(self.music)}: {len(music) + len(unseen)} audio files are too few",
                hint="name folders with more music",
            )
        tracks = decoded("music", music, SHORTEST_SECONDS)
        views = Views(
            config,
            tracks,
            optional("noise", noise),
            Bank.rooms(optional("rooms", rooms), folder / "rooms.bank", seed=config.seed),
            Bank.devices(folder / "devices.bank", seed=config.seed),
        )
        validation = Validation.made(
            decoded("validation-music", unseen, SHORTEST_SECONDS),
            optional("validation-noise", unseen_noise),
            optional("validation-rooms", unseen_rooms),
            distractors=tracks,
            n_queries=n_queries,
            n_distractors=n_distractors,
            seed=0,
        )
        return views, validation


def _divided(
    paths: Sequence[str], for_validation: Sequence[str]
) -> tuple[list[AudioFile], list[AudioFile]]:
    """Return the files to train on, and those to validate with."""
    files = list(walk(paths))
    if for_validation:
        return files, list(walk(for_validation))
    held = [_is_held_out(Path(file.path).name) for file in files]
    if files and not any(held):
        held[-1] = len(files) > 1
    return (
        [file for file, is_held in zip(files, held, strict=True) if not is_held],
        [file for file, is_held in zip(files, held, strict=True) if is_held],
    )


def _is_held_out(name: str) -> bool:
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) % HELD_OUT == 0
