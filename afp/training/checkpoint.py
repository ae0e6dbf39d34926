"""Everything that a run needs to go on, in one file."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import afp
from afp.errors import InputError
from afp.training.config import Config

FORMAT = 1


@dataclass(slots=True)
class Checkpoint:
    """The state of a run after a step.

    The learning rate follows from the step and the configuration, the data from the step and the
    seed, so neither has a state of its own.

    Attributes
    ----------
    config : Config
    step : int
        Steps done.
    net, average, optimiser : dict
        States of the net, of the moving average of its weights, and of the optimiser.
    random : Tensor
        State of torch's generator.
    seconds : float
        Time that the steps took.
    validations : list of dict
        Each with its step and its scores.
    best : float
        The highest validation score yet.
    commit : str
        Of the code; empty where that is not known.
    memory : list of tuple of Tensor
        See `afp.training.losses.Memory.state`.
    """

    config: Config
    step: int
    net: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]
    random: torch.Tensor
    seconds: float
    validations: list[dict[str, Any]]
    best: float
    commit: str
    memory: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["config"] = self.config.as_dict()
        temporary = path.with_suffix(".partial")
        torch.save({"format": FORMAT, **values}, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint; its tensors are on the CPU.

        Raises
        ------
        InputError
            When the file is none.
        """
        hint = "name a checkpoint.pt or best.pt that afp train has written"
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            found = values.pop("format")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", hint=hint) from None
        except Exception:  # whatever unpickling a foreign or truncated file raises
            raise InputError(f"{path}: no checkpoint, or a truncated one", hint=hint) from None
        if found != FORMAT:
            raise InputError(
                f"{path}: a checkpoint of format {found}, not {FORMAT}",
                hint="use the version of afp that wrote it",
            )
        values["config"] = Config.checked(values["config"])
        return cls(**values)


def commit() -> str:
    """Return the commit of the code that runs, empty where it is not in a repository."""
    folder = Path(afp.__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
