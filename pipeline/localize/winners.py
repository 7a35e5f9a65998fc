"""Which concept a position belongs to, if each is to belong to one.

Notation: H (n, h, w, k) gauge units; W, C channels × k, directions and context vectors; v ≈ W h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

NEIGHBOURS = (0.25, 0.5, 0.25)


def affinities(
    H: NDArray[np.float32], W: NDArray[np.float32], context: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Compare what the concepts make of each position with what each concept is like at home.

    ⟨W h, c_j − c̄⟩ / ‖c_j − c̄‖, c̄ the mean context vector: where activations differ from what all
    concepts have in common, how much they look like the places where j stands. A single strength
    h_j says how much of w_j is in v instead. For telling the parts of an object from each other; on
    a background that no concept is about, the largest of small numbers says nothing.

    Cells vote with their neighbours (binomial weights 1, 2, 1): each sees much of what those see.

    Parameters
    ----------
    H : ndarray
        float32 (n, h, w, k).
    W, context : ndarray
        float32 (channels, k), of the bank.

    Returns
    -------
    ndarray
        float32 (n, h, w, k).
    """
    own = context - context.mean(axis=1, keepdims=True)
    unit = own / np.maximum(np.linalg.norm(own, axis=0), 1e-12)
    found: NDArray[np.float32] = H @ (W.T @ unit)
    for axis in (1, 2):
        found = convolve1d(found, NEIGHBOURS, axis=axis, mode="nearest")
    return found
