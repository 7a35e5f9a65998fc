"""Concepts that stay apart: a step that brings two of them together is not taken by the weaker.

Notation: W (channels × k) concepts, unit columns. Of more concepts than the data tell apart,
descent draws pairs to one direction, each with half of the positions: a user would see one thing
twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

ALIKE = 0.95
"""Cosine above which two concepts count as one."""


def twins(gram: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
    """Give the pairs of concepts that count as one: of each the stronger and the weaker, int64.

    Parameters
    ----------
    gram : Tensor
        (k, k) float32, WᵀW of unit columns.
    strength : Tensor
        (k,): by which the stronger is told; of two alike the first.
    """
    order = strength.to(gram.device).argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    pairs = torch.nonzero(torch.triu(gram, diagonal=1) > ALIKE)
    ranks = rank[pairs].sort(1).values
    pairs = order[ranks[torch.argsort(ranks[:, 0] * len(order) + ranks[:, 1])]]
    stronger, weaker = pairs.unbind(1)
    return stronger, weaker


def kept_apart(W: Tensor, before: Tensor, strength: Tensor) -> Tensor:
    """Take steps back that made twins: the weaker's first, then the stronger's.

    Parameters
    ----------
    W, before : Tensor
        (channels, k) float32, unit columns: after the steps, and before them.
    strength : Tensor
        (k,), see `twins`.

    Returns
    -------
    Tensor
        W, with some columns as before; pairs that were twins before are left.
    """
    W, is_back = W.clone(), torch.zeros(W.shape[1], dtype=torch.bool, device=W.device)
    gram = W.T @ W
    while True:
        stronger, weaker = twins(gram, strength)
        back = torch.unique(torch.where(is_back[weaker], stronger, weaker))
        back = back[~is_back[back]]
        if not len(back):
            return W
        W[:, back], is_back[back] = before[:, back], True
        renew(gram, W, back)


def renew(gram: Tensor, W: Tensor, moved: Tensor) -> None:
    """Bring WᵀW, (k, k), up to date in place where some columns of W, int64, moved."""
    gram[:, moved] = W.T @ W[:, moved]
    gram[moved] = gram[:, moved].T
