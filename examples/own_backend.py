"""A whole backend in 60 lines: the loudest bin of each band, hashed with those of later frames.

Put it into a package whose pyproject.toml says

    [project.entry-points."afp.backends"]
    loudest = "own_backend:Backend"

install that, and `afp backends` lists it: afp index -b loudest ~/Music
"""

import math

import numpy as np

from afp.fingerprint import F32, Fingerprint, Match
from afp.index import IndexReader

N_FFT, HOP_LENGTH, STEPS = 1024, 256, (3, 7, 13, 21)
BANDS = ((20, 40), (40, 80), (80, 160), (160, 320))  # bins of 7.8 Hz


class Backend:
    """A hash wherever the loudest bin of a band changes."""

    name, version, sample_rate, hop_seconds = "loudest", 1, 8000, HOP_LENGTH / 8000
    context_seconds, window_seconds = 1.0, 20.0

    def parameters(self) -> dict[str, int | float | str | bool]:
        """Return nothing: there is nothing to choose."""
        return {}

    def extract(self, samples: F32, *, dense: bool = False) -> Fingerprint:
        """Fingerprint samples (n,); the query side is no denser than the reference."""
        padded = np.pad(samples, (0, (STEPS[-1] + 2) * HOP_LENGTH + N_FFT))
        frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(N_FFT).astype(np.float32)))
        loudest = np.stack([spectrum[:, a:b].argmax(1) * 31 // a for a, b in BANDS])
        at, band = np.nonzero((np.diff(loudest) != 0).T & (spectrum[1:, :].max(1) > 0.01)[:, None])
        at, band = at[band < 3] + 1, band[band < 3]
        at, band = (column[at < len(samples) // HOP_LENGTH] for column in (at, band))
        pairs = [loudest[band + i, at + step] << 5 * i for step in STEPS for i in (0, 1)]
        now = loudest[band, at] << 10 | loudest[band + 1, at] << 15 | band << 20
        hashes = [now | a | b | i << 22 for i, (a, b) in enumerate(zip(pairs[::2], pairs[1::2]))]
        return Fingerprint(
            n_frames=len(samples) // HOP_LENGTH,
            frames=np.repeat(at, len(STEPS)).astype(np.uint32),
            hashes=np.stack(hashes, 1).ravel().astype(np.uint32),
        )

    def match(self, query: Fingerprint, index: IndexReader, *, limit: int) -> list[Match]:
        """Count the hits of each alignment; a Poisson tail tells how surprising the most are."""
        lists, matches = index.lookup(query.hashes), []
        for hits in lists.gather(lists.counts > 0):
            starts = hits.positions.astype(np.int64) - query.frames[hits.rows]
            starts, votes = np.unique(starts, return_counts=True)
            chance = max(votes.sum() / index.n_frames / 4, 1e-9)  # hits come in fours
            for i in np.argsort(-votes, kind="stable")[:limit]:
                row = np.searchsorted(hits.axis.bases, starts[i] + query.n_frames // 2) - 1
                if row >= 0 and hits.axis.alive[row]:
                    surprise = votes[i] / 4 * math.log(max(votes[i] / 4 / chance, 1)) - votes[i] / 4
                    start, end = (starts[i] - hits.axis.bases[row]) * self.hop_seconds, 0.0
                    end = query.n_frames * self.hop_seconds
                    p_false = min(1.0, index.n_frames * math.exp(-max(surprise, 0.0)))
                    track = index.track(int(hits.axis.track_ids[row]))
                    matches.append(Match(track, 0.0, end, start, start + end, votes[i], p_false))
        return sorted(matches, key=lambda match: match.p_false)[:limit]
