"""Foreground on a finer layer's grid: what the concepts say, learned again from finer features.

Notation: X positions × channels, activations of finer layers, standardised; y positions, 1 where
foreground. A coarse map reaches beyond the object, for a cell of a late layer sees much around
it; a cell of an earlier layer looks like object or like what surrounds it, all over the dataset.
So the coarse map is regressed on X (ridge), the outcome parted by Otsu's threshold, the two sides
regressed again, until they stay: discriminative clustering, started from the concepts.

References
----------
Joulin, A., Bach, F. & Ponce, J. (2010). Discriminative Clustering for Image Co-segmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..images import Grid, between_grids
from .foreground import otsu

RIDGE = 0.01
"""Penalty in units of a feature's variance: keeps channels that go together from opposing."""

SAME = 0.001
"""The sides stay once fewer than a thousandth of the positions change."""

MAX_ROUNDS = 50
"""Twenty were usual, forty the most seen."""


@dataclass(frozen=True)
class FineForeground:
    """Foreground strength as a linear map of finer features.

    Parameters
    ----------
    weights : ndarray
        float32 (channels,).
    offset : float
        Strength is ⟨weights, x⟩ + offset.
    threshold, spread : float
        As in `Foreground`.
    """

    weights: NDArray[np.float32]
    offset: float
    threshold: float
    spread: float

    def maps(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return foreground strength, float32 (n, h, w), of features (n, h, w, channels)."""
        strength: NDArray[np.float32] = features @ self.weights + np.float32(self.offset)
        return strength


def fit_fine(features: NDArray[np.float32], start: NDArray[np.float32]) -> FineForeground | None:
    """Learn foreground from finer features.

    Parameters
    ----------
    features : ndarray
        float32 (n, h, w, channels), see `stack_layers`.
    start : ndarray
        float32 (n, h, w), the concepts' foreground strength at the same cells.

    Returns
    -------
    FineForeground or None
        None where what was learned no longer goes with what the concepts say.
    """
    X = features.reshape(-1, features.shape[-1])
    mean, scale = X.mean(0), np.maximum(X.std(0), 1e-6)
    X = (X - mean) / scale
    gram = (X.T @ X).astype(np.float64) + RIDGE * len(X) * np.eye(X.shape[1])
    target = start.ravel()
    side = np.zeros(len(X), dtype=np.bool_)
    for _ in range(MAX_ROUNDS):
        level = float(target.mean())
        weights = np.linalg.solve(gram, X.T @ (target - level)).astype(np.float32)
        strength = X @ weights + level
        threshold = otsu(strength)
        before, side = side, strength >= threshold
        if (before != side).mean() < SAME:
            break
        target = side.astype(np.float32)
    coarse = start.ravel()
    if not side.any() or side.all() or coarse[side].mean() <= coarse[~side].mean():
        return None
    own = (weights / scale).astype(np.float32)
    return FineForeground(own, level - float(mean @ own), threshold, float(strength.std()) or 1.0)


def stack_layers(
    maps: Sequence[NDArray[np.float32]], grids: Sequence[Grid]
) -> tuple[NDArray[np.float32], Grid]:
    """Put the maps of several layers side by side on the grid of the finest.

    Parameters
    ----------
    maps : sequence of ndarray
        float32 (n, h, w, channels), one per layer.
    grids : sequence of Grid
        Where their cells are.

    Returns
    -------
    features : ndarray
        float32 (n, h, w, all channels).
    grid : Grid
    """
    finest = max(grids, key=lambda grid: len(grid.centres_y))
    raised = [
        each if grid is finest else between_grids(each, grid, finest)
        for each, grid in zip(maps, grids, strict=True)
    ]
    return np.concatenate(raised, axis=-1), finest
