"""Sums over positions of concepts of two levels at once: what stands beside what.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..system.threads import check_stop
from .data import squares_of_rows
from .lengths import inverse_lengths
from .passes import ENCODE_TOL
from .pursuit import Codes, Pursuit
from .solve import encode
from .sparse import power_of
from .stats import Stats, accumulate

ROWS = 4_096  # positions whose strengths are in memory at once


@dataclass(frozen=True, eq=False)
class Both:
    """Sums over positions of concepts, the fine ones, and of coarser ones.

    Attributes
    ----------
    fine, coarse : Stats
    leaves : Stats
        Of the fine ones over shortened positions (`sparse.power_of`), where they are to descend.
    cross : ndarray
        float64 (fine, coarse), Σ h_f h_c.
    beside : ndarray
        float64 (fine, coarse), the Σ h_f² where the coarse one stands.
    """

    fine: Stats
    coarse: Stats
    leaves: Stats
    cross: NDArray[np.float64]
    beside: NDArray[np.float64]

    def __add__(self, other: Both) -> Both:
        """Add what other positions have."""
        return Both(
            self.fine + other.fine,
            self.coarse + other.coarse,
            self.leaves + other.leaves,
            self.cross + other.cross,
            self.beside + other.beside,
        )


def sum_of(
    blocks: Iterable[Tensor],
    fine: Tensor,
    coarse: Tensor,
    active: int | None,
    above: NDArray[np.int64] | None,
) -> Both:
    """Sum `both_of` over blocks."""
    parts = (both_of(block.to(fine.device), fine, coarse, active, above) for block in blocks)
    return functools.reduce(operator.add, parts)


def both_of(
    V: Tensor,
    fine: Tensor,
    coarse: Tensor | None,
    active: int | None,
    above: NDArray[np.int64] | None = None,
) -> Both:
    """Encode positions by both.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32 or float16.
    fine, coarse : Tensor
        float32 (channels, n) each; without a coarse one only `Both.fine` is summed.
    active : int or None
        Concepts that a position has at most, of either; None: as many as explain most.
    above : ndarray, optional
        int64, the parent of each fine concept: it is taken up only where that stands.
    """
    n_channels, k = fine.shape
    n = 0 if coarse is None else coarse.shape[1]
    none, nothing = Stats.zeros(n_channels, k), np.zeros((k, n))
    total = Both(none, Stats.zeros(n_channels, n), none, nothing, nothing)
    of_fine = _Coder.of(fine, active)
    of_coarse = None if coarse is None else _Coder.of(coarse, active)
    parent = None if above is None else torch.from_numpy(above).to(V.device)
    for part in V.split(ROWS):
        check_stop()
        v = part.float()
        v_sq = float(squares_of_rows(v).sum())
        if of_coarse is None:
            found = replace(of_fine(v)[1], v_sq=v_sq)
            total = replace(total, fine=total.fine + found)
            continue
        h, coarse_sums, _ = of_coarse(v)
        H, sums, leaves = of_fine(v, None if parent is None else (h > 0)[:, parent])
        total = total + Both(
            fine=replace(sums, v_sq=v_sq),
            coarse=replace(coarse_sums, v_sq=v_sq),
            leaves=leaves or none,
            cross=(H.T @ h).double().cpu().numpy(),
            beside=(H.square().T @ (h > 0).float()).double().cpu().numpy(),
        )
    return total


@dataclass(frozen=True, eq=False)
class _Coder:
    """Finds the strengths of concepts, and sums what comes of them."""

    W: Tensor
    pursuit: Pursuit | None

    @staticmethod
    def of(W: Tensor, active: int | None) -> _Coder:
        return _Coder(W, None if active is None else Pursuit.of(W, active))

    def __call__(
        self, v: Tensor, allowed: Tensor | None = None
    ) -> tuple[Tensor, Stats, Stats | None]:
        """Give H, float32 (positions, k), its sums, and where some are allowed those of leaves."""
        if self.pursuit is None:
            H = encode(v, self.W, tol=ENCODE_TOL)
            return H, accumulate(v, H), None
        codes = self.pursuit.codes(v, allowed)
        H = codes.dense(v.new_empty(len(v), self.W.shape[1]))
        leaves = None
        if allowed is not None:  # of a position that is longer, codes are as much stronger
            scale = inverse_lengths(v) ** power_of(self.pursuit.n_active)
            shorter = Codes(codes.concepts, codes.strengths * scale)
            leaves = self.pursuit.stats(v * scale, shorter)
        return H, self.pursuit.stats(v, codes), leaves
