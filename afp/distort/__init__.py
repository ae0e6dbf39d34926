"""What happens to music on its way to a query: noise, rooms, devices, codecs, filters, speed.

The functions are pure: samples and severities in, samples out, all chance from a generator that
the caller passes. `parse` reads them in words, as ``--distort`` has them.
"""

from afp.distort.clip import Clip
from afp.distort.families import CHAINS, FAMILIES, Family, Severity
from afp.distort.grammar import Distortion, parse
from afp.distort.recordings import Recordings, Sounds, is_silent, read

__all__ = [
    "CHAINS",
    "FAMILIES",
    "Clip",
    "Distortion",
    "Family",
    "Recordings",
    "Severity",
    "Sounds",
    "is_silent",
    "parse",
    "read",
]
