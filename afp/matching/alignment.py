"""Verification: a stored constellation laid onto a query's peaks at an offset."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afp.compiled import kernel
from afp.fingerprint import F32, F64, I32, I64, Evidence

TIME_TOLERANCE = 2  # fine steps: half a frame of the reference
FREQUENCY_TOLERANCE = 1  # bins
MOST_OF_FRAME = 3.0  # standard deviations that the coincidences of one frame may contribute
DISPERSION_GAP = 16  # fine frames around a match whose scores still belong to it
DISPERSION_REACH = 1200  # fine frames: 9.6 s
DISPERSION_STEP = 7
MIN_COMPARABLE = 30  # offsets
TYPICAL_DISPERSION = 1.3
MIN_ALIGNED = 8  # peaks that a line is fitted through
LINEAR_TOLERANCE = 0.01  # tape and turntable change time and frequency alike
SNAP_FRAMES = 24


@dataclass(frozen=True, slots=True, eq=False)
class PeakMap:
    """A query's peaks, spread by the tolerance within which a reference's peak may fall on them.

    Attributes
    ----------
    weights : ndarray of float32, shape (n_fine_frames, n_bins)
        What a coincidence at each cell is worth: the root of the peak's salience, else 0.
    peak_at : ndarray of int32, shape (n_fine_frames, n_bins)
        Index of the peak that covers a cell, -1 for none.
    mean, variance : ndarray of float32, shape (n_bins,)
        Of the weights in each bin: what chance would give.
    first_bin : int
        The spectrum's bin that column 0 stands for.
    fineness : int
        Fine frames in a frame of the reference.
    """

    weights: F32
    peak_at: I32
    mean: F32
    variance: F32
    first_bin: int
    fineness: int


def spread_peaks(
    times: I32,
    bins: I32,
    weights: F32,
    *,
    n_frames: int,
    n_bins: int,
    first_bin: int,
    fineness: int,
) -> PeakMap:
    """Build the map of a query's peaks; the heavier of two that cover a cell counts.

    Parameters
    ----------
    times, bins : ndarray of int32, shape (n,)
        Of the peaks, in fine frames and bins.
    weights : ndarray of float32, shape (n,)
        Positive.
    n_frames, n_bins : int
        Extent of the map, in fine frames and bins.
    first_bin, fineness : int
        See `PeakMap`.
    """
    cells = np.zeros((n_frames, n_bins), np.float32)
    peak_at = np.full((n_frames, n_bins), -1, np.int32)
    moments = np.zeros((2, n_bins), np.float64)
    _spread(times, bins, weights, TIME_TOLERANCE, FREQUENCY_TOLERANCE, cells, peak_at, moments)
    mean = moments[0] / max(n_frames, 1)
    variance = np.maximum(moments[1] / max(n_frames, 1) - mean**2, 0.0) + 1e-3
    return PeakMap(
        weights=cells,
        peak_at=peak_at,
        mean=mean.astype(np.float32),
        variance=variance.astype(np.float32),
        first_bin=first_bin,
        fineness=fineness,
    )


@kernel(
    "void(int32[::1], int32[::1], float32[::1], int64, int64, float32[:, ::1], int32[:, ::1], "
    "float64[:, ::1])"
)
def _spread(times, bins, weights, time_tolerance, frequency_tolerance, cells, peak_at, moments):  # type: ignore[no-untyped-def]
    n_frames, n_bins = cells.shape
    for i in range(len(times)):
        w = weights[i]
        for t in range(
            max(times[i] - time_tolerance, 0), min(times[i] + time_tolerance + 1, n_frames)
        ):
            for f in range(
                max(bins[i] - frequency_tolerance, 0),
                min(bins[i] + frequency_tolerance + 1, n_bins),
            ):
                old = cells[t, f]
                if w > old:
                    cells[t, f] = w
                    peak_at[t, f] = i
                    moments[0, f] += w - old
                    moments[1, f] += w * w - old * old


def score_offsets(
    peaks: PeakMap, evidence: Evidence, offsets: F64, *, speed: float
) -> tuple[F64, F64]:
    """Score a track's constellation at several offsets.

    The score is the signed root of a Poisson deviance: coincidences are rare, so their sum is
    skewed, and a plain standard score would overrate a few of them. It is around zero at a
    wrong offset and grows with the root of the number of peaks at the right one. Peaks of one
    frame are not independent, since any onset falls on any other: the weight of a frame is
    bounded, so that a high score takes many moments that agree.

    Parameters
    ----------
    peaks : PeakMap
        Of the query.
    evidence : Evidence
        Frames and bins (above ``first_bin``) of the track's peaks.
    offsets : ndarray of float64, shape (n,)
        Track time minus ``speed`` times query time, in fine frames.
    speed : float
        Time factor; 1.02 when the query plays 2 % faster than the track.

    Returns
    -------
    scores, n_peaks : ndarray of float64, shape (n,)
        Score at each offset, and the number of the track's peaks that fall into the query.
    """
    scores = np.empty((2, len(offsets)), np.float64)
    first, last = reach(peaks, evidence, float(offsets.min()), float(offsets.max()), speed)
    _score_offsets(
        evidence.frames[first:last],
        evidence.values[first:last],
        peaks.weights,
        peaks.mean,
        peaks.variance,
        peaks.first_bin,
        peaks.fineness,
        MOST_OF_FRAME,
        offsets,
        speed,
        scores,
    )
    return scores[0], scores[1]


def reach(
    peaks: PeakMap, evidence: Evidence, lowest: float, highest: float, speed: float
) -> tuple[int, int]:
    """Return the range of the track's peaks that may fall into the query at these offsets."""
    start = lowest / peaks.fineness - 1
    stop = (highest + speed * len(peaks.weights)) / peaks.fineness + 1
    first, last = np.searchsorted(evidence.frames, (max(start, 0), max(stop, 0)))
    return int(first), int(last)


@kernel(
    "void(uint32[::1], uint32[::1], float32[:, ::1], float32[::1], float32[::1], int64, int64, "
    "float64, float64[::1], float64, float64[:, ::1])"
)
def _score_offsets(  # type: ignore[no-untyped-def]
    frames,
    bins,
    weights,
    mean,
    variance,
    first_bin,
    fineness,
    most_of_frame,
    offsets,
    speed,
    scores,
):
    n_frames, n_bins = weights.shape
    for k in range(len(offsets)):
        expected = 1e-9
        variance_sum = 1.0
        excess = 0.0
        frame_excess = 0.0
        frame_variance = 0.0
        count = 0
        for i in range(len(frames)):
            t = np.int64(np.floor((fineness * np.int64(frames[i]) - offsets[k]) / speed + 0.5))
            f = np.int64(np.floor((bins[i] + first_bin) * speed + 0.5)) - first_bin
            if t >= 0 and t < n_frames and f >= 0 and f < n_bins:
                expected += mean[f]
                frame_excess += weights[t, f] - mean[f]
                frame_variance += variance[f]
                count += 1
            if i + 1 == len(frames) or frames[i + 1] != frames[i]:
                excess += min(frame_excess, most_of_frame * np.sqrt(frame_variance))
                variance_sum += frame_variance
                frame_excess = 0.0
                frame_variance = 0.0
        seen = max(expected + excess, 1e-9)
        deviance = 2.0 * (seen * np.log(seen / expected) - (seen - expected))
        root = np.sqrt(max(deviance, 0.0) * expected / variance_sum)
        scores[0, k] = root if excess > 0 else -root
        scores[1, k] = count


def dispersion(peaks: PeakMap, evidence: Evidence, offset: float, *, speed: float) -> float:
    """Measure how widely the scores of one query and one track scatter where they do not match.

    Music that shares tempo and key agrees more often than independent peaks would, and so scatters
    more widely than the standard normal variable of `score_offsets`.

    Parameters
    ----------
    peaks, evidence, speed
        As for `score_offsets`.
    offset : float
        Of the match, in fine frames; the offsets up to a few seconds around it are looked at.

    Returns
    -------
    float
        Standard deviation of the scores, at least 1; a typical one where the track leaves too
        few offsets to measure it.
    """
    around = np.arange(DISPERSION_GAP, DISPERSION_REACH, DISPERSION_STEP, dtype=np.float64)
    offsets = offset + np.concatenate([[0.0], around, -around])
    scores, n_peaks = score_offsets(peaks, evidence, offsets, speed=speed)
    comparable = scores[1:][n_peaks[1:] >= 0.5 * n_peaks[0]]
    if len(comparable) < MIN_COMPARABLE:
        return TYPICAL_DISPERSION
    return max(float(comparable.std()), 1.0)


@dataclass(frozen=True, slots=True)
class Fit:
    """A query laid onto a track as exactly as their peaks allow.

    Attributes
    ----------
    offset : float
        Track time minus `speed` times query time, in fine frames.
    speed : float
        Time factor, from the times of the aligned peaks and their frequencies.
    pitch : float
        Frequency factor.
    query_start, query_end : float
        The stretch of the query on which the two agree, in fine frames.
    n_aligned : int
        The track's peaks that fall onto a peak of the query.
    """

    offset: float
    speed: float
    pitch: float
    query_start: float
    query_end: float
    n_aligned: int


def fit(
    peaks: PeakMap,
    evidence: Evidence,
    times: I32,
    frequencies: F32,
    *,
    n_track_frames: int,
    offset: float,
    speed: float,
) -> Fit:
    """Fit a line through the aligned peaks and find the stretch on which they agree.

    Parameters
    ----------
    peaks : PeakMap
        Of the query.
    evidence : Evidence
        Of the track.
    times : ndarray of int32, shape (n,)
        Of the query's peaks, in fine frames.
    frequencies : ndarray of float32, shape (n,)
        Interpolated, in bins above ``first_bin``.
    n_track_frames : int
        Length of the track, in frames.
    offset, speed : float
        Where `score_offsets` is highest.
    """
    first, last = reach(peaks, evidence, offset, offset, speed)
    track_times = peaks.fineness * evidence.frames[first:last].astype(np.float64)
    bins = evidence.values[first:last].astype(np.float64) + peaks.first_bin
    n_frames, n_bins = peaks.weights.shape
    t = np.floor((track_times - offset) / speed + 0.5).astype(np.int64)
    f = np.floor(bins * speed + 0.5).astype(np.int64) - peaks.first_bin
    inside = (t >= 0) & (t < n_frames) & (f >= 0) & (f < n_bins)
    partner = peaks.peak_at[t[inside], f[inside]]
    aligned = partner >= 0
    query_times = times[partner[aligned]].astype(np.float64)
    track_times = track_times[inside][aligned]
    ratios = (frequencies[partner[aligned]] + peaks.first_bin) / bins[inside][aligned]
    pitch = speed
    if len(ratios) >= MIN_ALIGNED:
        pitch, pitch_error = _centre(ratios)
        slope, slope_error = _slope(query_times, track_times)
        if abs(slope - pitch) < LINEAR_TOLERANCE:
            weight = pitch_error**2 / (pitch_error**2 + slope_error**2)
            speed = weight * slope + (1 - weight) * pitch
        elif abs(slope - speed) < LINEAR_TOLERANCE:  # else too short a stretch to tell
            speed = slope
        offset = float(np.mean(track_times - speed * query_times))
    start, stop = _agreement(t[inside], aligned, float(np.mean(peaks.peak_at >= 0)))
    # A stretch that ends next to where the query or the track does ends there.
    lowest = max(0.0, -offset / speed)
    highest = min(float(n_frames), (n_track_frames * peaks.fineness - offset) / speed)
    snap = SNAP_FRAMES * peaks.fineness
    return Fit(
        offset=offset,
        speed=speed,
        pitch=pitch,
        query_start=lowest if start < lowest + snap else start,
        query_end=highest if stop > highest - snap else stop,
        n_aligned=len(ratios),
    )


def _centre(values: F64) -> tuple[float, float]:
    """Return the median and its standard error."""
    centre = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - centre)))
    return centre, 1.2533 * max(deviation, 1e-4) / len(values) ** 0.5


def _slope(x: F64, y: F64) -> tuple[float, float]:
    """Return the slope of y over x by least squares, and its standard error."""
    dx, dy = x - x.mean(), y - y.mean()
    extent = float(dx @ dx) + 1e-9
    slope = float(dx @ dy) / extent
    residuals = dy - slope * dx
    return slope, (max(float(residuals @ residuals) / len(x), 0.1) / extent) ** 0.5


def _agreement(times: I64, aligned: npt.NDArray[np.bool_], chance: float) -> tuple[float, float]:
    """Return the stretch of time with the largest log-likelihood ratio of match to chance."""
    if not len(times):
        return 0.0, 0.0
    chance = min(max(chance, 1e-3), 0.8)
    rate = min(max(float(aligned.mean()), chance + 0.1), 0.95)
    gain = np.where(aligned, np.log(rate / chance), np.log((1 - rate) / (1 - chance)))
    # Largest difference of two points of the running sum (Kadane's maximum subarray).
    total = np.concatenate([[0.0], np.cumsum(gain)])
    rise = total - np.minimum.accumulate(total)
    last = int(np.argmax(rise))
    first = int(np.argmin(total[: last + 1]))
    return float(times[first]), float(times[max(last - 1, first)])
