"""Recordings to train on, and what training makes of them."""

import numpy as np
import pytest
from synthesis import music, noise
from training_recordings import write

from afp.audio import walk
from afp.distort import room
from afp.features.log_mel import SAMPLE_RATE
from afp.training.channel import Bank
from afp.training.pcm import Pcm


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Folders of music, noise and rooms, and what training makes of them."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(12):
        write(folder / "music" / f"{seed:02}.wav", music(6.0, seed=seed))
    write(folder / "noise" / "hiss.wav", noise(4.0))
    write(folder / "noise" / "short.wav", noise(0.5, seed=1))
    rng = np.random.default_rng(0)
    write(folder / "rooms" / "hall.wav", room.response(t60=0.4, sample_rate=SAMPLE_RATE, rng=rng))
    return folder


def pcm(folder, name, into):
    return Pcm.decoded(list(walk([folder / name])), into / f"{name}.pcm")


@pytest.fixture(scope="module")
def parts(recordings, tmp_path_factory):
    into = tmp_path_factory.mktemp("parts")
    rooms = Bank.rooms(pcm(recordings, "rooms", into), into / "rooms.bank", seed=0)
    devices = Bank.devices(into / "devices.bank", seed=0)
    return pcm(recordings, "music", into), pcm(recordings, "noise", into), rooms, devices
