"""What a fingerprint backend is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from afp.fingerprint import F32, Fingerprint, Match
from afp.index import IndexReader

Parameter = int | float | str | bool


class Backend(Protocol):
    """A way to turn samples into a fingerprint and to look a fingerprint up.

    The constructor's keyword arguments are the parameters, all with defaults. A backend knows
    no file, no database and no terminal.

    Attributes
    ----------
    name : str
        What ``-b`` takes.
    version : int
        Raised when equal audio gives other fingerprints.
    sample_rate : int
        Of the samples it wants, in Hz.
    hop_seconds : float
        Length of a frame step.
    context_seconds : float
        How far the fingerprint of an instant depends on the audio on either side of it.
    window_seconds : float
        Length of the stretch that `match` looks up at a time in a long recording.
    """

    name: str
    version: int
    sample_rate: int
    hop_seconds: float
    context_seconds: float
    window_seconds: float

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters as JSON values; an index is bound to them."""

    def extract(self, samples: F32, *, dense: bool = False) -> Fingerprint:
        """Fingerprint mono samples (n,) at `sample_rate`.

        Parameters
        ----------
        samples : ndarray of float32, shape (n,)
            Too short or silent audio gives an empty fingerprint.
        dense : bool
            The query side: more peaks, probes and shifts than a reference stores.
        """

    def match(self, query: Fingerprint, index: IndexReader, *, limit: int) -> list[Match]:
        """Look a dense fingerprint of at most `window_seconds` up, best match first.

        The times of the matches are in seconds from the start of the query.
        Every candidate with a finite `p_false` may be returned; the caller applies the threshold.
        """


@dataclass(frozen=True, slots=True)
class Place:
    """Where a query may lie in a track.

    Attributes
    ----------
    track_id : int
        The track.
    offset_seconds : float
        Track time minus `speed` times query time.
    speed : float
        Time factor; 1.02 when the query plays 2 % faster than the track.
    """

    track_id: int
    offset_seconds: float
    speed: float = 1.0


PLACE_SECONDS = 0.25
"""How far a place that a backend names may be off."""


@runtime_checkable
class Verifier(Backend, Protocol):
    """A backend that can also judge places that others have named."""

    def verify(
        self, query: Fingerprint, index: IndexReader, places: Sequence[Place]
    ) -> list[Match]:
        """Lay a dense fingerprint onto places, up to `PLACE_SECONDS` beside them.

        The `p_false` of a match is the probability that a place where the query does not lie would
        score this high, when it was named without a look at this backend: that of one place, not
        of the best in the store.

        Returns
        -------
        list of Match
            One a place, in their order; where there is nothing to compare, of `p_false` 1.

        Raises
        ------
        StoreError
            When the index has nothing of a track.
        """


@runtime_checkable
class Adopter(Backend, Protocol):
    """A backend that can also search what other versions or parameters of it have made."""

    def adopts(self, version: int, parameters: Mapping[str, Parameter]) -> bool:
        """Tell whether fingerprints made so are as good as its own, of the same `hop_seconds`."""


def nowhere(place: Place, index: IndexReader, score: float, backend: str) -> Match:
    """Return the match of a place that nothing speaks for: of no length, and of `p_false` 1."""
    return Match(
        track=index.track(place.track_id),
        query_start=0.0,
        query_end=0.0,
        track_start=place.offset_seconds,
        track_end=place.offset_seconds,
        score=score,
        p_false=1.0,
        speed=place.speed,
        pitch=place.speed,
        backend=backend,
    )
