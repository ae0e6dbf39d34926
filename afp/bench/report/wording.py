"""How figures and names are written where people read them."""

import math

from afp.bench.scores import Proportion


def printable(text: str) -> str:
    r"""Write what has no shape, such as control characters, as escapes: ``\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int) -> str:
    """Cut a text that is longer than so many letters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def number(value: float) -> str:
    """Write a number in as few digits as it has: ``0.5``, ``10``, ``−5``."""
    return f"{value:.10g}".replace("-", "−")


def percent(share: float) -> str:
    """Write a share in percent, without the sign."""
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def interval(of: Proportion) -> str:
    """Write an interval in percent, without the sign."""
    return f"{percent(of.low)}–{percent(of.high)}"


def told(of: Proportion) -> str:
    """Write a share with what it is made of."""
    return f"{percent(of.share)} % ({of.k} of {of.n}; 95 % interval {interval(of)} %)"
