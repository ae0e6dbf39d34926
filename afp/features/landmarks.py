"""Landmarks: pairs of peaks, an anchor and a target, hashed to one integer (Wang 2003).

A hash holds the anchor's bin (9 bits), the step to the target's bin (8 bits) and the frames
between the two (6 bits).
"""

import numpy as np

from afp.compiled import kernel
from afp.fingerprint import F32, I32, I64, U32

MAX_BINS = 1 << 9
MAX_STEP_BINS = (1 << 7) - 1
MAX_GAP_FRAMES = (1 << 6) - 1


def pair_peaks(
    frames: I32, bins: I32, *, fan_out: int, target_frames: int, target_bins: int
) -> tuple[U32, U32]:
    """Pair each peak with the next ones in its target zone, as a reference stores them.

    Parameters
    ----------
    frames, bins : ndarray of int32, shape (n,)
        Peaks in the order of time.
    fan_out : int
        Targets of an anchor, the nearest in time first.
    target_frames, target_bins : int
        Extent of the target zone behind the anchor, and above and below it.

    Returns
    -------
    frames, hashes : ndarray of uint32, shape (m,)
        Frame of each landmark's anchor, and its hash.
    """
    _require_bits(target_frames, target_bins)
    out_frames = np.empty(len(frames) * fan_out, np.uint32)
    hashes = np.empty(len(frames) * fan_out, np.uint32)
    n = _pair_peaks(frames, bins, fan_out, target_frames, target_bins, out_frames, hashes)
    return out_frames[:n].copy(), hashes[:n].copy()


def _require_bits(target_frames: int, target_bins: int, n_bins: int = 0) -> None:
    if target_frames > MAX_GAP_FRAMES or target_bins > MAX_STEP_BINS or n_bins > MAX_BINS:
        raise ValueError(
            f"a hash has room for {MAX_BINS} bins, steps of {MAX_STEP_BINS} and gaps of "
            f"{MAX_GAP_FRAMES} frames, not for {n_bins}, {target_bins} and {target_frames}"
        )


@kernel("int64(int32[::1], int32[::1], int64, int64, int64, uint32[::1], uint32[::1])")
def _pair_peaks(frames, bins, fan_out, target_frames, target_bins, out_frames, hashes):  # type: ignore[no-untyped-def]
    n = len(frames)
    count = 0
    for i in range(n):
        n_targets = 0
        for j in range(i + 1, n):
            gap = frames[j] - frames[i]
            if gap > target_frames or n_targets == fan_out:
                break
            step = bins[j] - bins[i]
            if gap < 1 or abs(step) > target_bins:
                continue
            out_frames[count] = frames[i]
            hashes[count] = (bins[i] << 14) | ((step + 128) << 6) | gap
            count += 1
            n_targets += 1
    return count


def probe_landmarks(
    times: I32,
    frequencies: F32,
    *,
    fineness: int,
    first_bin: int,
    n_bins: int,
    target_frames: int,
    target_bins: int,
    speed: float,
) -> tuple[I64, U32]:
    """List every landmark that a reference may have stored of the music in a query.

    The query's peaks are finer in time than a reference's frames; where the frames of the
    reference will fall among them is unknown, so a gap is rounded both ways. The query is taken to
    play at ``speed``: times stretch by it, frequencies shrink.

    Parameters
    ----------
    times : ndarray of int32, shape (n,)
        Query peaks in the order of time, in fine steps.
    frequencies : ndarray of float32, shape (n,)
        Their interpolated frequencies, in bins above ``first_bin``.
    fineness : int
        Fine steps in a frame of the reference.
    first_bin, n_bins : int
        The reference's range of frequency bins.
    target_frames, target_bins : int
        Extent of the target zone, as for `pair_peaks`.
    speed : float
        Time factor; 1.02 when the query plays 2 % faster than the track.

    Returns
    -------
    times : ndarray of int64, shape (m,)
        Time of each anchor on the track's clock, in fine steps.
    hashes : ndarray of uint32, shape (m,)
    """
    _require_bits(target_frames, target_bins, n_bins)

    n, capacity = 64 * len(times), -1
    while n > capacity:  # a second time when there are more than guessed
        capacity = n
        out_times, hashes = np.empty(capacity, np.int64), np.empty(capacity, np.uint32)
        n = _probe_landmarks(
            times,
            frequencies,
            fineness,
            first_bin,
            n_bins,
            target_frames,
            target_bins,
            speed,
            out_times,
            hashes,
        )
    return out_times[:n], hashes[:n]


@kernel(
    "int64(int32[::1], float32[::1], int64, int64, int64, int64, int64, float64, "
    "int64[::1], uint32[::1])"
)
def _probe_landmarks(  # type: ignore[no-untyped-def]
    times,
    frequencies,
    fineness,
    first_bin,
    n_bins,
    target_frames,
    target_bins,
    speed,
    out_times,
    hashes,
):
    n = len(times)
    count = 0  # goes on beyond the capacity of the outputs, to say what would have been needed
    for i in range(n):
        anchor = np.int64(np.floor((frequencies[i] + first_bin) / speed + 0.5)) - first_bin
        if anchor < 0 or anchor >= n_bins:
            continue
        time = np.int64(np.floor(times[i] * speed + 0.5))
        for j in range(i + 1, n):
            gap = (times[j] - times[i]) * speed / fineness
            if gap >= target_frames + 1:
                break
            target = np.int64(np.floor((frequencies[j] + first_bin) / speed + 0.5)) - first_bin
            step = target - anchor
            if target < 0 or target >= n_bins or abs(step) > target_bins:
                continue
            low = np.int64(np.floor(gap))
            high = np.int64(np.ceil(gap))
            for g in range(max(low, 1), min(high, target_frames) + 1):  # type: ignore[call-overload]
                if count < len(hashes):
                    out_times[count] = time
                    hashes[count] = (anchor << 14) | ((step + 128) << 6) | g
                count += 1
    return count
