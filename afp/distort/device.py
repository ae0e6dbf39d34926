"""Small microphones and loudspeakers: each draw is another device."""

import numpy as np

from afp.distort.filters import cascade, peaking
from afp.fingerprint import F32, F64

SOFTEST, HARDEST = 0.2, 0.6  # drive of the loudspeaker at the loudest sample; 1 takes 2.4 dB off
MOST_SKEW = 0.15
TILT_HZ = 1000.0


def microphone(samples: F32, *, sample_rate: int, rng: np.random.Generator) -> F32:
    """Record by the microphone of a telephone, or another small one.

    A high-pass at 80 to 300 Hz: telephones filter wind and handling noise out, from 90 Hz on in
    some, from 200 Hz on in an iPhone 3GS (Faber Acoustical 2009, "iPhone microphone frequency
    response comparison"). One or two resonances of 2 to 8 dB at 2 to 6 kHz, from the duct to the
    microphone and the case; a roll-off of 12 dB an octave from 5 to 12 kHz on, and a tilt of up
    to ±3 dB around 1 kHz.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz, above 2000.
    rng : numpy.random.Generator
        Draws the device.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    from scipy.signal import butter

    high_pass_hz, low_pass_hz = _between(80, 300, rng), _between(5000, 12_000, rng)
    sections = [butter(2, high_pass_hz, "highpass", fs=sample_rate, output="sos")]
    if 2 * low_pass_hz < sample_rate:
        sections.append(butter(2, low_pass_hz, "lowpass", fs=sample_rate, output="sos"))
    sections.append(_tilt(sample_rate, rng.uniform(-3, 3))[None])
    for _ in range(rng.integers(1, 2, endpoint=True)):
        hz, gain_db = _between(2000, 6000, rng), rng.uniform(2, 8)
        sections += _bump(sample_rate, hz, gain_db, q=rng.uniform(1, 4))
    return cascade(samples, np.concatenate(sections))


def loudspeaker(samples: F32, *, sample_rate: int, rng: np.random.Generator, past: int = 0) -> F32:
    """Play through the loudspeaker of a laptop, a telephone or a small radio.

    It resonates between 200 and 500 Hz with a Q of 0.7 to 2, and loses 24 dB an octave below: 12 as
    any closed box, 12 by the filter that protects it. Chang & Wang 2018, "Bass extension of
    microspeaker system on mobile device", get one from 630 down to 300 Hz. Two to four bumps and
    dips of up to 6 dB above 1 kHz come from the membrane and the enclosure (Zhong et al. 2015,
    "Influence of enclosure wall vibration on the frequency response of miniature loudspeakers",
    find up to 15 dB). Large displacements are compressed and not quite symmetric (Klippel 2006,
    "Loudspeaker nonlinearities"): a hyperbolic tangent that adds up to some 5 % of harmonics to the
    loudest tone.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz, above 2000.
    rng : numpy.random.Generator
        Draws the device.
    past : int
        Samples at the start that do not count as the loudest.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    from scipy.signal import butter

    resonance_hz, q = _between(200, 500, rng), rng.uniform(0.7, 2.0)
    protection = butter(2, resonance_hz, "highpass", fs=sample_rate, output="sos")
    drive, skew = rng.uniform(SOFTEST, HARDEST), rng.uniform(0, MOST_SKEW)
    moved = _softened(cascade(samples, protection), past, drive=drive, skew=skew)
    sections = [_resonance(sample_rate, resonance_hz, q)[None]]
    for _ in range(rng.integers(2, 4, endpoint=True)):
        hz, gain_db = _between(1000, 8000, rng), rng.uniform(-6, 6)
        sections += _bump(sample_rate, hz, gain_db, q=rng.uniform(1, 4))
    return cascade(moved, np.concatenate(sections))


def _softened(samples: F32, past: int, *, drive: float, skew: float) -> F32:
    """Bend the characteristic: slope 1 at rest, flatter the further from it."""
    peak = float(np.abs(samples[past:]).max(initial=0.0))
    if peak == 0:
        return samples.copy()
    bent: F32 = np.tanh(samples * np.float32(drive / peak) + np.float32(skew))
    bent -= np.float32(np.tanh(skew))
    bent *= np.float32(peak / drive * np.cosh(skew) ** 2)
    return bent


def _between(low_hz: float, high_hz: float, rng: np.random.Generator) -> float:
    """Draw a frequency, all intervals alike."""
    return float(np.exp(rng.uniform(np.log(low_hz), np.log(high_hz))))


def _bump(sample_rate: int, hz: float, gain_db: float, *, q: float) -> list[F64]:
    """Return a peaking section, none where the frequency does not exist."""
    if 2 * hz >= sample_rate:
        return []
    return [peaking(sample_rate, hz=hz, gain_db=gain_db, q=q)[None]]


def _resonance(sample_rate: int, hz: float, q: float) -> F64:
    """Design a high-pass of second order with a Q (Bristow-Johnson)."""
    angle = 2 * np.pi * hz / sample_rate
    alpha, cosine = np.sin(angle) / (2 * q), np.cos(angle)
    half = (1 + cosine) / 2
    section: F64 = np.array([half, -2 * half, half, 1 + alpha, -2 * cosine, 1 - alpha])
    section /= section[3]
    return section


def _tilt(sample_rate: int, db: float) -> F64:
    """Design a first-order filter of -db at low and +db at high frequencies, 0 dB at 1 kHz.

    (G s + w) / (s + G w) by the bilinear transform.
    """
    root, warped = 10 ** (db / 20), np.tan(np.pi * TILT_HZ / sample_rate)
    section: F64 = np.array(
        [warped + root, warped - root, 0, warped * root + 1, warped * root - 1, 0]
    )
    section /= section[3]
    return section
