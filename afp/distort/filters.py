"""Linear filters: low- and high-pass, telephone, equaliser, all-pass. They start at rest."""

from collections.abc import Sequence

import numpy as np

from afp.errors import UsageError
from afp.fingerprint import F32, F64

ORDER = 4
TELEPHONE_HZ = (300.0, 3400.0)
TELEPHONE_RIPPLE_DB, TELEPHONE_STOP_DB = 0.25, 40.0
OCTAVES_HZ = np.geomspace(31.25, 16_000.0, 10)
OCTAVE_Q = 2.0**0.5
PROTOTYPE_DB, SOLVER_STEPS = 5.0, 4
ALL_PASS = np.array([[0.81, -1.64, 1.0, 1.0, -1.64, 0.81]])


def low_pass(samples: F32, *, sample_rate: int, hz: float, order: int = ORDER) -> F32:
    """Take away what is above a frequency (Butterworth).

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz.
    hz : float
        Cut-off, where 3 dB are gone. At or above half the sample rate it changes nothing.
    order : int
        Slope in units of 6 dB an octave.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    UsageError
        When nothing would be left.
    """
    from scipy.signal import butter

    _check(hz)
    if 2 * hz >= sample_rate:
        return samples.copy()
    return cascade(samples, butter(order, hz, "lowpass", fs=sample_rate, output="sos"))


def high_pass(samples: F32, *, sample_rate: int, hz: float, order: int = ORDER) -> F32:
    """Take away what is below a frequency (Butterworth).

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz.
    hz : float
        Cut-off, where 3 dB are gone.
    order : int
        Slope in units of 6 dB an octave.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    UsageError
        When nothing would be left.
    """
    from scipy.signal import butter

    _check(hz, below=sample_rate / 2)
    return cascade(samples, butter(order, hz, "highpass", fs=sample_rate, output="sos"))


def band_pass(
    samples: F32, *, sample_rate: int, low_hz: float, high_hz: float, order: int = ORDER
) -> F32:
    """Take away what is outside a band (Butterworth).

    Haitsma & Kalker 2002 test with second order, 100 to 6000 Hz.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz.
    low_hz, high_hz : float
        Cut-offs, where 3 dB are gone. An upper one at or above half the sample rate changes
        nothing.
    order : int
        Slope on either side in units of 6 dB an octave.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    UsageError
        When nothing would be left.
    """
    from scipy.signal import butter

    if 2 * high_hz >= sample_rate:
        return high_pass(samples, sample_rate=sample_rate, hz=low_hz, order=order)
    _check(low_hz, below=high_hz)
    band = (low_hz, high_hz)
    return cascade(samples, butter(order, band, "bandpass", fs=sample_rate, output="sos"))


def telephone(samples: F32, *, sample_rate: int) -> F32:
    """Keep what a telephone line lets through: 300 to 3400 Hz.

    Flat within ±0.25 dB over the band and 40 dB down at 4.6 kHz, within the limits that ITU-T
    G.712 sets for PCM channels: an elliptic low-pass of order 6 and a Chebyshev high-pass of
    order 4.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    UsageError
        When nothing would be left.
    """
    from scipy.signal import cheby1, ellip

    low_hz, high_hz = TELEPHONE_HZ
    _check(low_hz, below=sample_rate / 2)
    ripple = TELEPHONE_RIPPLE_DB
    sections = [cheby1(4, ripple, low_hz, "highpass", fs=sample_rate, output="sos")]
    if 2 * high_hz < sample_rate:
        stop = TELEPHONE_STOP_DB
        sections.append(ellip(6, ripple, stop, high_hz, "lowpass", fs=sample_rate, output="sos"))
    return cascade(samples, np.concatenate(sections))


def equalise(samples: F32, *, sample_rate: int, gains_db: Sequence[float]) -> F32:
    """Raise and lower ten octave bands: a graphic equaliser of peaking filters.

    Neighbouring filters overlap; their gains are set such that the whole has the gains asked for
    at the bands' centres (Oliver & Jot 2015, "Efficient multi-band digital audio graphic equalizer
    with accurate frequency response control").

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz.
    gains_db : sequence of float
        Of the bands around 31.25, 62.5, … 16,000 Hz, in dB. Bands at or above half the sample rate
        are skipped.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    UsageError
        When there are not ten gains.
    """
    if len(gains_db) != len(OCTAVES_HZ):
        raise UsageError(
            f"an equaliser has ten bands, not {len(gains_db)}", hint="give ten gains in dB"
        )
    centres = OCTAVES_HZ[sample_rate > 2 * OCTAVES_HZ]
    wanted = np.array(gains_db[: len(centres)], np.float64)
    prototypes = _octaves(np.full(len(centres), PROTOTYPE_DB), sample_rate)
    overlap = _gains_db(prototypes, centres, sample_rate) / PROTOTYPE_DB
    gains = np.zeros(len(centres))
    for _ in range(SOLVER_STEPS):  # gains in dB add up almost linearly
        missing = wanted - _gains_db(_octaves(gains, sample_rate), centres, sample_rate).sum(axis=0)
        gains += np.linalg.solve(overlap.T, missing)
    return cascade(samples, _octaves(gains, sample_rate))


def alternating(db: float) -> list[float]:
    """Return gains for `equalise` that fall and rise in turn, from −db at the lowest band.

    Parameters
    ----------
    db : float
        3 in Haitsma & Kalker 2002.
    """
    return [-db, db] * (len(OCTAVES_HZ) // 2)


def all_pass(samples: F32) -> F32:
    """Shift phases and leave magnitudes: (0.81 z² − 1.64 z + 1) / (z² − 1.64 z + 0.81).

    A test of Haitsma & Kalker 2002.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    return cascade(samples, ALL_PASS)


def peaking(sample_rate: int, *, hz: float, gain_db: float, q: float) -> F64:
    """Design a filter that raises or lowers a band, and leaves the rest.

    From R. Bristow-Johnson's *Audio EQ Cookbook*.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    hz : float
        Centre, below half the sample rate.
    gain_db : float
        There, in dB.
    q : float
        Centre by bandwidth; the square root of 2 for an octave.

    Returns
    -------
    ndarray of float64, shape (6,)
        A second-order section for `cascade`.
    """
    root = 10 ** (gain_db / 40)
    angle = 2 * np.pi * hz / sample_rate
    alpha = np.sin(angle) / (2 * q)
    middle = -2 * np.cos(angle)
    section: F64 = np.array(
        [1 + alpha * root, middle, 1 - alpha * root, 1 + alpha / root, middle, 1 - alpha / root]
    )
    section /= section[3]
    return section


def cascade(samples: F32, sections: F64) -> F32:
    """Filter by second-order sections, one after the other.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sections : ndarray of float64, shape (m, 6)
        As `scipy.signal.sosfilt` takes them.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    from scipy.signal import sosfilt

    if len(samples) == 0:  # which sosfilt does not take
        return samples.copy()
    filtered: F32 = sosfilt(sections, samples).astype(np.float32)
    return filtered


def _octaves(gains_db: F64, sample_rate: int) -> F64:
    """Return a peaking section for each octave band, the lowest first."""
    pairs = zip(OCTAVES_HZ[: len(gains_db)], gains_db, strict=True)
    return np.array([peaking(sample_rate, hz=hz, gain_db=gain, q=OCTAVE_Q) for hz, gain in pairs])


def _gains_db(sections: F64, hz: F64, sample_rate: int) -> F64:
    """Return the gain of each section at each frequency, shape (m, len(hz))."""
    delay = np.exp(-2j * np.pi * hz / sample_rate)
    powers = np.stack([np.ones_like(delay), delay, delay**2])
    gains: F64 = 20 * np.log10(np.abs((sections[:, :3] @ powers) / (sections[:, 3:] @ powers)))
    return gains


def _check(hz: float, *, below: float = np.inf) -> None:
    """Refuse a cut-off frequency that leaves nothing."""
    if not 0 < hz < below:
        span = f"above 0 and below {below:g} Hz" if below < np.inf else "above 0 Hz"
        raise UsageError(f"a cut-off at {hz:g} Hz leaves nothing", hint=f"choose one {span}")
