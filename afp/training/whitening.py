"""Whitening: a linear map that makes the directions of embeddings count more alike."""

import numpy as np

from afp.fingerprint import F32

EXPONENT = 0.3  # half would give every direction the same variance
RIDGE = 0.1  # of the mean variance, which is added to each


def whitening(embeddings: F32) -> F32:
    """Return the map (d, d) that attenuates what varies most among embeddings (n, d) of music.

    H. Jégou and O. Chum, "Negative evidences and co-occurences in image retrieval: the benefit of
    PCA and whitening" (ECCV 2012), attenuated as by A. Mukundan et al., "Understanding and
    improving kernel local descriptors" (IJCV 2019): each principal direction is divided by a power
    of its variance. A net that has learned to tell its own training music apart leaves most
    of the variance to few directions, along which other music is alike by chance. The map is
    symmetric: each dimension stays what it is, but for a little of the others.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, d)
        No more of them than dimensions, or all the same, tell nothing.

    Returns
    -------
    ndarray of float32, shape (d, d)
        Embeddings are multiplied by it from the right.
    """
    n, dimensions = embeddings.shape
    if n <= dimensions:
        return np.eye(dimensions, dtype=np.float32)
    variances, directions = np.linalg.eigh(np.cov(embeddings.T.astype(np.float64)))
    level = float(variances.mean())
    if level <= 0:
        return np.eye(dimensions, dtype=np.float32)
    scales = (np.maximum(variances, 0.0) / level + RIDGE) ** -EXPONENT
    return ((directions * scales) @ directions.T).astype(np.float32)
