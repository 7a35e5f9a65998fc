"""Which concepts are foreground, group by group, and how strongly foreground stands where.

Notation: H (n, h, w, k) gauge units; W channels × k; s_gj in [0, 1], the share of concept j that is
foreground in the images of group g (a dataset label, or else a predicted class). An image of
several groups has the largest of their shares: what is object in one of them is object in it.

What a picture is of seldom lies along its edge. Let b_j be the mean strength of concept j on the
border of the grid and i_j inside. If the border shows background alone, and background is spread
alike, the share π · b_j / i_j of what concept j shows inside is background, where π, how much of
the inside background fills, is at most the least i_j / b_j: the concept most at home on the border
is all background. Hence s_j = 1 − (b_j / i_j) / max(b / i).

References
----------
Wei, Y., Wen, F., Zhu, W. & Sun, J. (2012). Geodesic Saliency Using Background Priors (the border
as a sample of background). Elkan, C. & Noto, K. (2008). Learning Classifiers from Only Positive
and Unlabeled Data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .thresholds import part

Groups = Sequence[tuple[str, ...]]
"""The groups of each image, often one."""

BORDER = 14
"""The border is a fourteenth of the grid on each side, and one cell at least."""

PRIOR_IMAGES = 16
"""A group's border statistics count as much as the whole dataset's once it has so many images."""

LEAST_MASS = 0.5
"""A concept can stand for background if it has this share of an even part of the border."""


CENTRED, WIDTH = 0.25, 0.25
"""What a place says of itself: a quarter of a centred Gaussian, a quarter of the sides wide. By
half of it photographs of everything gained no more, and horses lost."""


@dataclass(frozen=True)
class Foreground:
    """What is foreground, for every group of images.

    Parameters
    ----------
    groups : tuple of str
        Names of the groups, in the order of the rows of `shares` after its first.
    shares : ndarray
        float32 (1 + groups, k), s; the first row is the whole dataset's, for images of no group.
    gram : ndarray
        float32 (k, k), WᵀW.
    threshold, spread : float
        Strength that parts object from background, one for the dataset (Otsu), and the standard
        deviation of strength over positions.
    """

    groups: tuple[str, ...]
    shares: NDArray[np.float32]
    gram: NDArray[np.float32]
    threshold: float
    spread: float

    def weights(self, groups: Groups) -> NDArray[np.float32]:
        """Return the foreground share of every concept for images of these groups, (n, k)."""
        row = {name: index + 1 for index, name in enumerate(self.groups)}
        places = [[row[name] for name in each if name in row] or [0] for each in groups]
        rows = [self.shares[each].max(0) for each in places]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.shares.shape[1])

    def maps(self, H: NDArray[np.float32], groups: Groups) -> NDArray[np.float32]:
        """Return foreground strength: √‖Σ_j s_j h_j w_j‖, float32 (n, h, w).

        The root keeps a few very strong positions from deciding what counts as strong.
        """
        part = H * self.weights(groups)[:, None, None, :]
        flat = part.reshape(-1, H.shape[-1])  # one product, not one for each row of cells
        squares = np.einsum("pk,pk->p", flat @ self.gram, flat).reshape(H.shape[:-1])
        strength: NDArray[np.float32] = np.maximum(squares, 0) ** 0.25
        return strength


def fit_foreground(H: NDArray[np.float32], groups: Groups, W: NDArray[np.float32]) -> Foreground:
    """Find what is foreground from a sample of images, without any ground truth.

    Parameters
    ----------
    H : ndarray
        float32 (n, h, w, k), heatmaps of a sample of images in gauge units.
    groups : sequence of tuple of str
        The groups of each image.
    W : ndarray
        float32 (channels, k), directions.

    References
    ----------
    Otsu, N. (1979). A threshold selection method from gray-level histograms.
    """
    edge = border(H.shape[1], H.shape[2])
    gram = (W.T @ W).astype(np.float32)
    if edge.all() or not len(H):
        everything = np.ones((1, H.shape[-1]), dtype=np.float32)
        return _with_threshold(Foreground((), everything, gram, 0.0, 1.0), H, groups)
    outside, inside = H[:, edge].mean(1), H[:, ~edge].mean(1)
    names = tuple(sorted({name for each in groups for name in each}))
    member = np.array([[name in each for each in groups] for name in names], dtype=np.float32)
    member = member.reshape(len(names), len(H))  # also where no image is of a group
    n = member.sum(1, keepdims=True)
    shares = [_shares(outside.mean(0), inside.mean(0))]
    for own, count in zip(member, n, strict=True):
        total = count + PRIOR_IMAGES
        shares.append(
            _shares(
                (own @ outside + PRIOR_IMAGES * outside.mean(0)) / total,
                (own @ inside + PRIOR_IMAGES * inside.mean(0)) / total,
            )
        )
    return _with_threshold(Foreground(names, np.stack(shares), gram, 0.0, 1.0), H, groups)


def centred(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a centred Gaussian as evidence: 0 at half its maximum, in standard deviations."""
    axes = [((np.arange(n) + 0.5) / n - 0.5) / WIDTH for n in shape]
    bump = np.exp(-(axes[0][:, None] ** 2 + axes[1] ** 2) / 2)
    return ((bump - 0.5) / (float(bump.std()) or 1.0)).astype(np.float32)


def border(height: int, width: int) -> NDArray[np.bool_]:
    """Mark the border of a grid, bool (height, width)."""
    rows, columns = max(1, round(height / BORDER)), max(1, round(width / BORDER))
    edge = np.ones((height, width), dtype=np.bool_)
    edge[rows : height - rows, columns : width - columns] = False
    return edge


def otsu(values: NDArray[np.float32]) -> float:
    """Return Otsu's threshold; above all values where they are all alike."""
    found = part(values)
    return float(values.max(initial=0)) + 1.0 if found is None else found


def _shares(outside: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return s (k,) of mean strengths on the border and inside."""
    ratio = outside / np.maximum(inside, 1e-9)
    heavy = outside * len(outside) >= LEAST_MASS * outside.sum()
    most = float(ratio[heavy].max(initial=1e-9))
    return np.clip(1 - ratio / most, 0, 1).astype(np.float32)


def _with_threshold(found: Foreground, H: NDArray[np.float32], groups: Groups) -> Foreground:
    strength = found.maps(H, groups)
    spread = float(strength.std()) if strength.size else 0.0
    return Foreground(found.groups, found.shares, found.gram, otsu(strength), spread or 1.0)
