"""What a training run is made of: one dataclass, read from TOML and ``key=value``."""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_type_hints

import numpy as np

from afp.errors import UsageError

LOSSES = ("nt_xent", "triplet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that decides how a run goes, apart from its recordings.

    Attributes
    ----------
    seed : int
        Every draw of the run follows from it, the step and the place in the batch.
    channels : tuple of int
        Of the stages of the net, each at half the resolution of the one before.
    blocks : tuple of int
        Residual blocks of each stage.
    dimensions : int
        Of the embedding.
    short_dimensions : int
        The first so many are trained to be an embedding of their own (Kusupati et al. 2022,
        "Matryoshka representation learning"); 0 for none.
    loss : str
        ``nt_xent`` (Chang et al. 2021) or ``triplet`` (Now Playing).
    temperature : float
        Of NT-Xent, and of looking replicas up.
    margin : float
        Of the triplet loss, between squared distances.
    steps : int
        Length of the schedule.
    pairs : int
        Anchors a batch, and as many replicas.
    per_track : int
        Anchors of one track in a batch. Music repeats itself, so they are not told apart; more
        than one makes large batches of few tracks.
    learning_rate : float
        The highest, after the warm-up; a cosine takes it down to a hundredth.
    warm_up_steps : int
    weight_decay : float
    gradient_norm : float
        Gradients are scaled down to this norm.
    average_decay : float
        Of the moving average of the weights, which is what is validated and exported.
    memory : int
        Latest steps, the current one included, whose anchors are remembered for replicas to be
        looked up among (He et al. 2020, "MoCo"); 0 for none.
    offset_seconds : float
        The replica's centre lies up to so far from the anchor's.
    key_share, key_factor : float
        In this share of the pairs both views are played up to so many times faster or slower:
        music that is not in the folder.
    mix_share, mix_db : float, tuple of float
        Pairs with another track mixed in, and its gain where both are scaled to full scale: more
        music that is not in the folder.
    speed_share, speed_percent : float
        The replica alone is played up to so much faster or slower.
    room_share, recorded_room_share : float
        Replicas in a room, and the share of recorded ones among rooms where there are any.
    loudspeaker_share : float
        Replicas whose music alone goes through a device, before the room.
    device_share : float
        Replicas through small microphones, loudspeakers, telephones, equalisers, band limits.
    noise_share : float
        Replicas with noise.
    snr_db : tuple of float
        Range of signal-to-noise ratios, in dB.
    hard_share, hard_snr_db : float, tuple of float
        The share of the noisy replicas that draw from a harder range.
    made_noise_share : float
        Noise that is white or coloured rather than recorded.
    second_noise_share : float
        Recorded noise that another recording is mixed with.
    clip_share, clip_db : float, tuple of float
        Replicas clipped so many dB below their peak.
    codec_share, codec_db : float, tuple of float
        Replicas that lose what is so many dB below the loudest band of a frame.
    cut_share, cut_bands, cut_frames : float
        Replicas that lose a stripe in frequency, in time, or both, up to so wide a part.
    """

    seed: int = 0
    channels: tuple[int, ...] = (64, 96, 160)
    blocks: tuple[int, ...] = (1, 1, 1)
    stem_channels: int = 32
    dimensions: int = 128
    short_dimensions: int = 64

    loss: str = "nt_xent"
    temperature: float = 0.05
    margin: float = 0.5

    steps: int = 10_000
    pairs: int = 256
    per_track: int = 1
    learning_rate: float = 2e-3
    warm_up_steps: int = 300
    weight_decay: float = 0.02
    gradient_norm: float = 1.0
    average_decay: float = 0.999
    memory: int = 32

    offset_seconds: float = 0.25
    key_share: float = 0.5
    key_factor: float = 1.35
    mix_share: float = 0.3
    mix_db: tuple[float, float] = (-12.0, 0.0)
    speed_share: float = 0.4
    speed_percent: float = 4.5
    room_share: float = 0.8
    recorded_room_share: float = 0.5
    loudspeaker_share: float = 0.3
    device_share: float = 0.6
    noise_share: float = 0.9
    snr_db: tuple[float, float] = (0.0, 10.0)
    hard_share: float = 0.2
    hard_snr_db: tuple[float, float] = (-8.0, 0.0)
    made_noise_share: float = 0.1
    second_noise_share: float = 0.25
    clip_share: float = 0.1
    clip_db: tuple[float, float] = (3.0, 15.0)
    codec_share: float = 0.2
    codec_db: tuple[float, float] = (15.0, 35.0)
    cut_share: float = 0.3
    cut_bands: float = 0.25
    cut_frames: float = 0.25

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"there is no loss {self.loss!r}", hint=f"one of {', '.join(LOSSES)}")
        if not 0 <= self.short_dimensions < self.dimensions:
            raise UsageError(
                f"short_dimensions={self.short_dimensions} are not below dimensions="
                f"{self.dimensions}",
                hint="choose fewer, or 0 for none",
            )
        if len(self.blocks) != len(self.channels):
            raise UsageError(
                f"{len(self.blocks)} numbers of blocks for {len(self.channels)} stages",
                hint="give blocks and channels as many values",
            )
        self._require_numbers_in_range()

    def _require_numbers_in_range(self) -> None:
        for name in ("steps", "per_track", "dimensions"):
            self._require(name, 1, np.inf, "trains nothing", "1 or more")
        # One pair alone has nothing to be told from.
        self._require("pairs", 2, np.inf, "trains nothing", "2 or more")
        for field in dataclasses.fields(self):
            if field.type is not str:
                _require_finite(field.name, getattr(self, field.name))
            if field.name.endswith("_db"):
                _require_range(field.name, *getattr(self, field.name))
            if field.name.endswith("_share"):
                self._require(field.name, 0, 1, "is no share", "choose 0 to 1")
        for name in ("learning_rate", "weight_decay", "offset_seconds", "margin", "memory"):
            self._require(name, 0, np.inf, "is negative", "0 or more")
        for name in ("temperature", "gradient_norm", "key_factor"):
            self._require(name, 1e-9, np.inf, "is too small", "more than 0")
        self._require("average_decay", 0, 1 - 1e-9, "is no share of the past", "0 to less than 1")

    def _require(self, name: str, low: float, high: float, problem: str, hint: str) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise UsageError(f"{name}={value} {problem}", hint=hint)

    @classmethod
    def read(
        cls,
        path: Path | None,
        settings: Iterable[str] = (),
        *,
        before: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read a TOML file and settings that come after it.

        Parameters
        ----------
        path : Path or None
            Keys of its top level are the names of the attributes.
        settings : iterable of str
            ``key=value``, the value as in TOML; a bare word is a text.
        before : mapping, optional
            Values that hold unless the file or the settings say otherwise.

        Raises
        ------
        UsageError
            For a name that does not exist, or a value of the wrong kind.
        """
        values: dict[str, Any] = dict(before or {})
        if path is not None:
            try:
                values.update(tomllib.loads(path.read_text()))
            except OSError as error:
                raise UsageError(
                    f"{path}: {error.strerror}", hint="name a TOML file with settings"
                ) from None
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise UsageError(
                    f"{path}: not TOML: {error}", hint="lines are key = value"
                ) from None
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise UsageError(f"{setting}: not KEY=VALUE", hint="such as steps=20000")
            values[key.strip()] = _parsed(text.strip())
        return cls.checked(values)

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration of values by name, each of its kind.

        Raises
        ------
        UsageError
            See `read`.
        """
        kinds = get_type_hints(cls)
        if unknown := [name for name in values if name not in kinds]:
            raise UsageError(
                f"there is no setting {unknown[0]!r}", hint=f"there are {', '.join(kinds)}"
            )
        return cls(**{name: _as_kind(name, value, kinds[name]) for name, value in values.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON and TOML have them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def _require_finite(name: str, value: Any) -> None:
    if not np.all(np.isfinite(np.ravel(value))):
        raise UsageError(f"{name} is no number", hint="give a finite one")


def _require_range(name: str, low: float, high: float) -> None:
    if low > high:
        raise UsageError(f"{name}=[{low},{high}] is no range", hint="give the lower one first")


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _as_kind(name: str, value: Any, kind: Any) -> Any:
    """Return a value as the kind that a field has, whole numbers also where it has fractions."""
    problem = UsageError(
        f"{name}={value!r} is not what is wanted", hint=f"give {_KINDS[str(kind)]}"
    )
    if kind in (int, float, str):
        if type(value) is kind or (kind is float and type(value) is int):
            return kind(value)
        raise problem
    item, *rest = kind.__args__
    if not isinstance(value, list | tuple):
        raise problem
    if rest != [...] and len(value) != len(kind.__args__):
        raise problem
    try:
        return tuple(_as_kind(name, each, item) for each in value)
    except UsageError:
        raise problem from None


_KINDS = {
    str(int): "a whole number",
    str(float): "a number",
    str(str): "a word",
    str(tuple[int, ...]): "whole numbers, such as [64,96]",
    str(tuple[float, float]): "two numbers, such as [0,10]",
}
