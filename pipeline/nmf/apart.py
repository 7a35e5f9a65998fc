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


def twins(W: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
    """Give the pairs of concepts that count as one: of each the stronger and the weaker, int64.

    Parameters
    ----------
    W : Tensor
        (channels, k) float32, unit columns.
    strength : Tensor
        (k,): by which the stronger is told; of two alike the first.
    """
    order = strength.to(W.device).argsort(descending=True, stable=True)
    unit = W[:, order]
    first, second = torch.nonzero(torch.triu(unit.T @ unit, diagonal=1) > ALIKE).unbind(1)
    return order[first], order[second]


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
    while True:
        stronger, weaker = twins(W, strength)
        back = torch.unique(torch.where(is_back[weaker], stronger, weaker))
        back = back[~is_back[back]]
        if not len(back):
            return W
        W[:, back], is_back[back] = before[:, back], True
