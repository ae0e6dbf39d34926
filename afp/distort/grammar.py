"""Distortions in words: ``noise:snr=0,5``, ``speed:percent=-2..2``, ``room+noise:snr=0..10``."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from afp.distort.clip import Clip
from afp.distort.codec import unavailable
from afp.distort.families import CHAINS, FAMILIES, Family, Severity
from afp.distort.recordings import Sounds
from afp.errors import AfpError, UsageError


@dataclass(frozen=True, slots=True)
class Range:
    """A severity that is drawn for each clip, uniformly from ``low`` to ``high``.

    Of a severity that has but a few values, each of those in the range is as likely.
    """

    low: float
    high: float

    def draw(self, severity: Severity, rng: np.random.Generator) -> float:
        """Choose a value."""
        if severity.only:
            return float(rng.choice([x for x in severity.only if self.low <= x <= self.high]))
        return float(rng.uniform(self.low, self.high))

    def __str__(self) -> str:
        return f"{_text(self.low)}..{_text(self.high)}"


Value = float | Range


@dataclass(frozen=True, slots=True)
class Step:
    """One family with a value for each of its severities."""

    family: Family
    values: tuple[tuple[str, Value], ...]

    def __str__(self) -> str:
        values = ",".join(f"{name}={_text(value)}" for name, value in self.values)
        return f"{self.family.name}:{values}" if values else self.family.name

    def extremes(self) -> Iterable[dict[str, float]]:
        """Yield the corners of what may be drawn."""
        ends = [
            (value.low, value.high) if isinstance(value, Range) else (value,)
            for _, value in self.values
        ]
        names = [name for name, _ in self.values]
        return (dict(zip(names, corner, strict=True)) for corner in itertools.product(*ends))


@dataclass(frozen=True, slots=True)
class Distortion:
    """One cell of a grid: families in turn, each with its severities.

    Attributes
    ----------
    name : str
        Its families, or the name of the chain.
    severity : tuple of (str, float or str)
        What tells it from others of that name; a range as text.
    steps : tuple of Step
    """

    name: str
    severity: tuple[tuple[str, float | str], ...]
    steps: tuple[Step, ...]

    @property
    def condition(self) -> str:
        """The distortion in words that `parse` understands."""
        if self.name in CHAINS:
            return self.name
        return "+".join(map(str, self.steps))

    def reach_seconds(self, seconds: float) -> float:
        """Tell how much of the source a clip of so many seconds may need."""
        speed, delay_seconds = 1.0, 0.0
        for step in self.steps:
            corners = list(step.extremes())
            # A delay is in seconds of the clip as it plays by then.
            delay_seconds += speed * max(map(step.family.delay_seconds, corners))
            speed *= max(map(step.family.speed, corners))
        return delay_seconds + seconds * max(speed, 1.0)

    def __reduce__(self) -> tuple[Any, ...]:
        # Families hold functions, which do not travel between processes; words do.
        return _only, (self.condition,)

    def unavailable(self) -> str | None:
        """Tell why it cannot be done on this machine; None when it can."""
        reasons = (unavailable(s.family.codec) for s in self.steps if s.family.codec)
        return next((reason for reason in reasons if reason), None)

    def apply(self, clip: Clip, sounds: Sounds, rng: np.random.Generator) -> Clip:
        """Distort a clip.

        Parameters
        ----------
        clip : Clip
        sounds : Sounds
            Recordings to distort with.
        rng : numpy.random.Generator
            Equal states give equal clips.
        """
        for step, prefix in zip(self.steps, _prefixes(self.steps), strict=True):
            values = {}
            before = clip.drawn
            clip = replace(clip, drawn={})
            for severity, (name, value) in zip(step.family.severities, step.values, strict=True):
                if isinstance(value, Range):
                    values[name] = value.draw(severity, rng)
                    clip = clip.drew(name, round(values[name], 4))
                else:
                    values[name] = value
            clip = step.family.apply(clip, values, sounds, rng)
            drawn = {prefix + name: what for name, what in clip.drawn.items()}
            clip = replace(clip, drawn={**before, **drawn})
        return clip

    def try_out(self, sounds: Sounds, *, sample_rate: int) -> None:
        """Distort a second of noise by the least and the most of every range.

        Raises
        ------
        UsageError
            When severities do not go together, at that sample rate, or on this machine.
        """
        rng = np.random.default_rng(0)
        noise = rng.standard_normal(sample_rate, np.float32)
        try:
            for corner in itertools.product(*(step.extremes() for step in self.steps)):
                clip = Clip(noise, sample_rate, past=0, length=sample_rate)
                for step, values in zip(self.steps, corner, strict=True):
                    clip = step.family.apply(clip, values, sounds, rng)
        except AfpError as error:
            raise UsageError(f"{self.condition}: {error}", hint=error.hint) from error


def parse(text: str) -> list[Distortion]:
    """Read distortions: one for each combination of the severities that are listed.

    ``NAME:KEY=VALUE`` with ``VALUE`` a number, several (``0,5,10``) or a range from which each
    clip draws (``0..10``); several keys are separated by commas, and ``+`` puts one distortion
    behind another. A severity that is not given has its default.

    Raises
    ------
    UsageError
        For a name, a key or a value that there is not.

    Examples
    --------
    >>> [distortion.condition for distortion in parse("noise:snr=0,10")]
    ['noise:snr=0', 'noise:snr=10']
    """
    text = text.strip()
    if text in CHAINS:
        (chain,) = parse(CHAINS[text])
        return [Distortion(text, (), chain.steps)]
    choices = [_steps(part.strip(), text) for part in text.split("+")]
    distortions = []
    for steps in itertools.product(*choices):
        severity = tuple(
            (prefix + name, str(value) if isinstance(value, Range) else value)
            for step, prefix in zip(steps, _prefixes(steps), strict=True)
            for name, value in step.values
        )
        name = "+".join(step.family.name for step in steps)
        distortions.append(Distortion(name, severity, steps))
    return distortions


def _only(condition: str) -> Distortion:
    (distortion,) = parse(condition)
    return distortion


def _prefixes(steps: tuple[Step, ...]) -> list[str]:
    """Return what tells the severities of one step from those of others."""
    if len(steps) == 1:
        return [""]
    names = [step.family.name for step in steps]
    return [
        f"{name}{names[:i].count(name) + 1}." if names.count(name) > 1 else f"{name}."
        for i, name in enumerate(names)
    ]


def _steps(part: str, text: str) -> list[Step]:
    name, _, rest = part.partition(":")
    if name not in FAMILIES:
        what = f"the chain {name!r} stands alone, without severities" if name in CHAINS else None
        raise UsageError(
            f"{text!r}: {what or f'there is no distortion {name!r}'}",
            hint=f"there are {', '.join(FAMILIES)}; chains: {', '.join(CHAINS)}",
        )
    family = FAMILIES[name]
    given = _given(rest, family, text)
    options = [
        [
            (severity.name, _value(value, severity, text))
            for value in given.get(severity.name, severity.default.split(","))
        ]
        for severity in family.severities
    ]
    return [Step(family, values) for values in itertools.product(*options)]


def _given(rest: str, family: Family, text: str) -> dict[str, list[str]]:
    """Split ``snr=0,5,other=1`` up: what has no key belongs to the key before."""
    given: dict[str, list[str]] = {}
    names = [severity.name for severity in family.severities]
    key = ""
    for item in rest.split(",") if rest else ():
        before, equals, after = item.partition("=")
        value = item
        if equals:
            key, value = before.strip(), after
        if key not in names:
            has = f"has {', '.join(names)}" if names else "has none"
            what = f"no severity {key!r}" if key else f"{item!r} belongs to no severity"
            example = f"{family.name}:{names[0]}=…" if names else family.name
            raise UsageError(f"{text!r}: {what}; {family.name} {has}", hint=f"write {example}")
        given.setdefault(key, []).append(value.strip())
    return given


def _value(value: str, severity: Severity, text: str) -> Value:
    low, dots, high = value.partition("..")
    try:
        numbers = [float(low), float(high)] if dots else [float(value)]
    except ValueError:
        raise UsageError(
            f"{text!r}: {severity.name}={value!r} is no number",
            hint=f"{severity.name}=0,5 for several, {severity.name}=0..5 for a range",
        ) from None
    for number in numbers:
        if not severity.low <= number <= severity.high:
            raise UsageError(
                f"{text!r}: {severity.name}={number:g} is not within "
                f"{severity.low:g} to {severity.high:g} {severity.unit}"
            )
        if severity.only and number not in severity.only:
            raise UsageError(
                f"{text!r}: {severity.name}={number:g} {severity.unit} is not to be had",
                hint=f"there are {', '.join(f'{x:g}' for x in severity.only)}",
            )
    if dots and numbers[0] > numbers[1]:
        raise UsageError(f"{text!r}: the range {value!r} ends before it begins")
    numbers = [number + 0.0 for number in numbers]  # no minus before a zero
    return Range(*numbers) if dots else numbers[0]


def _text(value: Value) -> str:
    """Write a value as briefly as it can be read back."""
    if isinstance(value, Range):
        return str(value)
    brief = f"{value:g}"
    return brief if float(brief) == value else repr(value)
