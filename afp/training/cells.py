"""Centres of the cells that a large store sorts embeddings into."""

import warnings

import numpy as np

from afp.features.embedding import Embedder
from afp.features.log_mel import HOP_LENGTH, SAMPLE_RATE, mel_powers
from afp.fingerprint import F32
from afp.training.pcm import FULL_SCALE, Pcm

MOST = 4096
MEMBERS = 16  # embeddings of the music that a cell is made of, at least
_PASSES = 12
_LEAST_HOP = 4  # frames


def sampled(embed: Embedder, music: Pcm) -> F32:
    """Embed music, as many segments of it as its cells are made of.

    Returns
    -------
    ndarray of float32, shape (n, d)
        Of length 1.
    """
    seconds = int(music.lengths.sum()) / SAMPLE_RATE
    hop_frames = int(seconds / (MOST * MEMBERS) * SAMPLE_RATE / HOP_LENGTH)
    found = []
    for i in range(len(music)):
        powers = mel_powers(music[i].astype(np.float32) / np.float32(FULL_SCALE))
        found.append(embed(powers, hop_frames=max(hop_frames, _LEAST_HOP))[1])
    return np.concatenate(found)


def centres(embeddings: F32, *, seed: int = 0) -> F32:
    """Cluster embeddings (n, d) by k-means, on the sphere.

    Returns
    -------
    ndarray of float32, shape (c, d)
        Of length 1; `MOST` of them where there are enough embeddings.
    """
    from scipy.cluster.vq import kmeans2

    n = min(MOST, max(len(embeddings) // MEMBERS, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cell without members stays where it was
        means, _ = kmeans2(embeddings, n, iter=_PASSES, minit="points", seed=seed)
    unit: F32 = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit
