"""Files to train on, and batches of what they hold."""

import wave

from afp.features.log_mel import SAMPLE_RATE
from afp.training.config import Config
from afp.training.views import Views


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


def views(parts, **settings):
    return Views(Config.checked({"pairs": 8, **settings}), *parts)
