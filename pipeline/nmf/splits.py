"""Hold data out: halves of the images, halves of the channels, and data without any concept.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.nmf.passes import ENCODE_TOL, block_stats
from pipeline.nmf.solve import Encoder
from pipeline.nmf.stats import Stats

Images = NDArray[np.int64] | Tensor
Split = tuple[Tensor, Tensor]


def bi_cv_error(V: Tensor, W: Tensor, folds: Tensor) -> float:
    """Predict each fold of the channels from all other channels, through the concepts.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32 that W was not fitted on.
    W : Tensor
        (channels, k).
    folds : Tensor
        (channels,) int64: the fold each channel is in.

    Returns
    -------
    float
        Relative error over all folds; above 1 where the concepts predict worse than nothing does.
    """
    hidden = [(folds == fold).to(W.device)[:, None] for fold in folds.unique()]
    # A channel that is not given weighs nothing where its row of W is zero.
    stats = block_stats(V, [Encoder.of(W * ~each, tol=ENCODE_TOL) for each in hidden])
    total = float(torch.linalg.vector_norm(V, dim=0).double().square().sum())
    if total == 0:
        return 0.0
    excess = sum(_excess(W * each, found) for each, found in zip(hidden, stats, strict=True))
    return math.sqrt(max(0.0, total + excess) / total)


def channel_folds(n_channels: int, n_folds: int, seed: int) -> Tensor:
    """Deal the channels into folds at random: (n_channels,) int64; a fold each where too few."""
    order = torch.randperm(n_channels, generator=torch.Generator().manual_seed(seed))
    return order % min(n_folds, n_channels)


def _excess(W: Tensor, stats: Stats) -> float:
    """‖V − H Wᵀ‖² − ‖V‖² over the channels where W is not zero."""
    W = W.cpu().double()
    return float(((W.T @ W) * stats.HHt).sum()) - 2 * float((W * stats.VHt).sum())


def halves(
    image_of_position: NDArray[np.int64] | Tensor, seed: int
) -> tuple[Tensor, Tensor] | None:
    """Split the positions into two halves that share no image.

    Parameters
    ----------
    image_of_position : ndarray or Tensor
        (positions,) int64.
    seed : int
        Decides which images go where.

    Returns
    -------
    tuple of Tensor, or None
        Two ascending index tensors; None if there is only one image.
    """
    images, index = torch.unique(torch.as_tensor(image_of_position), return_inverse=True)
    if len(images) < 2:
        return None
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    first = (order < len(images) // 2)[index]
    return torch.nonzero(first).flatten(), torch.nonzero(~first).flatten()


def shuffle_channels(V: Tensor, seed: int) -> Tensor:
    """Permute each channel over the positions, independently: the same values, no concept.

    Parameters
    ----------
    V : Tensor
        (positions, channels).
    seed : int
        Decides the permutations.

    Returns
    -------
    Tensor
        (positions, channels).
    """
    shuffled = np.random.default_rng(seed).permuted(V.cpu().numpy().T, axis=1)
    return torch.from_numpy(shuffled).T.contiguous().to(V.device)
