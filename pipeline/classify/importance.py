"""How much of the network's answer hangs on each concept: Sobol's total index, as CRAFT takes it.

Notation: one image's H (h, w, k), f(m) the logit of its class when each concept j is scaled by a
mask m_j in [0, 1], A and B two designs of N masks each, C_j the design A with column j from B:

    total_j = Σ_i (f(A)_i − f(C_j)_i)² / (2 N Var f)     (Jansen 1999)

the share of the logit's variance that is lost when all other masks are known. Where the logit is
additive (pool + linear) it is a_j² / Σ a², a the contributions: the sign is lost.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .answers import Answers

N_DESIGN = 32
"""Masks per design, as CRAFT's default; N (k + 2) answers per image."""

AT_ONCE = 256
"""Masks answered at once."""


def sobol_total(
    answers: Answers,
    H: torch.Tensor,
    classes: torch.Tensor,
    *,
    n_design: int = N_DESIGN,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Estimate every concept's total index, image by image.

    Parameters
    ----------
    answers : Answers
        Of the network to the concepts.
    H : Tensor
        float32 (n, h, w, k).
    classes : Tensor
        int64 (n,), the class whose logit is looked at.
    n_design : int
        Masks per design, a power of two.
    seed : int
        Of the scrambled Sobol sequence the masks are drawn from.

    Returns
    -------
    ndarray
        float64 (n, k), not negative; 0 throughout where the logit does not change at all.

    References
    ----------
    Fel, T. et al. (2023). CRAFT: Concept Recursive Activation FacTorization for Explainability.
    Jansen, M. J. W. (1999). Analysis of variance designs for model output.
    """
    k = H.shape[-1]
    A, B = _designs(n_design, k, seed)
    if answers.cut.head_kind == "pool_linear":  # all that such a head sees
        H = H.mean(dim=(1, 2), keepdim=True)
    found = np.zeros((len(H), k))
    for index in range(len(H)):
        one = answers.of(torch.tensor([index]))
        present = np.flatnonzero(H[index].flatten(0, 1).amax(0).numpy() > 0)
        masks = _mixed(A, B, present)
        values = torch.cat(
            [
                one.logit(H[index] * part[:, None, None, :], classes[index].expand(len(part)))
                for part in masks.split(AT_ONCE)
            ]
        )
        found[index, present] = _jansen(values.double().numpy(), n_design)
    return found


def rank_agreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's correlation of two importances; NaN where one of them is constant."""
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 2 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return float("nan")
    from scipy.stats import spearmanr  # takes half a second

    return float(spearmanr(a[known], b[known]).statistic)


def _designs(n: int, k: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the masks of A and B, float32 (n, k) each."""
    from scipy.stats import qmc

    drawn = qmc.Sobol(2 * k, rng=np.random.default_rng(seed)).random(n).astype(np.float32)
    return drawn[:, :k], drawn[:, k:]


def _mixed(
    A: NDArray[np.float32], B: NDArray[np.float32], concepts: NDArray[np.int64]
) -> torch.Tensor:
    """Return A, B and the C_j of some concepts one below the other, float32 (n (m + 2), k)."""
    mixed = np.tile(A, (len(concepts), 1, 1))
    mixed[np.arange(len(concepts)), :, concepts] = B.T[concepts]
    return torch.from_numpy(np.concatenate([A, B, mixed.reshape(-1, A.shape[1])]))


def _jansen(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    both, mixed = values[: 2 * n], values[2 * n :].reshape(-1, n)
    variance = both.var()
    # float32 logits of one image differ in their last bits even where nothing depends on the masks.
    if variance <= (1e-6 * max(1.0, float(np.abs(both).max()))) ** 2:
        return np.zeros(len(mixed))
    totals: NDArray[np.float64] = np.square(values[:n] - mixed).mean(1) / (2 * variance)
    return totals
