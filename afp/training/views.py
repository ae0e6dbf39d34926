"""Anchors and replicas: a place in a track as it is, and as a microphone far away hears it.

Some places have another track mixed in, in both views: there is more music than the folder holds.

Every draw comes from a generator seeded by (seed, step, group), so that a run that is resumed sees
what it would have seen. Pairs are made in groups that share their speed factors, since the Fourier
transforms of a group then run as one. A change of speed is free: a piece of n · f samples is
transformed, and its spectrum, cut or padded, back to n samples.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft

from afp.errors import UsageError
from afp.features.log_mel import (
    N_BANDS,
    N_FRAMES,
    SEGMENT_SAMPLES,
    mel_powers,
    normalised,
)
from afp.fingerprint import F32, F64, I64
from afp.training.channel import C64, Bank, N
from afp.training.config import Config
from afp.training.pcm import Pcm

GROUP = 16
"""Pairs that share their speed factors."""

N_NEAR = N // 3
"""Transform of what needs no past: the anchor, and noise; it has every third bin of `N`."""

_GUARD = 200  # samples behind a segment, for what a transform wraps around
_QUIET = 1e-4  # RMS, relative to the track's peak, below which a place counts as silent
_MOST_DRAWS = 8  # before a silent place is taken


class Batch(NamedTuple):
    """Pairs of one step.

    Attributes
    ----------
    anchors, replicas : ndarray of float16, shape (pairs, N_FRAMES, N_BANDS)
        Normalised as for the model; row i of both is one place. Eleven bits are far more than
        noise leaves.
    tracks : ndarray of int64, shape (pairs, 2)
        Which track each row is of, and which one is mixed in, −1 for none.
    """

    anchors: npt.NDArray[np.float16]
    replicas: npt.NDArray[np.float16]
    tracks: I64


class Mixture(NamedTuple):
    """What sounds in segments: a place of a track, and one of another track mixed with it.

    Attributes
    ----------
    tracks, centres : ndarray of int64, shape (n_rows,)
        Tracks, and the middle of each segment in samples of it.
    others, other_centres : ndarray of int64, shape (n_rows,)
        The same of the tracks that are mixed in.
    gains : ndarray of float32, shape (n_rows,)
        Of these; 0 where there is none.
    """

    tracks: I64
    centres: I64
    others: I64
    other_centres: I64
    gains: F32

    def shifted(self, n_samples: I64) -> "Mixture":
        """Return what sounds so many samples (n_rows,) later."""
        return self._replace(
            centres=self.centres + n_samples, other_centres=self.other_centres + n_samples
        )


@dataclass(frozen=True, slots=True)
class Views:
    """Makes batches of pairs.

    Attributes
    ----------
    config : Config
    music : Pcm
        Tracks.
    noise : Pcm or None
        Recordings of noise.
    rooms, devices : Bank
    """

    config: Config
    music: Pcm
    noise: Pcm | None
    rooms: Bank
    devices: Bank

    def __post_init__(self) -> None:
        config = self.config
        if len(self.music) * config.per_track < config.pairs:
            raise UsageError(
                f"tracks that can be used: {len(self.music)}, too few for batches of "
                f"{config.pairs} pairs, {config.per_track} of each track",
                hint=f"set pairs={len(self.music) * config.per_track}, or give more music",
            )

    def batch(self, step: int) -> Batch:
        """Make the batch of a step."""
        config = self.config
        rng = np.random.default_rng((config.seed, step))
        # Sampling without replacement with chances by the root of a track's length.
        keys = rng.exponential(size=len(self.music)) / np.sqrt(self.music.lengths)
        tracks = np.argsort(keys)[: -(-config.pairs // config.per_track)]
        tracks = np.repeat(tracks, config.per_track)[: config.pairs]
        rng.shuffle(tracks)
        anchors, replicas = np.empty((2, config.pairs, N_FRAMES, N_BANDS), np.float16)
        sounding = np.empty((config.pairs, 2), np.int64)
        for group, first in enumerate(range(0, config.pairs, GROUP)):
            rows = slice(first, first + GROUP)
            draws = np.random.default_rng((config.seed, step, group))
            others = np.roll(tracks, 1)[rows]  # with the next group's: no track is mixed twice
            anchors[rows], replicas[rows], sounding[rows] = self.group(tracks[rows], others, draws)
        return Batch(anchors, replicas, sounding)

    def group(self, tracks: I64, others: I64, rng: np.random.Generator) -> tuple[F32, F32, I64]:
        """Make the pairs of some tracks with common speed factors.

        Parameters
        ----------
        tracks, others : ndarray of int64, shape (n_rows,)
            The tracks, and what may be mixed with them.
        rng : numpy.random.Generator

        Returns
        -------
        anchors, replicas : ndarray of float32, shape (n_rows, N_FRAMES, N_BANDS)
        sounding : ndarray of int64, shape (n_rows, 2)
            See `Batch.tracks`.
        """
        config = self.config
        key = 1.0
        if rng.random() < config.key_share:
            key = config.key_factor ** rng.uniform(-1, 1)
        speed = 1.0
        if rng.random() < config.speed_share:
            speed += rng.uniform(-1, 1) * config.speed_percent / 100
        n_near, n_far = _length(N_NEAR * key), _length(N * key * speed)
        mixture = self._mixture(tracks, others, n_near, rng)
        anchors = self.pieces(mixture, n_near, N_NEAR)
        reach = config.offset_seconds * 8000 * n_near / N_NEAR
        offsets = np.rint(rng.uniform(-reach, reach, len(tracks))).astype(np.int64)
        heard = self.heard(mixture.shifted(offsets), n_far, rng)
        replica_powers = mel_powers(heard)
        _lose_weak(replica_powers, config, rng)
        replicas = normalised(replica_powers)
        _cut_out(replicas, config, rng)
        second = np.where(mixture.gains > 0, mixture.others, -1)
        return normalised(mel_powers(anchors)), replicas, np.stack([tracks, second], axis=1)

    def pieces(self, mixture: Mixture, n_source: int, n: int) -> F32:
        """Cut segments out of tracks, played faster by ``n_source / n``.

        Parameters
        ----------
        mixture : Mixture
        n_source, n : int
            Samples transformed, and samples made of them.

        Returns
        -------
        ndarray of float32, shape (n_rows, SEGMENT_SAMPLES)
        """
        source = self._source(mixture, n_source, n)
        if n_source != n:
            source = scipy.fft.irfft(_bins(scipy.fft.rfft(source), n), n, overwrite_x=True)
        return source[:, -_GUARD - SEGMENT_SAMPLES : -_GUARD]

    def heard(self, mixture: Mixture, n_source: int, rng: np.random.Generator) -> F32:
        """Cut segments as `pieces` does and send them through loudspeaker, room, noise, device.

        The room has 2 s of the track's past to reverberate. The loudspeaker colours the music
        alone, the device at the other end the noise as well.
        """
        config, n_rows = self.config, len(mixture.tracks)
        played = rng.random(n_rows) < config.loudspeaker_share
        loudspeakers = rng.integers(self.devices.n_made, size=n_rows).tolist()
        in_room = rng.random(n_rows) < config.room_share
        through = rng.random(n_rows) < config.device_share
        noisy = rng.random(n_rows) < config.noise_share
        rooms = [self._room(rng) for _ in range(n_rows)]
        devices = rng.integers(self.devices.n_made, size=n_rows).tolist()
        spectra = _bins(scipy.fft.rfft(self._source(mixture, n_source, N)), N)
        for row in range(n_rows):
            if played[row]:
                spectra[row] *= self.devices[loudspeakers[row]]
            if in_room[row]:
                spectra[row] *= self.rooms[rooms[row]]
            if through[row]:
                spectra[row] *= self.devices[devices[row]]
        segments: F32 = scipy.fft.irfft(spectra, N, overwrite_x=True)
        segments = np.ascontiguousarray(segments[:, -_GUARD - SEGMENT_SAMPLES : -_GUARD])
        noise = self._noise(n_rows, rng)
        for row in np.flatnonzero(through).tolist():
            noise[row] *= self.devices[devices[row]][::3]
        noises: F32 = scipy.fft.irfft(noise, N_NEAR, overwrite_x=True)[:, :SEGMENT_SAMPLES]
        hard = rng.random(n_rows) < config.hard_share
        snr_db = np.where(
            hard,
            rng.uniform(*config.hard_snr_db, n_rows),
            rng.uniform(*config.snr_db, n_rows),
        )
        ratio = _mean_square(segments) / np.maximum(_mean_square(noises), 1e-20)
        gains = np.sqrt(ratio) * 10 ** (-snr_db / 20) * noisy
        segments += noises * gains[:, None].astype(np.float32)
        for row in np.flatnonzero(rng.random(n_rows) < config.clip_share).tolist():
            limit = np.abs(segments[row]).max() * 10 ** (-rng.uniform(*config.clip_db) / 20)
            np.clip(segments[row], -limit, limit, out=segments[row])
        return segments

    def _mixture(self, tracks: I64, others: I64, n_near: int, rng: np.random.Generator) -> Mixture:
        """Draw places of tracks, and of what is mixed with some of them."""
        config, n_rows = self.config, len(tracks)
        gains = 10 ** (rng.uniform(*config.mix_db, n_rows) / 20)
        gains *= (rng.random(n_rows) < config.mix_share) & (others != tracks)
        centres = np.array([self._place(track, n_near, rng) for track in tracks.tolist()])
        other_centres = np.zeros(n_rows, np.int64)
        for row in np.flatnonzero(gains).tolist():
            other_centres[row] = self._place(int(others[row]), n_near, rng)
        return Mixture(tracks, centres, others, other_centres, gains.astype(np.float32))

    def _source(self, mixture: Mixture, n_source: int, n: int) -> F32:
        """Cut what becomes n samples, the centre in the middle of the segment at their end."""
        middle = (n - _GUARD - SEGMENT_SAMPLES / 2) * n_source / n
        source = np.empty((len(mixture.tracks), n_source), np.float32)
        mixed = np.empty(n_source, np.float32)
        for row in range(len(source)):
            start = round(mixture.centres[row] - middle)
            self.music.cut(int(mixture.tracks[row]), start, source[row])
            if mixture.gains[row]:
                start = round(mixture.other_centres[row] - middle)
                self.music.cut(int(mixture.others[row]), start, mixed)
                source[row] += mixture.gains[row] * mixed
        return source

    def _place(self, track: int, n_near: int, rng: np.random.Generator) -> int:
        """Draw the centre of a segment that is not silent."""
        samples = self.music[track]
        half = n_near // 2
        if len(samples) <= 2 * half:
            return len(samples) // 2
        for _ in range(_MOST_DRAWS):
            centre = int(rng.integers(half, len(samples) - half))
            piece = samples[centre - half : centre + half : 8].astype(np.float32)
            if np.dot(piece, piece) > len(piece) * (_QUIET * 32767) ** 2:
                break
        return centre

    def _room(self, rng: np.random.Generator) -> int:
        recorded = rng.random() < self.config.recorded_room_share
        if self.rooms.n_recorded and recorded:
            return int(rng.integers(self.rooms.n_recorded))
        return self.rooms.n_recorded + int(rng.integers(self.rooms.n_made))

    def _noise(self, n_rows: int, rng: np.random.Generator) -> C64:
        """Draw spectra of noise: recorded, played at another speed, or made up."""
        config = self.config
        n_bins = N_NEAR // 2 + 1
        if self.noise is None:
            return _made_noise(n_rows, n_bins, rng)
        n_source = _length(N_NEAR * 1.25 ** rng.uniform(-1, 1))
        pieces = np.empty((n_rows, n_source), np.float32)
        self._recorded(pieces, rng)
        if np.any(second := rng.random(n_rows) < config.second_noise_share):
            others = np.empty((int(second.sum()), n_source), np.float32)
            self._recorded(others, rng)
            powers = _mean_square(pieces[second]) / np.maximum(_mean_square(others), 1e-20)
            gains = np.sqrt(powers) * 10 ** (rng.uniform(-10, 10, len(others)) / 20)
            pieces[second] += others * gains[:, None].astype(np.float32)
        spectra = _bins(scipy.fft.rfft(pieces), N_NEAR)
        made = np.flatnonzero(rng.random(n_rows) < config.made_noise_share)
        spectra[made] = _made_noise(len(made), n_bins, rng)
        return spectra

    def _recorded(self, pieces: F32, rng: np.random.Generator) -> None:
        """Fill rows with pieces of noise; a recording that is shorter is repeated."""
        assert self.noise is not None
        chances = np.sqrt(self.noise.lengths)
        chances /= chances.sum()
        n = pieces.shape[1]
        for row, i in enumerate(rng.choice(len(self.noise), len(pieces), p=chances).tolist()):
            recording = self.noise[i]
            if len(recording) >= n:
                self.noise.cut(i, int(rng.integers(len(recording) - n + 1)), pieces[row])
            else:
                shift = int(rng.integers(len(recording)))
                pieces[row] = np.resize(np.roll(recording, shift), n)


def _made_noise(n_rows: int, n_bins: int, rng: np.random.Generator) -> C64:
    """Draw spectra of noise, white to brown and all between, of each row another."""
    shape = (n_rows, n_bins)
    spectra = rng.standard_normal(shape, np.float32) + 1j * rng.standard_normal(shape, np.float32)
    slopes = rng.uniform(0, 1, (n_rows, 1)).astype(np.float32)
    spectra *= np.maximum(np.arange(n_bins, dtype=np.float32), 1) ** -slopes
    return spectra.astype(np.complex64)


def _lose_weak(powers: F32, config: Config, rng: np.random.Generator) -> None:
    """Take away what is far below the loudest band of a frame, as a codec short of bits does."""
    rows = np.flatnonzero(rng.random(len(powers)) < config.codec_share)
    below_db = rng.uniform(*config.codec_db, (len(rows), 1, 1))
    chosen = powers[rows]
    chosen[chosen < chosen.max(axis=2, keepdims=True) * 10 ** (-below_db / 10)] = 0
    powers[rows] = chosen


def _cut_out(segments: F32, config: Config, rng: np.random.Generator) -> None:
    """Blank a stripe of bands, of frames, or of both (Park et al. 2019, "SpecAugment")."""
    n_rows, n_frames, n_bands = segments.shape
    for row in range(n_rows):
        for axis, n, most in ((0, n_frames, config.cut_frames), (1, n_bands, config.cut_bands)):
            if rng.random() < config.cut_share:
                width = int(rng.integers(1, max(int(most * n), 1), endpoint=True))
                first = int(rng.integers(n - width + 1))
                stripe = (slice(None),) * axis + (slice(first, first + width),)
                segments[row][stripe] = 0


def _bins(spectra: C64, n: int) -> C64:
    """Cut or pad spectra to those of n samples."""
    n_bins = n // 2 + 1
    if spectra.shape[1] >= n_bins:
        return spectra[:, :n_bins]
    return np.pad(spectra, ((0, 0), (0, n_bins - spectra.shape[1])))


def _mean_square(segments: F32) -> F64:
    powers: F64 = np.einsum("ij,ij->i", segments, segments).astype(np.float64)
    powers /= segments.shape[1]
    return powers


def _length(wanted: float) -> int:
    """Return the length of a fast Fourier transform that is nearest to the one wanted."""
    lengths = _fast_lengths()
    place = int(np.searchsorted(lengths, wanted))
    below, above = lengths[place - 1], lengths[place]
    return int(below if wanted - below < above - wanted else above)


@cache
def _fast_lengths() -> I64:
    """Even products of 2, 3, 5 and 7, up to three times `N`."""
    lengths = np.array([2], np.int64)
    for factor in (2, 3, 5, 7):
        powers = factor ** np.arange(int(np.log(3 * N) / np.log(factor)) + 1)
        lengths = np.multiply.outer(lengths, powers).ravel()
        lengths = lengths[lengths <= 3 * N]
    return np.unique(lengths)
