"""Axes of charts: where values stand, and where ticks."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from afp.bench.report.wording import number

SHARES = tuple((i / 100, str(i)) for i in range(0, 101, 20))
ZERO = 3.0  # zero stands on a logarithmic axis at the smallest value divided by this


@dataclass(frozen=True, slots=True)
class Axis:
    """A label, and ticks: where along the axis (0 to 1), and what is written there."""

    label: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places on an axis, where what is outside stands at the edge."""

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value, from 0 to 1."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    @classmethod
    def around(cls, values: Iterable[float]) -> "Scale":
        """Cover measured values, logarithmically when they span much."""
        low, high = min(values := list(values)), max(values)
        if low > 0 and high / low >= 20:
            margin = (high / low) ** 0.06
            return cls(low / margin, high * margin, log=True)
        margin = 0.06 * (high - low) or 0.5
        return cls(low - margin, high + margin)

    @classmethod
    def of_shares(cls, values: Iterable[float], smallest: float) -> "Scale":
        """Cover shares logarithmically; `smallest` is one of many, where all are zero."""
        values = list(values)
        low = min((value for value in values if value > 0), default=smallest)
        low /= ZERO if min(values, default=0) <= 0 else 1.3
        return cls(low, min(1.0, max(*values, 3 * low) * 1.3), log=True)

    def at(self, values: Iterable[float]) -> tuple[tuple[float, str], ...]:
        """Return ticks at values, as many as have room."""
        ticks: list[tuple[float, str]] = []
        for value in sorted(set(values)):
            if not ticks or self(value) - ticks[-1][0] > 0.085:
                ticks.append((self(value), number(value)))
        return tuple(ticks)

    def decades(
        self, written: Callable[[float], str], *, zero: bool
    ) -> tuple[tuple[float, str], ...]:
        """Return ticks at round values of a logarithmic axis, and at zero where it is shown."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        lowest = self.low * 2 if zero else self.low
        start = ((0.0, "0"),) if zero else ()
        # From many ticks to few, until they have room.
        for digits, step in (("123456789", 1), ("125", 1), *(("1", n) for n in range(1, 400))):
            values = [
                int(digit) * 10.0**power
                for power in range(last, first - 1, -step)
                for digit in digits
            ]
            inside = sorted(v for v in values if lowest <= v <= self.high * 1.000001)
            if len(inside) <= 6:
                break
        return start + tuple((self(value), written(value)) for value in inside)


def written_percent(share: float) -> str:
    """Write a share in percent: ``0.1``, ``20``."""
    return f"{100 * share:.6g}"


def written_power(value: float) -> str:
    """Write a probability: ``10⁻³``, ``0.02``."""
    power = round(math.log10(value))
    if power > -3 or not math.isclose(value, 10.0**power):
        return f"{value:.6g}"
    return "10⁻" + str(-power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
