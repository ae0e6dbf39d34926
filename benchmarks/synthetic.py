"""Synthetic fingerprints that are like those of real music, as many as one wants.

What they are made from is `music.npz`, a small statistic of real music that is kept beside this:

    python benchmarks/synthetic.py    # measure it anew, two minutes, and print what it is worth

Constellations are made peak by peak, so that landmarks and what verification reads agree. A track
takes its notes from the spectral profile of half a minute of real music; a note sounds on with a
probability, which is what makes the commonest hashes; no two peaks come closer than peaks do. How
often notes sound on, and how much louder notes are preferred, is fitted so that the share of equal
bins in landmarks and the selectivity Σp² come out as measured.

Embeddings are unit vectors about the cells' centres. How full the cells are and how far from their
centres vectors lie is as measured.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import numpy.typing as npt
from corpus import corpus_of
from output import note, print_section, script

from afp.backends import neural, shazam
from afp.bench.table import Section
from afp.distort import read
from afp.features.landmarks import pair_peaks
from afp.features.peaks import Peaks
from afp.fingerprint import F32, F64, I32, U32, Evidence, Fingerprint
from afp.matching import cells

KEPT = Path(__file__).parent / "music.npz"
STRETCH_SECONDS = 30.0
MOST_PROFILES = 500
QUANTILES = np.linspace(0.0, 1.0, 41)  # of the lengths of tracks
EMBEDDED_SECONDS = 10.0  # of a track
RATE_OF_CLASHES = 1.12  # peaks that are drawn for one that is kept, about
SUSTAINED = (4, 12)  # peaks back, the note that sounds on
CLOSE_FRAMES, CLOSE_BINS = shazam.MAXIMUM_FRAMES, shazam.MAXIMUM_BINS


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What is kept of real music.

    Attributes
    ----------
    profiles : ndarray of uint8, shape (n, n_bins)
        Paired peaks of a stretch of music in each frequency bin.
    peaks_per_second, paired_per_second, landmarks_per_second : float
        Peaks that are stored for verification, those among them that are paired, and their pairs.
    selectivity : float
        Σp² over the hashes of all the music.
    equal_bins : float
        Share of the landmarks whose two peaks are in one bin.
    track_seconds : ndarray of float64, shape (41,)
        Quantiles of the lengths of tracks.
    cell_shares : ndarray of float64, shape (n_cells,)
        Share of the embeddings in each cell, the fullest first.
    cell_cosine : float
        Of an embedding and the centre of its cell, on average.
    hours : float
        Of the music.
    """

    profiles: npt.NDArray[np.uint8]
    peaks_per_second: float
    paired_per_second: float
    landmarks_per_second: float
    selectivity: float
    equal_bins: float
    track_seconds: F64
    cell_shares: F64
    cell_cosine: float
    hours: float

    @classmethod
    def read(cls, path: Path = KEPT) -> "Statistics":
        """Read the statistic that is kept."""
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in kept.files}
        values: dict[str, Any] = {name: v if v.ndim else float(v) for name, v in arrays.items()}
        return cls(**values)

    def write(self, path: Path = KEPT) -> None:
        """Keep the statistic."""
        np.savez_compressed(path, **asdict(self))

    @classmethod
    def measured(cls, paths: Sequence[Path]) -> "Statistics":
        """Measure music: landmarks of all of it, embeddings of some seconds of each track."""
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            tracks = list(pool.map(_Measured.of, paths, chunksize=4))
        seconds = sum(track.seconds for track in tracks)
        profiles = np.concatenate([track.profiles for track in tracks])
        order = np.random.default_rng(0).permutation(len(profiles))[:MOST_PROFILES]
        hashes = np.concatenate([track.hashes for track in tracks])
        backend = neural.Backend()
        embedded = np.concatenate([track.vectors for track in tracks])
        cell_of = cells.nearest(embedded, backend._centres)
        shares = np.sort(np.bincount(cell_of, minlength=len(backend._centres)))[::-1]
        return cls(
            profiles=profiles[np.sort(order)],
            peaks_per_second=sum(track.n_peaks for track in tracks) / seconds,
            paired_per_second=sum(track.n_paired for track in tracks) / seconds,
            landmarks_per_second=len(hashes) / seconds,
            selectivity=selectivity(hashes),
            equal_bins=equal_bins(hashes),
            track_seconds=np.quantile([track.seconds for track in tracks], QUANTILES),
            cell_shares=shares / shares.sum(),
            cell_cosine=float(np.mean(np.sum(embedded * _unit(backend._centres)[cell_of], axis=1))),
            hours=seconds / 3600,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """One track."""

    seconds: float
    n_peaks: int
    n_paired: int
    hashes: U32
    profiles: npt.NDArray[np.uint8]
    vectors: F32

    @classmethod
    def of(cls, path: Path) -> "_Measured":
        backend = shazam.Backend()
        samples = read(path, sample_rate=backend.sample_rate)
        maxima = shazam._maxima(shazam._spectrogram(samples, 1), 1)
        kept = shazam._strongest(maxima, backend.peak_density, 1)
        paired = shazam._strongest(maxima, backend.density / shazam.FAN_OUT, 1)
        stretch = round(STRETCH_SECONDS / backend.hop_seconds)
        profiles = [
            np.bincount(paired.bins[paired.frames // stretch == i], minlength=shazam.N_BINS)
            for i in range(int(len(samples) / backend.sample_rate / STRETCH_SECONDS))
        ]
        made = np.array(profiles, np.int64).reshape(-1, shazam.N_BINS).clip(max=255)
        return cls(
            seconds=len(samples) / backend.sample_rate,
            n_peaks=len(kept.frames),
            n_paired=len(paired.frames),
            hashes=_landmarks(paired)[1],
            profiles=made[made.sum(axis=1) > 0].astype(np.uint8),
            vectors=_embedded(samples, backend.sample_rate),
        )


def _embedded(samples: F32, sample_rate: int) -> F32:
    """Embed some seconds from the middle of a track."""
    embedder = neural.Backend()
    assert embedder.sample_rate == sample_rate
    n = round(EMBEDDED_SECONDS * sample_rate)
    start = max((len(samples) - n) // 2, 0)
    vectors = embedder.extract(samples[start : start + n]).vectors
    assert vectors is not None
    return vectors


def _landmarks(peaks: Peaks) -> tuple[U32, U32]:
    return _pairs(peaks.frames, peaks.bins)


def _pairs(frames: I32, bins: I32) -> tuple[U32, U32]:
    """Make landmarks as `shazam` does."""
    return pair_peaks(
        frames,
        bins,
        fan_out=shazam.FAN_OUT,
        target_frames=shazam.TARGET_FRAMES,
        target_bins=shazam.TARGET_BINS,
    )


def _unit(vectors: F32) -> F32:
    unit: F32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit


def selectivity(hashes: U32) -> float:
    """Return Σp²: the chance that two postings share their hash, each with any other."""
    counts = np.unique(hashes, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum() / len(hashes) / (len(hashes) - 1))


def equal_bins(hashes: U32) -> float:
    """Return the share of landmarks whose two peaks are in one bin."""
    return float(np.mean((hashes >> np.uint32(6)) & np.uint32(255) == 128))


@dataclass(frozen=True, slots=True, eq=False)
class Music:
    """Makes up constellations.

    Attributes
    ----------
    statistics : Statistics
    sustain : float
        Probability that a peak sounds on from an earlier one.
    preference : float
        Exponent of the profiles: how much louder notes are preferred.
    excess : float
        Peaks to draw for one that is to be kept.
    """

    statistics: Statistics
    sustain: float
    preference: float
    excess: float = RATE_OF_CLASHES

    @classmethod
    def fitted(cls, statistics: Statistics, *, n_tracks: int = 600, rounds: int = 5) -> "Music":
        """Choose what makes the hashes as common as they are in the statistic."""
        music = cls(statistics, sustain=0.35, preference=1.1)
        for _ in range(rounds):
            rng = np.random.default_rng(1)
            made = [music.fingerprint(rng, STRETCH_SECONDS) for _ in range(n_tracks)]
            hashes = np.concatenate([each.hashes for each in made if each.hashes is not None])
            n_peaks = sum(len(each.evidence.frames) for each in made if each.evidence is not None)
            wanted = statistics.peaks_per_second * STRETCH_SECONDS * n_tracks
            music = cls(
                statistics,
                min(
                    max(music.sustain + 2.0 * (statistics.equal_bins - equal_bins(hashes)), 0), 0.8
                ),
                music.preference * (statistics.selectivity / selectivity(hashes)) ** 0.3,
                music.excess * wanted / n_peaks,
            )
        return music

    def seconds(self, rng: np.random.Generator, mean: float | None = None) -> float:
        """Draw a length as those of the music, on average `mean` seconds."""
        quantiles = self.statistics.track_seconds
        scale = 1.0 if mean is None else mean / float(np.trapezoid(quantiles, QUANTILES))
        return scale * float(np.interp(rng.random(), QUANTILES, quantiles))

    def fingerprint(self, rng: np.random.Generator, seconds: float) -> Fingerprint:
        """Make up a track."""
        n_frames = round(seconds / shazam.Backend.hop_seconds)
        n = max(round(seconds * self.statistics.peaks_per_second * self.excess), 1)
        profiles = self.statistics.profiles
        edges = np.cumsum(profiles[rng.integers(len(profiles))] ** self.preference)
        drawn = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
        near = (np.arange(n) + rng.random(n) * SUSTAINED[0]) * (n_frames / n)
        frames = np.sort(np.minimum(near, n_frames - 1).astype(np.int32))
        back = rng.integers(*SUSTAINED, n) * (rng.random(n) < self.sustain)
        source = np.maximum(np.arange(n) - back, 0)
        for _ in range(4):  # chains of up to 16 notes
            source = source[source]
        bins = np.minimum(drawn, shazam.N_BINS - 1).astype(np.int32)[source]
        order = np.lexsort((bins, frames))
        frames, bins = frames[order], bins[order]
        kept = np.ones(n, np.bool_)
        for lag in range(1, 6):
            late = frames[lag:] - frames[:-lag] <= CLOSE_FRAMES
            kept[lag:] &= ~(late & (np.abs(bins[lag:] - bins[:-lag]) <= CLOSE_BINS))
        frames, bins = frames[kept], bins[kept]
        share = self.statistics.paired_per_second / self.statistics.peaks_per_second
        paired = rng.random(len(frames)) < share
        anchors, hashes = _pairs(frames[paired], bins[paired])
        evidence = Evidence(frames.astype(np.uint32), bins.astype(np.uint32))
        return Fingerprint(n_frames, anchors, hashes=hashes, evidence=evidence)


@dataclass(frozen=True, slots=True, eq=False)
class Sounds:
    """Makes up embeddings.

    Attributes
    ----------
    statistics : Statistics
    centres : ndarray of float32, shape (n_cells, d)
        Of the model's cells, in the order of how full they are.
    """

    statistics: Statistics
    centres: F32

    @classmethod
    def of(cls, statistics: Statistics, backend: neural.Backend) -> "Sounds":
        """Take the model's cells, which are fuller and emptier in an order of chance."""
        order = np.random.default_rng(0).permutation(len(backend._centres))
        return cls(statistics, _unit(backend._centres)[order])

    def vectors(self, rng: np.random.Generator, n: int) -> F32:
        """Make up embeddings (n, d) of length 1."""
        shares = self.statistics.cell_shares
        edges = np.cumsum(
            np.interp(np.linspace(0, 1, len(self.centres)), np.linspace(0, 1, len(shares)), shares)
        )
        cell = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
        centre = self.centres[np.minimum(cell, len(edges) - 1)]
        aside = rng.standard_normal(centre.shape).astype(np.float32)
        aside = _unit(aside - np.sum(aside * centre, axis=1, keepdims=True) * centre)
        cosine = self.statistics.cell_cosine
        return _unit(cosine * centre + (1 - cosine**2) ** 0.5 * aside)


def compared(music: Music, *, n_tracks: int, seed: int) -> Section:
    """Compare what is made up with what was measured."""
    rng = np.random.default_rng(seed)
    made = [music.fingerprint(rng, STRETCH_SECONDS) for _ in range(n_tracks)]
    hashes = np.concatenate([each.hashes for each in made if each.hashes is not None])
    n_peaks = sum(len(each.evidence.frames) for each in made if each.evidence is not None)
    known = music.statistics
    seconds = n_tracks * STRETCH_SECONDS
    rows: Iterable[tuple[str, float, float]] = (
        ("selectivity", known.selectivity, selectivity(hashes)),
        ("equal bins", known.equal_bins, equal_bins(hashes)),
        ("peaks a second", known.peaks_per_second, n_peaks / seconds),
        ("landmarks a second", known.landmarks_per_second, len(hashes) / seconds),
    )
    return Section(
        f"{n_tracks} made-up tracks of {STRETCH_SECONDS:g} s; sustain {music.sustain:.3f}, "
        f"preference {music.preference:.3f}",
        ("", "music", "made up"),
        [(name, f"{real:.3g}", f"{ours:.3g}") for name, real, ours in rows],
        ("music", "made up"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus.add_options(parser)
    parser.add_argument("--out", type=Path, default=KEPT, help="[%(default)s]")
    arguments = parser.parse_args()
    statistics = Statistics.measured(corpus_of(arguments).tracks())
    statistics.write(arguments.out)
    note(f"wrote {arguments.out}: {arguments.out.stat().st_size / 1024:.0f} KiB")
    print_section(compared(Music.fitted(statistics), n_tracks=1200, seed=2))


if __name__ == "__main__":
    script(main)
