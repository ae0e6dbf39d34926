"""Places of a track that sound the same, which no fingerprint of them can tell apart.

Loops and refrains that are copied repeat their waveform. A place counts as the same when the clean
audio there is that of the clip's own place, shifted by half a second at most, but for a tenth of
its power.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.fft

from afp.audio import Resampler, decode
from afp.bench.rows import PRESENT, Row
from afp.bench.scoring import NEAR
from afp.fingerprint import F32

RATE = 16_000
"""Hz; half a sample of shift costs sounds up to 1 kHz less than 1 % of their likeness."""

SAME = 0.95  # normalised cross-correlation: a tenth of the power differs


def likeness(track: F32, first: float, second: float, *, seconds: float) -> float:
    """Return how alike two places of a track are.

    Parameters
    ----------
    track : ndarray of float32, shape (n,)
        At `RATE`.
    first, second : float
        Where the places begin, in seconds; the second may lie `NEAR` seconds beside.
    seconds : float
        How long they are.

    Returns
    -------
    float
        The highest normalised cross-correlation, -1 to 1; 0 where there is nothing to compare.
    """
    begin, length, reach = round(first * RATE), round(seconds * RATE), round(NEAR * RATE)
    piece = track[max(begin, 0) : begin + length]
    low = round(second * RATE) - begin + max(begin, 0) - reach
    around = track[max(low, 0) : low + len(piece) + 2 * reach]
    if not len(piece) or len(around) < len(piece):
        return 0.0
    n = scipy.fft.next_fast_len(len(around) + len(piece), real=True)
    spectrum = scipy.fft.rfft(around, n) * np.conj(scipy.fft.rfft(piece, n))
    products = scipy.fft.irfft(spectrum, n)[: len(around) - len(piece) + 1]
    powers = np.concatenate([[0.0], np.cumsum(np.square(around, dtype=np.float64))])
    norms = powers[len(piece) :] - powers[: len(powers) - len(piece)]
    norms = np.sqrt(np.maximum(norms, 0.0) * np.sum(np.square(piece, dtype=np.float64)))
    alike = products[norms > 0] / norms[norms > 0]
    return float(min(alike.max(initial=0.0), 1.0))


def near_counts(
    rows: Iterable[Row], music: Sequence[Path]
) -> dict[tuple[str, str, float], tuple[int, int]]:
    """Count first answers, whatever their `p_false`, that name a place that sounds right.

    Parameters
    ----------
    rows : iterable of Row
    music : sequence of Path
        The files that the clips are from.

    Returns
    -------
    dict of (str, str, float) to (int, int)
        By backend, condition and seconds: how many are within `NEAR` seconds or sound the same,
        and of how many.
    """
    counts: dict[tuple[str, str, float], tuple[int, int]] = {}
    asked = [row for row in rows if row.kind == PRESENT]
    for row in sorted(asked, key=lambda row: row.source):  # so that a file is decoded once
        key = row.backend, row.condition, row.seconds
        k, n = counts.get(key, (0, 0))
        counts[key] = k + _sounds_right(row, music), n + 1
    return counts


def _sounds_right(row: Row, music: Sequence[Path]) -> bool:
    answer = row.answers[0] if row.error is None and row.answers else None
    if answer is None or row.truth is None or answer.track != row.truth.track:
        return False
    if abs(answer.start - row.truth.start) <= NEAR:
        return True
    source = Path(row.source).parts
    path = next(path for path in music if path.parts[-len(source) :] == source)
    heard = row.seconds * row.truth.speed
    alike = likeness(_decoded(path), row.truth.start, answer.start, seconds=heard)
    return alike >= SAME


@lru_cache(maxsize=1)
def _decoded(path: Path) -> F32:
    with decode(path) as decoder:
        resampler = Resampler(decoder.sample_rate, RATE)
        pieces = [resampler.process(block) for block in decoder]
    pieces.append(resampler.process(np.empty(0, np.float32), last=True))
    return np.concatenate(pieces)
