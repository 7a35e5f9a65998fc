"""Compare fits: matching of concepts, and the error no factorization of rank k can go below.

Notation: V (positions × channels) activations, W (channels × k) concepts, rows in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .initialise import unit_columns
from .stats import ROWS


def match(W_a: Tensor, W_b: Tensor) -> tuple[Tensor, Tensor]:
    """Pair the concepts of two fits one-to-one so that the sum of cosines is greatest.

    Parameters
    ----------
    W_a : Tensor
        (channels, k_a).
    W_b : Tensor
        (channels, k_b).

    Returns
    -------
    permutation : Tensor
        (k_a,) int64: W_b[:, permutation[j]] is the partner of W_a[:, j]; −1 without one, which
        only happens for k_a > k_b.
    cosines : Tensor
        (k_a,) float64, between 0 and 1 for non-negative concepts; 0 without a partner.
    """
    a, b = (unit_columns(W.detach().cpu().double()) for W in (W_a, W_b))
    cosine = a.T @ b
    rows, columns = map(torch.from_numpy, linear_sum_assignment(cosine.numpy(), maximize=True))
    permutation = torch.full((a.shape[1],), -1, dtype=torch.int64)
    permutation[rows] = columns
    cosines = torch.zeros(a.shape[1], dtype=torch.float64)
    cosines[rows] = cosine[rows, columns]
    return permutation, cosines


def gram(blocks: Iterable[Tensor]) -> Tensor:
    """Sum VᵀV over all positions.

    Parameters
    ----------
    blocks : iterable of Tensor
        (rows, channels) float32 or float16 each.

    Returns
    -------
    Tensor
        (channels, channels) float64 on the CPU; products are float32 over 2,048 positions.
    """
    total: Tensor | None = None
    for V in blocks:
        if total is None:
            total = torch.zeros(V.shape[1], V.shape[1], dtype=torch.float64, device=V.device)
        for v in map(torch.Tensor.float, torch.split(V, ROWS)):
            total += v.T @ v
    if total is None:
        raise ValueError("no block to sum over")
    return total.cpu()


def svd_error(data: Iterable[Tensor] | Tensor, k: int) -> float:
    """Relative error of the truncated SVD of rank k: the floor for any V ≈ H Wᵀ.

    Parameters
    ----------
    data : iterable of Tensor, or Tensor
        Blocks of (rows, channels) float32 or float16, or one (positions, channels) sample.
    k : int
        Rank.

    Returns
    -------
    float
        Between 0 and 1; 0 where k reaches the rank of the data.
    """
    return svd_errors(gram([data] if isinstance(data, Tensor) else data), [k])[0]


def svd_errors(channel_gram: Tensor, ks: Sequence[int]) -> list[float]:
    """Give `svd_error` for several ranks from VᵀV (channels, channels), as `gram` gives it."""
    eigenvalues = torch.linalg.eigvalsh(channel_gram.double()).clamp(min=0)
    below = torch.cat([eigenvalues.new_zeros(1), eigenvalues.cumsum(0)])
    total = float(below[-1])
    if total == 0:
        return [0.0 for _ in ks]
    return [math.sqrt(float(below[max(0, len(eigenvalues) - k)]) / total) for k in ks]
