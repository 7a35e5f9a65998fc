"""Make fewer concepts of many: merge the two that lose least by it, again and again.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths; V ≈ H Wᵀ, W, H ≥ 0.

A descent cannot move a concept to where one is missing: between two that share one object and an
object without any lies a rise of the error. With a few concepts to spare both are found, and the
merger gives the spare ones up (split and merge: Ueda et al., Neural Computation 12, 2000).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..system.threads import check_stop
from .stats import Stats

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Merger:
    """Two concepts made one.

    Attributes
    ----------
    a, b : int
        Their columns; the one concept takes that of `a`, the lower.
    loss : float
        The energy that is lost by it.
    w : ndarray
        float64 (channels,): the one concept.
    """

    a: int
    b: int
    loss: float
    w: Array


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
    merged, left = W.clone(), torch.ones(W.shape[1], dtype=torch.bool, device=W.device)
    for each in mergers(W, stats, W.shape[1] - k):
        merged[:, each.a] = torch.from_numpy(each.w).to(W)
        left[each.b] = False
    return merged[:, left]


def mergers(
    W: Tensor, stats: Stats, n: int, groups: NDArray[np.int64] | None = None
) -> Iterator[Merger]:
    """Give the n mergers by which least is lost, one after another.

    Parameters
    ----------
    W : Tensor
        (channels, k) float32, non-negative.
    stats : Stats
        Of the H that belongs to them.
    n : int
        Below k; with groups, at most as many as leave one concept of each.
    groups : ndarray, optional
        int64 (k,): only concepts of one group are merged.
    """
    concepts = W.detach().cpu().double()
    S, G = (concepts.T @ concepts).numpy(), stats.HHt.numpy().copy()
    Wt = concepts.numpy().T.copy()
    left = np.ones(len(S), dtype=np.bool_)
    groups = np.zeros(len(S), dtype=np.int64) if groups is None else groups
    losses = np.where(groups[:, None] == groups, _losses(S, G), np.inf)
    least, partner = losses.min(1), losses.argmin(1)
    for _ in range(n):
        check_stop()
        a = int(least.argmin())
        loss = float(least[a])
        a, b = sorted((a, int(partner[a])))
        two = [a, b]
        s, g = S[np.ix_(two, two)], G[np.ix_(two, two)]
        x = _leading(g @ s)  # w = W₂ x
        length = x @ s @ x
        y = s @ x / length if length > 0 else np.ones(2)  # h = H₂ y
        Wt[a] = x @ Wt[two]
        for M, z in ((S, x), (G, y)):
            M[:, a] = M[:, two] @ z
            M[a] = z @ M[two]
        yield Merger(a, b, loss, Wt[a].copy())
        left[b] = False
        losses[b], losses[:, b], least[b] = np.inf, np.inf, np.inf
        new = np.where(left & (groups == groups[a]), _losses_of(a, S, G), np.inf)
        new[a] = np.inf
        losses[a], losses[:, a] = new, new
        nearer = new < least
        least[nearer], partner[nearer] = new[nearer], a
        lost = left & ((partner == a) | (partner == b)) & ~nearer
        lost[a] = True
        least[lost], partner[lost] = losses[lost].min(1), losses[lost].argmin(1)


def pair_losses(gram: Tensor, stats: Stats) -> Array:
    """Give the energy that each pair of concepts loses by its merger, (k, k).

    Infinite for pairs of one. `gram` is WᵀW, the statistics are of the strengths of W.
    """
    return _losses(gram.cpu().double().numpy(), stats.HHt.numpy())


def joined(W: Tensor, stats: Stats, a: int, b: int) -> Tensor:
    """Give the direction (channels,) of the one concept that is made of two."""
    pair = W[:, [a, b]].detach().cpu().double()
    x = _leading((stats.HHt[[a, b]][:, [a, b]] @ (pair.T @ pair)).numpy())
    w = pair @ torch.from_numpy(x)
    unit: Tensor = (w / w.norm().clamp_min(1e-300)).to(W)
    return unit


def _losses(S: Array, G: Array) -> Array:
    """(n, n): the energy each pair loses by its merger, infinite for pairs of one.

    S and G hold WᵀW and H Hᵀ of all.
    """
    losses = _lost(S, S.diagonal()[:, None], S.diagonal(), G, G.diagonal()[:, None], G.diagonal())
    np.fill_diagonal(losses, np.inf)
    return losses


def _losses_of(a: int, S: Array, G: Array) -> Array:
    """(n,): the row a of `_losses`, but for a itself."""
    return _lost(S[a], S[a, a], S.diagonal(), G[a], G[a, a], G.diagonal())


def _lost(sab: Array, sa: Array, sb: Array, gab: Array, ga: Array, gb: Array) -> Array:
    """Give the smaller eigenvalue of (W₂ᵀ W₂)(H₂ᵀ H₂), from inner products of two concepts each."""
    half = (sa * ga + sb * gb) / 2 + sab * gab
    det = (sa * sb - sab**2) * (ga * gb - gab**2)
    lost: Array = half - np.sqrt(np.maximum(half**2 - np.maximum(det, 0), 0))
    return lost


def _leading(M: Array) -> Array:
    """(2,): the eigenvector of the larger eigenvalue of a non-negative 2 × 2 matrix."""
    (p, q), (r, t) = M.tolist()
    root = (((p - t) / 2) ** 2 + q * r) ** 0.5
    if q == 0 and r == 0:
        return np.array([1.0, 0.0] if p >= t else [0.0, 1.0])
    first = np.array([(p - t) / 2 + root, r] if p >= t else [q, (t - p) / 2 + root])
    leading: Array = first / first.sum()
    return leading
