"""Banks of what lies between a loudspeaker and the model: rooms and devices, as spectra."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft

from afp.distort import device, filters, room, time_pitch
from afp.features.log_mel import SAMPLE_RATE
from afp.fingerprint import F32
from afp.training.pcm import Pcm

C64 = npt.NDArray[np.complex64]

N = 24_576
"""Length of the Fourier transform that plays a signal through a room: 3.07 s."""

N_DEVICES, N_MADE_ROOMS, VARIANTS = 512, 512, 12
SHORTEST_T60, LONGEST_T60 = 0.1, 3.0
STRETCH = 1.2  # a recorded room, played slower or faster, is a larger or smaller one

# A source that is far away, or out of sight, sends less sound directly.
FAR_SHARE, FARTHEST_DB = 0.5, 15.0
DIRECT_SECONDS = 0.0025

# Of these, so many are out of sight: nothing comes directly, and the sound builds up.
HIDDEN_SHARE = 0.3
SHORTEST_BUILD_UP, LONGEST_BUILD_UP = 0.005, 0.1  # seconds to 1 - 1/e
LEAST_REVERBERANT = 1e-3  # of the energy; a device that hardly reverberates hides nothing


@dataclass(frozen=True, slots=True)
class Bank:
    """Frequency responses in a file that processes share.

    Attributes
    ----------
    path : Path
        Complex64, `N` // 2 + 1 bins a response.
    n_recorded : int
        Responses made of recordings; they come first.
    n_made : int
        Responses made up.
    """

    path: Path
    n_recorded: int
    n_made: int

    def __getitem__(self, i: int) -> C64:
        response: C64 = _mapped(self.path)[i]
        return response

    @classmethod
    def rooms(cls, recorded: Pcm | None, into: Path, *, seed: int) -> "Bank":
        """Make a bank of rooms: variants of the recorded ones, and made-up ones.

        Parameters
        ----------
        recorded : Pcm or None
            Impulse responses.
        into : Path
            The file to write.
        seed : int
        """
        rng = np.random.default_rng((seed, 1))
        n_recorded = 0
        with into.open("wb") as file:
            for i in range(len(recorded) if recorded is not None else 0):
                assert recorded is not None
                whole = recorded[i].astype(np.float32)
                for variant in range(VARIANTS):
                    near = _varied(whole, rng) if variant else whole
                    response = _moved_away(near, rng) if variant else whole
                    if response.any():
                        _spectrum(response, _direct(near)).tofile(file)
                        n_recorded += 1
            for _ in range(N_MADE_ROOMS):
                t60 = float(np.exp(rng.uniform(np.log(SHORTEST_T60), np.log(LONGEST_T60))))
                response = room.response(t60=t60, sample_rate=SAMPLE_RATE, rng=rng)
                _spectrum(_moved_away(response, rng), _direct(response)).tofile(file)
        return cls(into, n_recorded, N_MADE_ROOMS)

    @classmethod
    def devices(cls, into: Path, *, seed: int) -> "Bank":
        """Make a bank of microphones, loudspeakers, telephones, equalisers and band limits.

        Parameters
        ----------
        into : Path
            The file to write.
        seed : int
        """
        rng = np.random.default_rng((seed, 2))
        with into.open("wb") as file:
            for i in range(N_DEVICES):
                response = np.zeros(N, np.float32)
                response[0] = 1
                for change in _CHAINS[i % len(_CHAINS)]:
                    response = change(response, rng)
                _spectrum(response, 0).tofile(file)
        return cls(into, 0, N_DEVICES)


def _varied(response: F32, rng: np.random.Generator) -> F32:
    """Make a room larger or smaller, and let it decay sooner."""
    factor = STRETCH ** rng.uniform(-1, 1)
    response = time_pitch.speed(response, factor=factor)
    t60 = float(np.exp(rng.uniform(np.log(0.3), np.log(5.0))))  # of the additional decay
    after = np.maximum(np.arange(len(response)) - _direct(response), 0) / (SAMPLE_RATE * t60)
    damped: F32 = response * np.exp(np.float32(-np.log(1000)) * after.astype(np.float32))
    return damped


def _moved_away(response: F32, rng: np.random.Generator) -> F32:
    """Weaken the direct sound of half of the rooms, and take it away from some of them."""
    if rng.random() >= FAR_SHARE:
        return response
    direct, reach = _direct(response), round(DIRECT_SECONDS * SAMPLE_RATE)
    far = response.copy()
    if rng.random() < HIDDEN_SHARE:
        after = np.maximum(np.arange(len(far)) - (direct + reach), 0) / SAMPLE_RATE
        build_up = rng.uniform(SHORTEST_BUILD_UP, LONGEST_BUILD_UP)
        hidden: F32 = far * (1 - np.exp(-after / build_up)).astype(np.float32)
        if np.sum(hidden**2) > LEAST_REVERBERANT * np.sum(far**2):
            return hidden
    weaker = 10 ** (-rng.uniform(0, FARTHEST_DB) / 20)
    far[max(direct - reach, 0) : direct + reach] *= np.float32(weaker)
    return far


def _direct(response: F32) -> int:
    """Return when the direct sound comes, in samples: the strongest tap."""
    return int(np.argmax(np.abs(response)))


def _spectrum(response: F32, direct: int) -> C64:
    """Transform a response of unit energy, its direct sound at time 0.

    What comes before that wraps around to the end; what is longer than `N` is cut off.
    """
    before, after = response[max(direct - N // 8, 0) : direct], response[direct:]
    padded = np.zeros(N, np.float32)
    padded[: min(len(after), N - len(before))] = after[: N - len(before)]
    if len(before):
        padded[-len(before) :] = before
    padded /= np.float32(np.sqrt(np.sum(np.square(padded, dtype=np.float64))))
    spectrum: C64 = scipy.fft.rfft(padded)
    return spectrum


Change = Callable[[F32, np.random.Generator], F32]


def _microphone(samples: F32, rng: np.random.Generator) -> F32:
    return device.microphone(samples, sample_rate=SAMPLE_RATE, rng=rng)


def _loudspeaker(samples: F32, rng: np.random.Generator) -> F32:
    return device.loudspeaker(samples, sample_rate=SAMPLE_RATE, rng=rng)


def _telephone(samples: F32, rng: np.random.Generator) -> F32:
    return filters.telephone(samples, sample_rate=SAMPLE_RATE)


def _equaliser(samples: F32, rng: np.random.Generator) -> F32:
    gains = rng.uniform(-8, 8, len(filters.OCTAVES_HZ)).tolist()
    return filters.equalise(samples, sample_rate=SAMPLE_RATE, gains_db=gains)


def _low_pass(samples: F32, rng: np.random.Generator) -> F32:
    hz, order = rng.uniform(1500, 3800), int(rng.integers(2, 8, endpoint=True))
    return filters.low_pass(samples, sample_rate=SAMPLE_RATE, hz=hz, order=order)


def _high_pass(samples: F32, rng: np.random.Generator) -> F32:
    hz, order = np.exp(rng.uniform(np.log(150), np.log(800))), int(rng.integers(1, 6))
    return filters.high_pass(samples, sample_rate=SAMPLE_RATE, hz=hz, order=order)


_CHAINS: tuple[tuple[Change, ...], ...] = (
    (_microphone,),
    (_loudspeaker,),
    (_loudspeaker, _microphone),
    (_microphone, _telephone),
    (_equaliser,),
    (_equaliser, _microphone),
    (_low_pass,),
    (_high_pass,),
    (_high_pass, _low_pass),
    (_loudspeaker, _equaliser, _low_pass),
)


@lru_cache(maxsize=4)
def _mapped(path: Path) -> C64:
    return np.memmap(path, np.complex64, mode="r").reshape(-1, N // 2 + 1)
