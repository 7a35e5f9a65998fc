"""Is a concept's top class better than chance? A null of norm-matched real positions.

For a vector x let z_c(x) be its logit of class c, standardised by the mean and the deviation that
real positions of the same norm have for that class, and T(x) = max_c z_c(x). A concept's p is the
share of real positions whose T reaches its own; Benjamini-Hochberg over concepts follows. Channels
permuted at random would be no null: every concept passes there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

LEVEL = 0.05
"""False discovery rate at which a label counts as better than chance."""


@dataclass(frozen=True)
class NullTest:
    """Outcome for m vectors: z float32 (m, classes), p float64 (m,), significant bool (m,)."""

    z: NDArray[np.float32]
    p: NDArray[np.float64]
    significant: NDArray[np.bool_]


def null_test(
    score: Callable[[torch.Tensor], torch.Tensor],
    vectors: torch.Tensor,
    positions: torch.Tensor,
) -> NullTest:
    """Compare the head's answers to vectors with its answers to real positions.

    Parameters
    ----------
    score : callable
        From float32 (n, channels), in transformed space, to logits float32 (n, classes).
    vectors : Tensor
        float32 (m, channels), the concepts' context vectors.
    positions : Tensor
        float32 (n, channels), real positions, at least 1,000 of them where there are as many;
        those that are zero are left out.

    Returns
    -------
    NullTest
        p is (1 + how many positions reach the vector's T) / (1 + n); a zero vector has p = 1.

    References
    ----------
    Phipson, B. & Smyth, G. (2010). Permutation p-values should never be zero.
    Benjamini, Y. & Hochberg, Y. (1995). Controlling the false discovery rate.
    """
    real = positions[positions.norm(dim=1) > 0]
    directions = real / real.norm(dim=1, keepdim=True)
    z = []
    p = np.ones(len(vectors))
    for index, vector in enumerate(vectors):
        null = score(directions * vector.norm())
        mean, deviation = null.mean(0), null.std(0).clamp_min(1e-6)
        own = (score(vector[None])[0] - mean) / deviation
        z.append(own)
        if vector.norm() > 0:
            reached = ((null - mean) / deviation).amax(1) >= own.max()
            p[index] = (1 + int(reached.sum())) / (1 + len(real))
    return NullTest(torch.stack(z).numpy(), p, benjamini_hochberg(p) <= LEVEL)


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values for the false discovery rate; NaN stays NaN and counts for nothing."""
    adjusted = np.full_like(p, np.nan)
    known = ~np.isnan(p)
    if known.any():
        adjusted[known] = false_discovery_control(p[known])
    return adjusted
