"""A clip on its way through distortions, with what comes before and after it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from afp.fingerprint import F32


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A stretch of samples of which a part is the clip.

    Distortions act on the whole stretch, so that rooms, codecs and filters are under way when
    the clip begins; what surrounds it is cut off at the end.

    Attributes
    ----------
    samples : ndarray of float32, shape (n,)
        Mono.
    sample_rate : int
        In Hz.
    past : int
        Samples before the clip begins.
    length : int
        Samples of the clip; fewer where the stretch ends before.
    speed : float
        Seconds of the source that play in one second of the clip.
    delay_seconds : float
        How much later in the source the clip begins than it did at first.
    drawn : mapping of str to float or str
        What chance chose.
    """

    samples: F32
    sample_rate: int
    past: int
    length: int
    speed: float = 1.0
    delay_seconds: float = 0.0
    drawn: Mapping[str, float | str] = field(default_factory=dict)

    def body(self) -> F32:
        """Return the clip alone."""
        return self.samples[self.past : self.past + self.length]

    def through(self, distortion: Callable[[F32], F32]) -> "Clip":
        """Send the samples through something that leaves time as it is."""
        return replace(self, samples=distortion(self.samples))

    def played(self, distortion: Callable[[F32], F32], factor: float) -> "Clip":
        """Send the samples through something that makes time run faster by a factor."""
        return replace(
            self,
            samples=distortion(self.samples),
            past=round(self.past / factor),
            speed=self.speed * factor,
        )

    def later(self, seconds: float) -> "Clip":
        """Let the clip begin later, by so many of its own seconds."""
        return replace(
            self,
            past=self.past + round(seconds * self.sample_rate),
            delay_seconds=self.delay_seconds + seconds * self.speed,
        )

    def drew(self, name: str, value: float | str) -> "Clip":
        """Note what chance chose."""
        return replace(self, drawn={**self.drawn, name: value})
