"""Pursuit as operations on all positions at once: what accelerators are fast at.

Notation: b = Wᵀv, G = WᵀW of unit concepts, h ≥ 0 strengths of which a few are above 0, and
r = b − G h. The steps are those of `kernels.pursue`, in as many rounds of all positions together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rounds import LAST_SWEEPS, LAST_TOL, LEAST, ROUNDS, SWEEPS, TOL


def pursue(B: Tensor, G: Tensor, n_active: int) -> tuple[Tensor, Tensor]:
    """Find for each position the few concepts that explain it.

    Parameters
    ----------
    B : Tensor
        float32 (positions, k), V W.
    G : Tensor
        float32 (k, k), WᵀW, its diagonal 1, or 0 of a concept that is none.
    n_active : int
        Concepts that a position has at most.

    Returns
    -------
    concepts : Tensor
        int64 (positions, n_active); 0 where the strength is 0.
    strengths : Tensor
        float32 (positions, n_active).
    """
    at_once = -(-n_active // ROUNDS)
    scale = B.amax(1, keepdim=True).clamp_(min=0)
    found = torch.zeros(len(B), n_active, dtype=torch.int64, device=B.device)
    h = torch.zeros(found.shape, device=B.device)
    slots = torch.arange(n_active, device=B.device)
    for _ in range(ROUNDS + 2):  # some are left out again
        n = (h > 0).sum(1, keepdim=True)
        left = B - torch.zeros_like(B).scatter_add_(1, found, h) @ G
        left.scatter_(1, found, torch.where(h > 0, -1.0, left.gather(1, found)))
        values, picked = left.topk(min(at_once, B.shape[1]), dim=1)
        is_new = (values > LEAST * scale) & (n + slots[: values.shape[1]] < n_active)
        if not is_new.any():
            break
        rank = slots - n  # which of those picked comes to a place
        at = rank.clamp(0, values.shape[1] - 1)
        takes = (rank >= 0) & (rank < values.shape[1]) & is_new.gather(1, at)
        found = torch.where(takes, picked.gather(1, at), found)
        h = _descend(B, G, found, h, (h > 0) | takes, SWEEPS, TOL * scale)
        order = (h > 0).long().argsort(dim=1, descending=True, stable=True)
        found, h = found.gather(1, order), h.gather(1, order)
    h = _descend(B, G, found, h, h > 0, LAST_SWEEPS, LAST_TOL * scale)
    return torch.where(h > 0, found, 0), h


def _descend(
    B: Tensor, G: Tensor, found: Tensor, h: Tensor, moves: Tensor, most: int, tol: Tensor
) -> Tensor:
    """Minimise over the strengths that move, one after the other, until all move less than `tol`.

    A position that has converged stays: it would not, were others of its block to decide.
    """
    S = G[found[:, :, None], found[:, None, :]]
    r = B.gather(1, found) - (S @ h[:, :, None])[:, :, 0]
    h = h.clone()
    goes_on = torch.ones_like(tol, dtype=torch.bool)
    for _ in range(most):
        moved = torch.zeros_like(tol)
        for a in range(h.shape[1]):
            wanted = (h[:, a] + r[:, a]).clamp_(min=0) - h[:, a]
            step = torch.where(moves[:, a] & goes_on[:, 0], wanted, 0.0)
            h[:, a] += step
            r -= step[:, None] * S[:, a]
            moved = torch.maximum(moved, step.abs()[:, None])
        goes_on &= moved >= tol
        if not goes_on.any():
            break
    return h
