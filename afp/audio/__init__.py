"""Files become sound here: decode to mono float32 blocks, resample, identify, read tags, walk.

The only package that knows files and codecs.
"""

from afp.audio.content import ContentHash
from afp.audio.decoder import Decoder, decode
from afp.audio.files import AudioFile, walk
from afp.audio.resampler import Resampler
from afp.audio.tags import Tags, read_tags

__all__ = [
    "AudioFile",
    "ContentHash",
    "Decoder",
    "Resampler",
    "Tags",
    "decode",
    "read_tags",
    "walk",
]
