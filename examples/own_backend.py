"""A whole backend: the loudest frequency of each band, hashed wherever it changes.

Installed with the entry point `loudest = "own_backend:Backend"` in the group `afp.backends`,
it is there for `afp index -b loudest ~/Music`.
"""

import numpy as np

from afp.fingerprint import F32, Fingerprint, Match
from afp.index import IndexReader

N_FFT, HOP_LENGTH, RATE, STEPS = 1024, 256, 8000, (3, 7, 13, 21)
BANDS = ((20, 40), (40, 80), (80, 160), (160, 320))  # bins of 7.8 Hz


class Backend:
    """Loudest bins of two neighbouring bands, now and some frames later."""

    name, version, sample_rate, hop_seconds = "loudest", 1, RATE, HOP_LENGTH / RATE
    context_seconds, window_seconds = 1.0, 20.0

    def parameters(self) -> dict[str, int | float | str | bool]:
        """Return nothing: there is nothing to choose."""
        return {}

    def extract(self, samples: F32, *, dense: bool = False) -> Fingerprint:
        """Fingerprint samples (n,); a query is fingerprinted like a track."""
        n_frames = len(samples) // HOP_LENGTH
        padded = np.pad(samples, (0, (STEPS[-1] + 2) * HOP_LENGTH + N_FFT))
        frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
        power = np.abs(np.fft.rfft(frames * np.hanning(N_FFT).astype(np.float32)))
        loudest = np.stack([power[:, a:b].argmax(1) * 31 // a for a, b in BANDS])
        changes = np.diff(loudest[:-1, : n_frames + 1]) * (power[1 : n_frames + 1].max(1) > 0.01)
        at, band = changes.T.nonzero()
        hashes = band << 22 | loudest[band, at] << 15 | loudest[band + 1, at] << 10
        later = [loudest[band, at + s] << 5 | loudest[band + 1, at + s] for s in STEPS]
        hashes = np.stack([hashes | pair | i << 20 for i, pair in enumerate(later)], axis=1)
        at = np.repeat(at, len(STEPS)).astype(np.uint32)
        return Fingerprint(n_frames, at, hashes.ravel().astype(np.uint32))

    def match(self, query: Fingerprint, index: IndexReader, *, limit: int) -> list[Match]:
        """Count the hits of each alignment; Chernoff's bound says how surprising the most are."""
        lists, matches = index.lookup(query.hashes), []
        for hits in lists.gather(lists.counts > 0):
            offsets = hits.positions.astype(np.int64) - query.frames[hits.rows]
            found, votes = np.unique(offsets, return_counts=True)
            mean = votes.sum() / len(STEPS) / max(index.n_frames, 1)  # hits come in bunches
            for best in np.argsort(-votes, kind="stable")[:limit]:
                row = np.searchsorted(hits.axis.bases, found[best] + query.n_frames) - 1
                k = float(votes[best] / len(STEPS))
                if row >= 0 and hits.axis.alive[row] and k > mean:
                    p_false = index.n_frames * float(np.exp(k - mean - k * np.log(k / mean)))
                    heard = query.frames[hits.rows[offsets == found[best]]]
                    span = np.array([heard.min(), heard.max() + 1]) * self.hop_seconds
                    shift = (found[best] - hits.axis.bases[row]) * self.hop_seconds
                    track = index.track(int(hits.axis.track_ids[row]))
                    matches.append(Match(track, *span, *(span + shift), k, min(p_false, 1.0)))
        return sorted(matches, key=lambda match: match.p_false)[:limit]
