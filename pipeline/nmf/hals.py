"""Descent in W for fixed H, or in H for fixed W: one concept after the other, non-negative.

Notation: as of `hals`, in which H stands for either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..system.threads import all_threads, check_stop

TOGETHER = 300  # rows that are taken one by one; of more, blocks of them meet the rest at once
BLOCK = 64  # rows of such a block


def hals(H: Tensor, G: Tensor, B: Tensor, sweeps: int, free: Tensor | None = None) -> Tensor:
    """Minimise ½ tr(Hᵀ G H) − tr(Hᵀ B) over H ≥ 0, one concept (row) after the other, in place.

    The objective falls, or stays, with every row (hierarchical alternating least squares:
    Cichocki and Phan, IEICE Trans. E92-A, 2009).

    Parameters
    ----------
    H : Tensor
        (k, n), where to start, or (problems, k, n) for as many problems at once; holds the result.
        Rows are concepts: n are positions, or channels.
    G : Tensor
        (…, k, k) symmetric, positive semidefinite. Concepts whose G_jj is 0 are left as they are.
    B : Tensor
        (…, k, n).
    sweeps : int
        How often each row is updated.
    free : Tensor, optional
        (…, k) bool: the rows to update; all of them where it is not given.

    Returns
    -------
    Tensor
        H.
    """
    rows, G, B = (each if each.ndim == 3 else each[None] for each in (H, G, B))
    diagonal = G.diagonal(dim1=1, dim2=2)
    moves = diagonal > 0 if free is None else (diagonal > 0) & free
    divisor = diagonal.where(moves, 1.0)[:, :, None]
    others, targets = G / divisor, B / divisor
    others.diagonal(dim1=1, dim2=2).zero_()
    stays = ~moves[:, :, None]
    others.masked_fill_(stays, 0)
    targets = torch.where(stays, rows, targets)
    if rows.shape[1] > TOGETHER:
        return _hals_by_blocks(H, rows, others, targets, sweeps)
    best = torch.empty_like(rows[:, :1])
    # One row of each problem, sliced ahead: slices took as long as what is done with them.
    each_row = list(zip(*(a.split(1, dim=1) for a in (targets, others, rows)), strict=True))
    moving = [each_row[j] for j in torch.nonzero(moves.any(dim=0)).flatten().tolist()]
    for _ in range(sweeps):
        check_stop()
        for target, other, row in moving:
            torch.baddbmm(target, other, rows, alpha=-1, out=best)
            torch.clamp(best, min=0, out=row)
    return H


def _hals_by_blocks(
    H: Tensor, rows: Tensor, others: Tensor, targets: Tensor, sweeps: int
) -> Tensor:
    """Update row after row as `hals` does, what the rest says of a block of them in one product.

    A row that does not move has itself as target, and no others. Of 1,280 columns a sweep of 512
    rows took 0.022 s for 0.030, of 1,024 0.053 for 0.106, of 4,096 0.6 for 4.1.
    """
    blocks = [slice(at, min(at + BLOCK, rows.shape[1])) for at in range(0, rows.shape[1], BLOCK)]
    for _ in range(sweeps):
        for block in blocks:
            check_stop()
            with all_threads():
                best = torch.baddbmm(targets[:, block], others[:, block], rows, alpha=-1)
            among = others[:, block, block]
            for j in range(best.shape[1]):
                new = best[:, j : j + 1].clamp(min=0)
                step = new - rows[:, block][:, j : j + 1]
                rows[:, block][:, j : j + 1] = new
                best[:, j + 1 :] -= among[:, j + 1 :, j : j + 1] * step
    return H
