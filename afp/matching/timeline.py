"""Matches of overlapping windows, merged to one timeline of a recording."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from afp.fingerprint import Match

TOLERANCE_SECONDS = 0.15
BEYOND_DOUBT = 1e-12  # p_false below which a longer stretch says more than a smaller p_false


def shifted(match: Match, seconds: float) -> Match:
    """Move the query side of a match, from its window's start to the recording's."""
    return replace(
        match,
        query_start=match.query_start + seconds,
        query_end=match.query_end + seconds,
    )


def corrected(match: Match, n_windows: int) -> Match:
    """Raise ``p_false`` for ``n_windows`` chances to be wrong (Bonferroni)."""
    return replace(match, p_false=min(1.0, match.p_false * n_windows))


def merge(
    matches: Iterable[Match],
    *,
    gap_seconds: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> list[Match]:
    """Join the matches that continue one another into stretches.

    Two matches of a track continue one another when less than ``gap_seconds`` of the query
    lies between them and both put it at the same place of the track: their lines ``track time =
    track_start + speed · (query time − query_start)`` agree in the middle of where they meet.

    A stretch takes its four times from its outermost matches, its speed from these times, and
    everything else from its strongest match: the smallest ``p_false`` and the largest score are
    those of a single window. Neither is multiplied or added up: windows overlap and so are
    not independent.

    Parameters
    ----------
    matches : iterable of Match
        Of all windows, query times counted from the start of the recording.
    gap_seconds : float
        Longest stretch of the query without a match inside a stretch.
    tolerance_seconds : float
        Largest difference between the track times of two matches that agree.

    Returns
    -------
    list of Match
        In order of track and query time.
    """
    by_track = sorted(matches, key=lambda match: (match.track.id, match.query_start))
    stretches: list[Match] = []
    for _, of_track in groupby(by_track, key=lambda match: match.track.id):
        open_stretches: list[list[Match]] = []
        for match in of_track:
            for stretch in open_stretches:
                if _continues(stretch[-1], match, gap_seconds, tolerance_seconds):
                    stretch.append(match)
                    break
            else:
                open_stretches.append([match])
        stretches.extend(_joined(stretch) for stretch in open_stretches)
    return stretches


def claim(matches: Iterable[Match], *, limit: int = 1) -> list[Match]:
    """Keep the strongest claims to each stretch of a recording.

    From the strongest on (the longer first of those that are beyond doubt), a match is kept
    unless more than half of it is covered by ``limit`` stronger ones, or by a stronger one of
    the same track: music that repeats itself fits its own track at many places.

    Parameters
    ----------
    matches : iterable of Match
        As `merge` returns them.
    limit : int
        How many tracks may claim the same stretch: 1 for one answer at a time, more for
        mash-ups and for several editions of one recording.

    Returns
    -------
    list of Match
        In order of query time, the stronger first where two start together.
    """
    kept: list[Match] = []
    for match in sorted(matches, key=_claim_strength):
        rivals = [other for other in kept if _shared(match, other) > 0.5 * _length(match)]
        same_track = any(other.track.id == match.track.id for other in rivals)
        if len(rivals) < limit and not same_track:
            kept.append(match)
    return sorted(kept, key=attrgetter("query_start"))


def best_of_each_track(matches: Iterable[Match]) -> list[Match]:
    """Keep the strongest match of each track, the strongest track first."""
    best: dict[int, Match] = {}
    for match in sorted(matches, key=strength):
        best.setdefault(match.track.id, match)
    return list(best.values())


def strength(match: Match) -> tuple[float, float, float]:
    """Sort key that puts the strongest match first: small ``p_false``, then large score."""
    return match.p_false, -match.score, match.query_start


def _claim_strength(match: Match) -> tuple[float, float, tuple[float, float, float]]:
    doubt = max(match.p_false, BEYOND_DOUBT)
    return doubt, -_length(match) if doubt == BEYOND_DOUBT else 0.0, strength(match)


def _continues(earlier: Match, later: Match, gap_seconds: float, tolerance_seconds: float) -> bool:
    if later.query_start - earlier.query_end > gap_seconds:
        return False
    meeting = 0.5 * (later.query_start + min(earlier.query_end, later.query_end))
    return abs(track_time(earlier, meeting) - track_time(later, meeting)) <= tolerance_seconds


def track_time(match: Match, query_time: float) -> float:
    """Return the time in the track, in seconds, that a match puts beside one of the query."""
    return match.track_start + match.speed * (query_time - match.query_start)


def _joined(stretch: Sequence[Match]) -> Match:
    if len(stretch) == 1:
        return stretch[0]
    first = min(stretch, key=attrgetter("query_start"))
    last = max(stretch, key=attrgetter("query_end"))
    seconds = last.query_end - first.query_start
    return replace(
        min(stretch, key=strength),
        query_start=first.query_start,
        query_end=last.query_end,
        track_start=first.track_start,
        track_end=last.track_end,
        score=max(match.score for match in stretch),
        speed=(last.track_end - first.track_start) / seconds if seconds > 0 else first.speed,
    )


def _length(match: Match) -> float:
    return match.query_end - match.query_start


def _shared(one: Match, other: Match) -> float:
    return min(one.query_end, other.query_end) - max(one.query_start, other.query_start)
