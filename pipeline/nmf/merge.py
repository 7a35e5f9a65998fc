"""Make fewer concepts of many: merge the two that lose least by it, again and again.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths; V ≈ H Wᵀ, W, H ≥ 0.

A descent cannot move a concept to where one is missing: between two that share one object and an
object without any lies a rise of the error. With a few concepts to spare both are found, and the
merger gives the spare ones up (split and merge: Ueda et al., Neural Computation 12, 2000).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.nmf.stats import Stats


def merge(W: Tensor, stats: Stats, k: int) -> Tensor:
    """Merge concepts until k are left.

    Two parts h_a w_aᵀ + h_b w_bᵀ become the nearest single h wᵀ, which is non-negative (Perron and
    Frobenius); of all pairs, that one whose distance to it is least.

    Parameters
    ----------
    W : Tensor
        (channels, more than k) float32, non-negative.
    stats : Stats
        Of the H that belongs to them.
    k : int
        How many are wanted.

    Returns
    -------
    Tensor
        (channels, k) float32, in the order they had.
    """
    G, wide = (each.to("cpu", torch.float64, copy=True) for each in (stats.HHt, W.detach()))
    while (n := wide.shape[1]) > k:
        S = wide.T @ wide
        a, b = divmod(int(_losses(S, G).argmin()), n)
        two = [a, b]
        s, g = S[two][:, two], G[two][:, two]
        x = _leading(g @ s)  # w = W₂ x
        length = x @ s @ x
        y = s @ x / length if float(length) > 0 else torch.ones_like(x)  # h = H₂ y
        wide[:, a] = wide[:, two] @ x
        G[:, a] = G[:, two] @ y
        G[a] = y @ G[two]
        keep = torch.arange(n) != b
        wide, G = wide[:, keep], G[keep][:, keep]
    return wide.to(W)


def _losses(S: Tensor, G: Tensor) -> Tensor:
    """(n, n): the energy each pair loses by its merger, infinite for pairs of one.

    It is the smaller eigenvalue of (W₂ᵀ W₂)(H₂ᵀ H₂); S and G hold these products of all.
    """
    parts = S.diag() * G.diag()
    half = (parts[:, None] + parts) / 2 + S * G
    det = (torch.outer(S.diag(), S.diag()) - S**2) * (torch.outer(G.diag(), G.diag()) - G**2)
    losses = half - (half**2 - det.clamp(min=0)).clamp(min=0).sqrt()
    return losses.fill_diagonal_(torch.inf)


def _leading(M: Tensor) -> Tensor:
    """(2,): the eigenvector of the larger eigenvalue of a non-negative 2 × 2 matrix."""
    (p, q), (r, t) = M.tolist()
    root = (((p - t) / 2) ** 2 + q * r) ** 0.5
    if q == 0 and r == 0:
        return M.new_tensor([1.0, 0.0] if p >= t else [0.0, 1.0])
    first = (
        M.new_tensor([(p - t) / 2 + root, r]) if p >= t else M.new_tensor([q, (t - p) / 2 + root])
    )
    return first / first.sum()
