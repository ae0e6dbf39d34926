"""What the severities of distortions are called on an axis."""

from afp.bench.report.wording import printable
from afp.distort import FAMILIES

QUANTITIES = {
    "snr": "signal-to-noise ratio",
    "t60": "reverberation time",
    "kbps": "bit rate",
    "semitones": "shift",
    "hz": "frequency",
    "low": "lower frequency",
    "high": "upper frequency",
    "ms": "delay",
    "db": "level",
    "ratio": "ratio",
    "errors": "bit errors",
    "percent": "change",
    "crop.percent": "share of the clip that is left",
    "echo.percent": "level of each echo",
    "clip.db": "clipped below the peak",
}


def severity_label(distortion: str, key: str) -> str:
    """Write a severity and its unit; in a chain the family stands before its name.

    Parameters
    ----------
    distortion, key : str
        As rows have them: ``noise+mp3``, ``noise.snr``.

    Returns
    -------
    str
        The key as it is where it is of no known family.
    """
    step, _, severity = key.rpartition(".")
    # ``noise1`` and ``noise2`` are two of a family in one chain.
    families = [
        name
        for name in distortion.split("+")
        if step in ("", name) or (step.startswith(name) and step[len(name) :].isdigit())
    ]
    family = FAMILIES.get(families[0]) if families else None
    units = {one.name: one.unit for one in family.severities} if family else {}
    if family is None or severity not in units:
        return printable(key)
    quantity = QUANTITIES.get(f"{family.name}.{severity}") or QUANTITIES.get(severity, severity)
    return f"{step}: {quantity}, {units[severity]}" if step else f"{quantity}, {units[severity]}"
