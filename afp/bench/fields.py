"""What the fields of rows may hold and how precisely: one rule each, for writing and reading.

A rule returns the value to keep and raises ValueError, with the reason, for one of another kind.
"""

import math
import reprlib
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Context
from typing import Any

_THREE_DIGITS_UP = Context(prec=3, rounding=ROUND_CEILING)
Rules = Mapping[str, Callable[[object], Any]]


def read(value: object, rules: Rules) -> dict[str, Any]:
    """Read the fields of a JSON object that there are rules for.

    Raises
    ------
    ValueError
        When it is no object, or a field is missing or of another kind.
    """
    known = json_object(value)
    values = {}
    for name, rule in rules.items():
        if name not in known:
            raise ValueError(f"it lacks {name!r}")
        try:
            values[name] = rule(known[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return values


def written(value: object, rules: Rules) -> dict[str, Any]:
    """Return the attributes that there are rules for.

    Raises
    ------
    ValueError
        When one is of another kind.
    """
    return read({name: getattr(value, name) for name in rules}, rules)


def text(value: object) -> str:
    """Keep a text."""
    if not isinstance(value, str):
        raise ValueError(f"{reprlib.repr(value)} is no text")
    return value


def optional_text(value: object) -> str | None:
    """Keep a text or null."""
    return None if value is None else text(value)


def integer(value: object) -> int:
    """Keep an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{reprlib.repr(value)} is no integer")
    return value


def number(value: object) -> float:
    """Keep a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            as_float = float(value)
        except OverflowError:
            as_float = math.inf
        if math.isfinite(as_float):
            return as_float
    raise ValueError(f"{reprlib.repr(value)} is no number")


def seconds(value: object) -> float:
    """Keep tenths of a millisecond."""
    return round(number(value), 4)


def milliseconds(value: object) -> float:
    """Keep tenths."""
    return round(number(value), 1)


def factor(value: object) -> float:
    """Keep millionths."""
    return round(number(value), 6)


def score(value: object) -> float:
    """Keep six digits."""
    return float(f"{number(value):.6g}")


def p_false(value: object) -> float:
    """Keep three digits of a probability, rounded up.

    So that ``p <= threshold`` stays as true or as false as it was, at thresholds of three digits.
    """
    p = number(value)
    if not 0 <= p <= 1:
        raise ValueError(f"{p} is no probability")
    return float(_THREE_DIGITS_UP.create_decimal(repr(p)))


def json_object(value: object) -> dict[str, Any]:
    """Keep an object as it is."""
    if not isinstance(value, dict):
        raise ValueError(f"{reprlib.repr(value)} is no object")
    return value


def settings(value: object) -> dict[str, float | str]:
    """Keep an object of numbers and texts."""
    return {
        name: setting if isinstance(setting, str) else number(setting)
        for name, setting in json_object(value).items()
    }


def brief(value: object) -> str:
    """Write a parameter as short as it can be told: a whole number without its point."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
