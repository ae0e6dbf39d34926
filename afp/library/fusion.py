"""Several backends of a store as one: each finds, the others verify, and their chances multiply."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from afp.audio import Resampler
from afp.backends import Parameter, Place, Verifier
from afp.fingerprint import F32, Fingerprint, Match
from afp.index import IndexReader
from afp.matching.significance import expected_by_chance, expected_of, p_of
from afp.matching.timeline import track_time

FUSED = "fused"

MOST_PLACES = 6
"""Places of each part that the others verify, at most: the fewer, the less there is for chance."""

MOST_EXPECTED = 12.0
"""Places that chance ranks as high, up to which one is verified."""

ALONE = 0.1
"""Share of the false answers allowed that is kept for what one part finds alone."""

MISLED_ALIKE = 2.0
"""How much more often than by chance parts agree on what is not there: music that shares a sample
or a sequence with the query resembles it for all."""

CONFIRMED = 0.1
"""Chance from which on a part is not believed to have recognised the query at a place."""

CERTAIN = 1e-6
"""Chance from which on a part that verifies does not tell how far a match reaches: what little it
recognises may lie anywhere on its line."""


class Fusion:
    """The parts of a store that verify one another's places.

    A part names its best places, each with the number of places that would rank as high in a query
    of nothing in the store; every other part tells the chance that a place named without it would
    look as good to it. What is fused is the product; `expected_by_chance` says how often chance
    makes one as small, and music that is alike does more often. Each part in turn names the places,
    and one that a single part has seen keeps a share of the chance that it has there alone (both by
    Bonferroni).

    Parameters
    ----------
    parts : sequence of Verifier
        Two at least, of different names.

    Attributes
    ----------
    name, version, sample_rate, window_seconds
        As those of a backend: the highest rate of the parts, and their shortest window.
    """

    name = FUSED
    version = 1

    def __init__(self, parts: Sequence[Verifier]) -> None:
        if len(parts) < 2:
            raise ValueError(f"fusion takes two parts at least, not {len(parts)}")
        self.parts = tuple(parts)
        self.sample_rate = max(part.sample_rate for part in parts)
        self.window_seconds = min(part.window_seconds for part in parts)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters of all parts, each with its part's name before it."""
        return {
            f"{part.name}.{name}": value
            for part in self.parts
            for name, value in part.parameters().items()
        }

    def match(
        self, samples: F32, indexes: Mapping[str, IndexReader], *, limit: int
    ) -> list[Match] | None:
        """Look a window up, the best match of each track, best first.

        Parameters
        ----------
        samples : ndarray of float32, shape (n,)
            At `sample_rate`.
        indexes : mapping of str to IndexReader
            The index of each part.
        limit : int
            Matches to return, at most.

        Returns
        -------
        list of Match or None
            None where no part has anything to look up. The score is minus the decimal logarithm
            of how many places chance would rank as high; `details` tells what each part thought:
            its own `p_false` where it named the place, else the chance of that place alone.
        """
        named = self.named(samples, indexes, most=max(limit, MOST_PLACES))
        if named is None:
            return None
        best: dict[int, Match] = {}
        for place in named:
            match = place.fused(len(self.parts))
            known = best.setdefault(match.track.id, match)
            if match.score > known.score:
                best[match.track.id] = match
        return sorted(best.values(), key=lambda match: -match.score)[:limit]

    def named(
        self, samples: F32, indexes: Mapping[str, IndexReader], *, most: int = MOST_PLACES
    ) -> "list[NamedPlace] | None":
        """Let each part name places in a window and the others verify them; see `match`."""
        queries = self._queries(samples)
        if not queries:
            return None
        heard = [part for part in self.parts if part.name in queries]
        every: list[NamedPlace] = []
        for proposer in heard:
            query, index = queries[proposer.name], indexes[proposer.name]
            named = [
                NamedPlace(match, proposer, expected, {})
                for match in proposer.match(query, index, limit=most)
                if (expected := expected_of(match.p_false)) <= MOST_EXPECTED
            ]
            for verifier in heard:
                if verifier is proposer:
                    continue
                first = named[:MOST_PLACES]
                known = [each for each in first if verifier.name in each.match.track.backends]
                query, index = queries[verifier.name], indexes[verifier.name]
                verdicts = verifier.verify(query, index, [_place(each.match) for each in known])
                for each, verdict in zip(known, verdicts, strict=True):
                    each.verdicts[verifier] = verdict
            every += named
        return every

    def _queries(self, samples: F32) -> dict[str, Fingerprint]:
        """Fingerprint a window with each part; leave those out that hear nothing in it."""
        at_rate = {self.sample_rate: samples}
        queries = {}
        for part in self.parts:
            if part.sample_rate not in at_rate:
                resampler = Resampler(self.sample_rate, part.sample_rate)
                at_rate[part.sample_rate] = resampler.process(samples, last=True)
            query = part.extract(at_rate[part.sample_rate], dense=True)
            if len(query):
                queries[part.name] = query
        return queries


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """A place that a part has named.

    Attributes
    ----------
    match : Match
        By that part.
    proposer : Verifier
        The part.
    expected : float
        How many places of no worth it ranks as high.
    verdicts : dict of Verifier to Match
        What the others say of the place, as far as they have the track.
    """

    match: Match
    proposer: Verifier
    expected: float
    verdicts: dict[Verifier, Match]

    def fused(self, n_parts: int) -> Match:
        """Return the match of all together, by itself one of as many as there are parts."""
        chances = [verdict.p_false for verdict in self.verdicts.values()]
        joint = expected_by_chance(self.expected, chances, most=MOST_PLACES)
        if chances:
            joint *= MISLED_ALIKE
        expected = n_parts * min(joint / (1 - ALONE), self.expected / ALONE)
        believed = {
            verifier: verdict
            for verifier, verdict in self.verdicts.items()
            if verdict.p_false <= CONFIRMED
        }
        finest = min((self.proposer, *believed), key=lambda part: part.hop_seconds)
        said = {self.proposer: self.match, **self.verdicts}
        match = said[finest]
        return replace(
            match if match.p_false <= CERTAIN else _within(match, self.match),
            score=-math.log10(max(expected, 1e-300)),
            p_false=p_of(expected),
            backend=FUSED,
            details={part.name: match.p_false for part, match in said.items()},
        )


def _within(match: Match, other: Match) -> Match:
    """Cut a match to the stretch of the query that another has, if they share any."""
    start = max(match.query_start, other.query_start)
    end = min(match.query_end, other.query_end)
    if start >= end:
        return match
    return replace(
        match,
        query_start=start,
        query_end=end,
        track_start=track_time(match, start),
        track_end=track_time(match, end),
    )


def _place(match: Match) -> Place:
    return Place(match.track.id, track_time(match, 0.0), match.speed)
