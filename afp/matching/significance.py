"""Significance: how improbable a score is for a query of nothing in the store."""

import math
from dataclasses import dataclass

from afp.matching.voting import Candidate


def surprise(candidate: Candidate) -> float:
    """Rank a histogram peak by how unlikely its height is among the hits of its track.

    Chernoff's bound on the Poisson tail, in nats: the more hits a track has, the higher the
    peaks that chance alone makes.
    """
    n, expected = candidate.n_aligned, max(candidate.expected, 0.05)
    if n <= expected:
        return 0.0
    return n * math.log(n / expected) - (n - expected)


@dataclass(frozen=True, slots=True)
class NullModel:
    """Tail of the best score of a query whose music is not in the store.

    Beyond its bulk the tail of a maximum over many nearly independent trials is exponential, and
    its height is proportional to their number: positions in the store times speeds searched.

    Attributes
    ----------
    score : float
        Score that chance reaches once in ``hours`` of store.
    decay : float
        Fall of the logarithm of the probability per unit of score.
    hours : float
        Size of the store that the model was fitted on.
    """

    score: float
    decay: float
    hours: float

    def p_false(self, score: float, *, store_hours: float, n_trials: float = 1.0) -> float:
        """Return the probability that an absent query scores this high somewhere in the store.

        Parameters
        ----------
        score : float
        store_hours : float
            Audio in the store. A store smaller than that of the fit counts as large: a query
            always meets the tracks that resemble it most, such as others of the same artist.
        n_trials : float
            How often more than at nominal speed alone it was searched.
        """
        exponent = self.decay * (self.score - score) + math.log(
            max(store_hours / self.hours, 1.0) * n_trials
        )
        return -math.expm1(-math.exp(min(exponent, 50.0)))
