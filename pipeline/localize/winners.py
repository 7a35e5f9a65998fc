"""Which concept a position belongs to, if each is to belong to one.

Notation: H (n, h, w, k) gauge units; W channels × k, directions; v ≈ W h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

NEIGHBOURS = np.array([1, 4, 6, 4, 1]) / 16


def affinities(H: NDArray[np.float32], W: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compare what the concepts make of each position with each concept's direction.

    ⟨W h, w_j⟩ / ‖w_j‖: the largest is that of the concept whose direction makes the least angle
    with what all of them make of v. A single strength h_j says how much of w_j is in v beside the
    others instead: of two concepts much alike that share a part, each has half of it. For telling
    the parts of an object from each other; on a background that no concept is about, the largest of
    small numbers says nothing.

    Cells vote with their neighbours (binomial weights): each sees much of what those see.

    Parameters
    ----------
    H : ndarray
        float32 (n, h, w, k).
    W : ndarray
        float32 (channels, k), of the bank.

    Returns
    -------
    ndarray
        float32 (n, h, w, k).
    """
    found: NDArray[np.float32] = H @ (W.T @ (W / np.maximum(np.linalg.norm(W, axis=0), 1e-12)))
    for axis in (1, 2):
        found = convolve1d(found, NEIGHBOURS, axis=axis, mode="nearest")
    return found
