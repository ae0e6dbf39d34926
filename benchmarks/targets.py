"""What this project wants of its backends on the corpus."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Targets:
    """What a backend is held against.

    Attributes
    ----------
    right : mapping of (str, float) to float
        At least so many % right at the default threshold, by condition and seconds.
    offset_ms : mapping of str to float
        Median offset error at most, in milliseconds, by condition, at every length.
    bytes_per_second : float
        Of the store, per second of audio, at most.
    false_percent : float
        False answers at most, in % of the queries that no track answers.
    """

    bytes_per_second: float
    right: Mapping[tuple[str, float], float] = field(default_factory=dict)
    offset_ms: Mapping[str, float] = field(default_factory=dict)
    false_percent: float = 0.1


_NOISY = (*(f"noise:snr={snr}" for snr in (10, 5, 0, -5)), "white:snr=0", "pink:snr=0")

TARGETS = {
    "shazam": Targets(
        bytes_per_second=600,
        right={
            ("clean", 3): 99.5,
            ("clean", 10): 100,
            ("mp3:kbps=32", 5): 99,
            ("noise:snr=5", 5): 97,
            ("noise:snr=0", 5): 93,
            ("noise:snr=-5", 5): 85,
            ("chang", 5): 85,
            ("chang", 10): 95,
            ("speed:percent=-2", 10): 97,
            ("speed:percent=2", 10): 97,
            ("speed:percent=-4", 10): 90,
            ("speed:percent=4", 10): 90,
        },
        offset_ms={"clean": 5, **dict.fromkeys(_NOISY, 15)},
    ),
    "philips": Targets(
        bytes_per_second=400,
        right={
            ("clean", 3): 99,
            ("mp3:kbps=32", 3): 99,
            ("gsm:errors=0", 3): 99,
            ("equaliser:db=6", 3): 99,
            ("noise:snr=0", 5): 95,
        },
    ),
}
