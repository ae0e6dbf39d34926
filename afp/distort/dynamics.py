"""Level: gain, clipping, compression of the dynamic range."""

import numpy as np

from afp.compiled import kernel
from afp.errors import UsageError
from afp.fingerprint import F32

QUIETEST_DB = -200.0
# Levels where the slope of Haitsma & Kalker's curve changes, and what comes out there.
CURVE_IN_DB = np.array([QUIETEST_DB, -46.4, -28.6, 0.0, 100.0])
_SLOPES = np.array([1.61, 1 / 1.73, 1 / 8.94, 1 / 8.94])
_RISES = np.concatenate([[0.0], np.cumsum(_SLOPES * np.diff(CURVE_IN_DB))])
CURVE_OUT_DB = _RISES - _RISES[3]  # full scale stays full scale
CURVE_RELEASE_SECONDS = 0.1


def gain(samples: F32, *, db: float) -> F32:
    """Make samples louder.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    db : float
        In dB; negative to make them fainter.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    return samples * np.float32(10 ** (db / 20))


def clip(samples: F32, *, db: float, past: int = 0) -> F32:
    """Cut off what is louder than a limit: an amplifier driven too far.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    db : float
        How far below the loudest sample the limit is, in dB.
    past : int
        Samples at the start that do not count as the loudest.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    UsageError
        When `db` is negative.
    """
    if not db >= 0:
        raise UsageError(
            f"nothing is {-db:g} dB louder than the loudest", hint="choose 0 dB or more"
        )
    limit = np.float32(np.abs(samples[past:]).max(initial=0.0) * 10 ** (-db / 20))
    return np.clip(samples, -limit, limit)


def compress(
    samples: F32,
    *,
    sample_rate: int,
    threshold_db: float,
    ratio: float,
    attack_seconds: float,
    release_seconds: float,
) -> F32:
    """Make loud passages less loud: a feed-forward compressor with a hard knee.

    After Giannoulis, Massberg & Reiss 2012, "Digital dynamic range compressor design", with their
    decoupled peak detector.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz.
    threshold_db : float
        Peak level above which it works, in dB of full scale (1.0).
    ratio : float
        By how many dB the level rises above the threshold for 1 dB more to come out; at least 1,
        infinite for a limiter.
    attack_seconds, release_seconds : float
        Time constants of the level's rise and fall; 0 follows at once.

    Returns
    -------
    ndarray of float32, shape (n,)
        Without make-up gain.

    Raises
    ------
    UsageError
        When the ratio is below 1, or a time negative.
    """
    if not ratio >= 1:
        raise UsageError(f"a ratio of {ratio:g}:1 does not compress", hint="choose 1 or more")
    levels = _levels_db(samples, sample_rate, attack_seconds, release_seconds)
    return _amplified(
        samples, np.minimum((np.float32(threshold_db) - levels) * np.float32(1 - 1 / ratio), 0)
    )


def compand(
    samples: F32, *, sample_rate: int, release_seconds: float = CURVE_RELEASE_SECONDS
) -> F32:
    """Compress as Haitsma & Kalker 2002 do: 8.94:1, 1.73:1 and 1:1.61.

    The ratios hold above −28.6 dB, down to −46.4 dB, and below. The paper tells no more; here full
    scale stays full scale, and the level rises at once, so that nothing comes out louder than the
    curve allows.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        Levels are relative to 1.0.
    sample_rate : int
        In Hz.
    release_seconds : float
        Time constant of the level's fall.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    levels = _levels_db(samples, sample_rate, 0.0, release_seconds)
    curve = np.interp(levels, CURVE_IN_DB, CURVE_OUT_DB).astype(np.float32)
    return _amplified(samples, curve - levels)


def _amplified(samples: F32, gains_db: F32) -> F32:
    """Return samples, each with a gain of its own."""
    amplified: F32 = np.exp(gains_db * np.float32(np.log(10) / 20))
    amplified *= samples
    return amplified


def _levels_db(
    samples: F32, sample_rate: int, attack_seconds: float, release_seconds: float
) -> F32:
    """Return the peak level at each sample, in dB of full scale."""
    if not (attack_seconds >= 0 and release_seconds >= 0):
        raise UsageError("a compressor cannot look ahead", hint="choose times of 0 s or more")
    attack, release = (
        np.exp(-1 / (seconds * sample_rate)) if seconds else 0.0
        for seconds in (attack_seconds, release_seconds)
    )
    envelope = np.empty(len(samples), np.float32)
    _follow(np.ascontiguousarray(samples), attack, release, envelope)
    np.maximum(envelope, np.float32(10 ** (QUIETEST_DB / 20)), out=envelope)
    levels: F32 = np.float32(20) * np.log10(envelope)
    return levels


@kernel("void(float32[::1], float64, float64, float32[::1])")
def _follow(samples, attack, release, envelope):  # type: ignore[no-untyped-def]
    # Equation 17 of Giannoulis et al.: release, then attack.
    peak = 0.0
    level = 0.0
    for i in range(len(samples)):
        peak = max(abs(samples[i]), release * peak)
        level = attack * level + (1.0 - attack) * peak
        envelope[i] = level
