"""Echoes that follow one another."""

from afp.errors import UsageError
from afp.fingerprint import F32


def echo(samples: F32, *, sample_rate: int, delay_seconds: float, decay: float) -> F32:
    """Repeat samples again and again, each time fainter.

    ``y[n] = x[n] + decay · y[n − delay]``. Haitsma & Kalker 2002 test with a filter that
    mimics an old-time radio.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
    sample_rate : int
        In Hz.
    delay_seconds : float
        From one echo to the next, in seconds; at least a sample.
    decay : float
        Amplitude of an echo as a share of the one before, 0 to less than 1.

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    UsageError
        When the delay is less than a sample, or the echoes would not fade.
    """
    delay = round(delay_seconds * sample_rate)
    if delay < 1:
        raise UsageError(
            f"no echo comes after {delay_seconds:g} s", hint=f"choose {1 / sample_rate:g} s or more"
        )
    if not 0 <= decay < 1:
        raise UsageError(f"echoes that decay by {decay:g} do not fade", hint="choose 0 to 0.99")
    repeated = samples.copy()
    while delay < len(samples):  # 1/(1 − d z⁻ᴰ) = (1 + d z⁻ᴰ)(1 + d² z⁻²ᴰ)(1 + d⁴ z⁻⁴ᴰ)…
        repeated[delay:] += decay * repeated[:-delay]
        delay, decay = 2 * delay, decay**2
    return repeated
