"""One set of concepts from the fits of several seeds: what they agree on.

Notation: V (positions × channels) activations, W (channels × k) concepts, rows in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .initialise import unit_columns

NEIGHBOURS = 0.3  # share of the replicates whose nearest concepts say how dense a place is
FAR = 0.5  # mean distance of unit vectors to them beyond which a concept is one fit's alone


def consensus(Ws: Sequence[Tensor], seed: int = 0) -> Tensor:
    """Pool concepts, drop those that stand alone, cluster the rest, and take medians.

    The way of cNMF (Kotliar et al., eLife 8, 2019); the medians want a refit, as `W0` of `fit`.

    Parameters
    ----------
    Ws : sequence of Tensor
        (channels, k) each, of the same k.
    seed : int
        Decides the clustering.

    Returns
    -------
    Tensor
        (channels, k) float32, unit columns. Where fewer than k concepts are agreed on, the first
        fit's that lie farthest from those stand in.
    """
    k = Ws[0].shape[1]
    pool = torch.cat([unit_columns(W.double()).T for W in Ws])
    pool = pool[torch.linalg.vector_norm(pool, dim=1) > 0]
    n_neighbours = max(1, round(NEIGHBOURS * len(Ws)))
    distances = torch.cdist(pool, pool).fill_diagonal_(float("inf"))
    if len(Ws) > 1:
        nearest = distances.topk(min(n_neighbours, len(pool) - 1), largest=False).values
        pool = pool[nearest.mean(dim=1) <= FAR]
    centres = _medians(pool, k, seed)
    for w in unit_columns(Ws[0].double()).T[_farthest(Ws[0], centres, k - len(centres))]:
        centres = torch.cat([centres, w[None]])
    return unit_columns(centres.T).float().contiguous()


def _medians(pool: Tensor, k: int, seed: int) -> Tensor:
    """Give the median of each of up to k clusters of the rows of `pool`."""
    # scikit-learn takes longer to import than most fits take; only the choice of k comes here.
    from sklearn.cluster import KMeans

    k = min(k, len(torch.unique((pool / 1e-6).round(), dim=0)))
    if k == 0:
        return pool[:0]
    labels = torch.from_numpy(KMeans(k, n_init=10, random_state=seed).fit_predict(pool.numpy()))
    return torch.stack([pool[labels == j].median(dim=0).values for j in range(k)])


def _farthest(W: Tensor, centres: Tensor, n: int) -> Tensor:
    """Give the indices of the n concepts of W that are least like any of `centres`."""
    if len(centres) == 0:
        return torch.arange(n)
    likeness = (unit_columns(W.double()).T @ unit_columns(centres.T)).amax(dim=1)
    return likeness.argsort()[:n]
