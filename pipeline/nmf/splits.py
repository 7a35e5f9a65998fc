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

from .passes import ENCODE_TOL, block_stats
from .solve import Encoder
from .stats import Stats, relative_error

Images = NDArray[np.int64] | Tensor
Split = tuple[Tensor, Tensor]


def bi_cv_error(V: Tensor, W: Tensor, folds: Tensor, known: Stats | None = None) -> float:
    """Predict each fold of the channels from all other channels, through the concepts.

    Least squares multiply noise where little of a concept is seen: of a concept that lives in one
    channel, that one hidden, the strength is what the noise of the others makes it. With what is
    `known` of the concepts, strengths are the most probable ones instead (ridge regression, the
    mode for Gaussian strengths and noise): a priori a strength is of the size of its quadratic
    mean, and noise has the variance of what the concepts leave of the data they were fitted on.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32 that W was not fitted on.
    W : Tensor
        (channels, k).
    folds : Tensor
        (channels,) int64: the fold each channel is in.
    known : Stats, optional
        Of the data that W was fitted on; without them, strengths are those of least squares.

    Returns
    -------
    float
        Relative error over all folds; above 1 where the concepts predict worse than nothing does.
    """
    W, noise = (W, 0.0) if known is None else _in_typical_strengths(W, known)
    hidden = [(folds == fold).to(W.device)[:, None] for fold in folds.unique()]
    # A channel that is not given weighs nothing where its row of W is zero.
    encoders = [Encoder.of(W * ~each, tol=ENCODE_TOL, l2=noise) for each in hidden]
    stats = block_stats(V, encoders)
    total = float(torch.linalg.vector_norm(V, dim=0).double().square().sum())
    if total == 0:
        return 0.0
    excess = sum(_excess(W * each, found) for each, found in zip(hidden, stats, strict=True))
    return math.sqrt(max(0.0, total + excess) / total)


def channel_folds(n_channels: int, n_folds: int, seed: int) -> Tensor:
    """Deal the channels into folds at random: (n_channels,) int64; a fold each where too few."""
    order = torch.randperm(n_channels, generator=torch.Generator().manual_seed(seed))
    return order % min(n_folds, n_channels)


def _in_typical_strengths(W: Tensor, known: Stats) -> tuple[Tensor, float]:
    """Scale W so that the quadratic means of strengths are 1; and give the noise's variance."""
    typical = (known.h_sq / known.n).sqrt().to(W)
    left = relative_error(W, known) ** 2 * known.v_sq
    return W * typical, left / (known.n * len(W))


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
