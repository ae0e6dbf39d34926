"""What a fingerprint backend is."""

from typing import Protocol

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
