"""Other ways to divide the same activations: one scaled per image, k-means, truncated SVD.

Notation: V (n, h, w, channels) activations; maps (n, h, w, k), the larger the more present.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

Maps = NDArray[np.float32]


def per_image(H: Maps) -> Maps:
    """Scale each map of each image to [0, 1], as pytorch-grad-cam does before argmax."""
    low = H.min(axis=(1, 2), keepdims=True)
    scaled: Maps = (H - low) / (1e-7 + (H - low).max(axis=(1, 2), keepdims=True))
    return scaled


def kmeans(V: Maps, k: int, seed: int = 0) -> Maps:
    """Mark each position's cluster of k."""
    flat = V.reshape(-1, V.shape[-1])
    found = MiniBatchKMeans(k, random_state=seed, batch_size=4096, n_init=3).fit(flat)
    labels = found.predict(flat)
    flags: Maps = (labels[:, None] == np.arange(k)).astype(np.float32)
    return flags.reshape(*V.shape[:3], k)


def singular(V: Maps, rank: int) -> Maps:
    """Project on the first right singular vectors; each gives two maps, of either sign."""
    flat = V.reshape(-1, V.shape[-1])
    _, vectors = np.linalg.eigh(flat.T.astype(np.float64) @ flat)
    scores = flat @ vectors[:, ::-1][:, :rank].astype(np.float32)
    both = np.concatenate([np.maximum(scores, 0), np.maximum(-scores, 0)], axis=1)
    return both.reshape(*V.shape[:3], 2 * rank)
