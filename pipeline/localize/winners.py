"""Which concept a position belongs to, if each is to belong to one.

Notation: H (n, h, w, k) gauge units; W channels × k, directions; v ≈ W h; X positions × channels,
features of one or several layers, each layer's vectors of unit length.

The concepts' own word is how small the angle is between W h and each direction w_j. Strengths are
few numbers, though, and where no concept is about what is there, the largest of small ones says
nothing. So the assignment is learned again from features (ridge regression, all over the dataset):
what looks like the positions where a concept is sure is that concept's, finer layers say where it
ends, and the vast rest goes to whatever concept usually takes such positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .finer import RIDGE

REACH = 1.0
"""Standard deviation of the vote among neighbours, in cells of the concepts' layer: each of them
sees much of what the next ones see."""

SHARPNESS = 4
"""Power of a concept's affinity, relative to the nearest concept's: its share in a position is half
where it is 0.84 of it. On the bundled sample 4 and 16 are alike, 1 is worse; see METHODS."""


@dataclass(frozen=True)
class Winners:
    """Linear map from features to how much of a position belongs to each concept.

    Parameters
    ----------
    weights : ndarray
        float32 (channels of all layers, k).
    offset : ndarray
        float32 (k,).
    """

    weights: NDArray[np.float32]
    offset: NDArray[np.float32]

    def maps(self, features: NDArray[np.float32], cell: float) -> NDArray[np.float32]:
        """Give concepts' claims to positions; the largest wins.

        Parameters
        ----------
        features : ndarray
            float32 (n, h, w, channels): layers of `unit_length`, side by side.
        cell : float
            Side of a cell of the concepts' layer, in cells of these features' grid.

        Returns
        -------
        ndarray
            float32 (n, h, w, k).
        """
        return _vote(features @ self.weights + self.offset, cell)


class WinnersFit:
    """Learns `Winners` from one group of images after another; holds sums alone.

    Parameters
    ----------
    n_channels, k : int
        Of the features; of the concepts.
    """

    def __init__(self, n_channels: int, k: int) -> None:
        self._n = 0
        self._x, self._y = np.zeros(n_channels), np.zeros(k)
        self._xx, self._xy = np.zeros((n_channels, n_channels)), np.zeros((n_channels, k))

    def add(self, features: NDArray[np.float32], near: NDArray[np.float32]) -> None:
        """Take in some images.

        Parameters
        ----------
        features : ndarray
            float32 (n, h, w, channels): layers of `unit_length`, side by side.
        near : ndarray
            float32 (n, h, w, k), of `affinities`, at the same cells.
        """
        X = features.reshape(-1, features.shape[-1])
        near = near.reshape(-1, near.shape[-1])
        Y = (near / np.maximum(near.max(1, keepdims=True), 1e-12)) ** SHARPNESS
        self._n += len(X)
        self._x += X.sum(0, dtype=np.float64)
        self._y += Y.sum(0, dtype=np.float64)
        self._xx += X.T @ X
        self._xy += X.T @ Y

    def solve(self) -> Winners:
        """Solve the regression, penalised by a share of each channel's variance."""
        n = max(1, self._n)
        mean_x, mean_y = self._x / n, self._y / n
        covariance = self._xx / n - np.outer(mean_x, mean_x)
        scale = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
        gram = covariance / np.outer(scale, scale) + RIDGE * np.eye(len(scale))
        both = (self._xy / n - np.outer(mean_x, mean_y)) / scale[:, None]
        weights = np.linalg.solve(gram, both) / scale[:, None]
        offset = mean_y - mean_x @ weights
        return Winners(weights.astype(np.float32), offset.astype(np.float32))


def affinities(H: NDArray[np.float32], W: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compare what the concepts make of each position with each concept's direction.

    ⟨W h, w_j⟩ / ‖w_j‖: the largest is that of the concept whose direction makes the least angle
    with what all of them make of v. A single strength h_j says how much of w_j is in v beside the
    others instead: of two concepts much alike that share a part, each has half of it. Cells vote
    with their neighbours.

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
    return _vote(H @ (W.T @ (W / np.maximum(np.linalg.norm(W, axis=0), 1e-12))), cell=1.0)


def unit_length(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring every vector of maps (n, h, w, channels) to length 1; zero stays zero."""
    unit: NDArray[np.float32] = maps / np.maximum(
        np.linalg.norm(maps, axis=-1, keepdims=True), 1e-12
    )
    return unit


def _vote(maps: NDArray[np.float32], cell: float) -> NDArray[np.float32]:
    sigma = REACH * cell
    voted: NDArray[np.float32] = gaussian_filter(maps, (0, sigma, sigma, 0), mode="nearest")
    return voted
