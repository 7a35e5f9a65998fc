"""Foreground learned again from finer features: of the dataset, of images alike, of each image.

Notation: z, features of a position, whitened: activations of finer layers, where there are any, and
the concepts' strengths √h. e, evidence: 0 where object and background part, 1 a standard deviation.

A coarse map reaches beyond the object, for a cell of a late layer sees much around it; a cell of an
earlier layer looks like object or like what surrounds it. So the coarse map is regressed on z
(ridge), the outcome parted by Otsu's threshold, the two sides regressed again, until they stay:
discriminative clustering, started from the concepts. One map for a whole dataset knows little more
than textured from smooth. So images of a label, then images alike in their concepts, larger groups
before smaller ones, and at last each image by itself learn a correction, ⟨Δ, z⟩, of what is known
so far, shrunk towards none: a group of n images by `PRIOR_IMAGES` / n, an image by `OWN`.

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

PRIOR_IMAGES, GROUP_ROUNDS = 16, 6
"""A group's correction is half its own once it has so many images."""

OWN, OWN_ROUNDS = 1.0, 4
"""Penalty of an image's own correction, in units of a feature's variance."""

HALFWAY = 0.5
"""A group or image parts its positions halfway between where all images part and its own Otsu's
threshold: alone it would find object in pictures of nothing but ground."""


@dataclass(frozen=True)
class FineForeground:
    """Evidence for object as a linear map of features, corrected by group and image.

    Parameters
    ----------
    weights : ndarray
        float32 (1 + groups, features): of the dataset, and each group's correction.
    offset : float
        Of the dataset.
    own_rounds : int
        Rounds of each image's own correction.
    """

    weights: NDArray[np.float32]
    offset: float
    own_rounds: int = OWN_ROUNDS

    def evidence(self, Z: NDArray[np.float32], members: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return e, float32 (n, h, w).

        Parameters
        ----------
        Z : ndarray
            float32 (n, h, w, features).
        members : ndarray
            float32 (n, groups), see `Kin.members`.
        """
        found = np.empty(Z.shape[:3], np.float32)
        for own, z, member in zip(found, Z, members, strict=True):
            rows = z.reshape(-1, z.shape[-1])
            known = rows @ (self.weights[0] + member @ self.weights[1:]) + np.float32(self.offset)
            if self.own_rounds:
                known = known + rows @ _correction(rows, known, OWN, self.own_rounds)
            own[...] = known.reshape(own.shape)
        return found


def fit_fine(
    Z: NDArray[np.float32], start: NDArray[np.float32], members: NDArray[np.float32]
) -> FineForeground | None:
    """Learn foreground from features.

    Parameters
    ----------
    Z : ndarray
        float32 (n, h, w, features), whitened.
    start : ndarray
        float32 (n, h, w), the concepts' foreground strength at the same cells.
    members : ndarray
        float32 (n, groups), see `Kin.members`.

    Returns
    -------
    FineForeground or None
        None where what was learned no longer goes with what the concepts say.
    """
    if not Z.shape[-1]:  # all features are constant
        return None
    found = _of_all(Z.reshape(-1, Z.shape[-1]), start.ravel())
    if found is None:
        return None
    weights, offset, evidence = found
    evidence = evidence.reshape(len(Z), -1)
    rows = Z.reshape(len(Z), -1, Z.shape[-1])
    corrections = np.zeros((members.shape[1], Z.shape[-1]), np.float32)
    n_own = (members > 0).sum(0)
    for group in np.argsort(-n_own, kind="stable")[: np.count_nonzero(n_own)]:
        own = np.flatnonzero(members[:, group])
        z, known = rows[own].reshape(-1, Z.shape[-1]), evidence[own].ravel()
        corrections[group] = _correction(z, known, PRIOR_IMAGES / len(own), GROUP_ROUNDS)
        evidence[own] += members[own, group, None] * (rows[own] @ corrections[group])
    return FineForeground(np.concatenate([weights[None], corrections]), offset)


def _of_all(
    X: NDArray[np.float32], coarse: NDArray[np.float32]
) -> tuple[NDArray[np.float32], float, NDArray[np.float32]] | None:
    """Learn one map for all positions: weights, offset, and the evidence it gives."""
    gram = (X.T @ X).astype(np.float64) + RIDGE * len(X) * np.eye(X.shape[1])
    target = coarse
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
    if not side.any() or side.all() or coarse[side].mean() <= coarse[~side].mean():
        return None
    spread = float(strength.std()) or 1.0
    evidence = ((strength - threshold) / spread).astype(np.float32)
    return (weights / spread).astype(np.float32), (level - threshold) / spread, evidence


def _correction(
    z: NDArray[np.float32], known: NDArray[np.float32], penalty: float, rounds: int
) -> NDArray[np.float32]:
    """Return Δ, float32 (features,), of positions whose evidence so far is `known`."""
    gram = (z.T @ z / len(z)).astype(np.float64) + penalty * np.eye(z.shape[1])
    change, evidence = np.zeros(z.shape[1], np.float32), known
    for _ in range(rounds):
        side = np.where(evidence > HALFWAY * otsu(evidence), 1, -1)
        change = np.linalg.solve(gram, z.T @ (side - known) / len(z)).astype(np.float32)
        evidence = known + z @ change
    return change


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
