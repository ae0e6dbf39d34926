"""Significance: how improbable a score is for a query of nothing in the store."""

import math
from collections.abc import Sequence
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
        return p_of(math.exp(min(exponent, 50.0)))


def p_of(expected: float) -> float:
    """Return the probability of one event at least, of which so many are expected (Poisson)."""
    return -math.expm1(-expected)


def expected_of(p: float) -> float:
    """Return how many events are expected where one at least has this probability."""
    return math.inf if p >= 1.0 else -math.log1p(-p)


def expected_by_chance(expected: float, chances: Sequence[float], *, most: float) -> float:
    """Return how many places chance would rank as high as one that several judges agree on.

    One judge names its best places, for which ``expected`` counts how many of no worth rank as
    high; of these it names ``most`` in all on average, at most. Each other judge gives any of them
    a uniform chance. Then the number whose product of all is at most t is largest where they come
    at a uniform rate up to ``most``: t · Σ ln(most / t)^k / k!, k from 0 to the number of other
    judges, as of a product of uniform variables.

    Parameters
    ----------
    expected : float
        Of the place.
    chances : sequence of float
        What each of the others says: the probability that a place of no worth looks as good.
    most : float
        Places of no worth that are named for a query, on average.

    Returns
    -------
    float
        Places of no worth whose product is as small.
    """
    product = expected * math.prod(chances)
    if product <= 0.0:
        return 0.0
    logarithm = math.log(max(most / product, 1.0))
    return product * sum(logarithm**k / math.factorial(k) for k in range(len(chances) + 1))
