"""Few numbers for what many channels say: their strongest directions.

Notation: X (positions × channels), each channel brought to variance 1, its covariance C = U Λ Uᵀ;
z = Λ^(−½) Uᵀ (x − mean) over the largest eigenvalues, or, not whitened, z = Uᵀ (x − mean).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_POSITIONS = 16_384
"""Positions that directions are learned from: hundreds for each of the channels that are kept."""

LEAST = 1e-3
"""Share of the largest eigenvalue below which a direction is noise, and is not kept."""


@dataclass(frozen=True)
class Whitening:
    """The map x ↦ z.

    Parameters
    ----------
    mean : ndarray
        float32 (channels,).
    basis : ndarray
        float32 (channels, m), U Λ^(−½) or U, by the channels' deviations.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]

    def apply(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z, float32 (…, m), of X (…, channels)."""
        found: NDArray[np.float32] = X @ self.basis - self.mean @ self.basis
        return found


def fit_whitening(X: NDArray[np.float32], most: int, *, even: bool = True) -> Whitening:
    """Learn the strongest directions of channels.

    Parameters
    ----------
    X : ndarray
        float32 (…, channels).
    most : int
        Directions at most; fewer where the others are noise, none where X is constant.
    even : bool
        Whether each direction counts alike, with variance 1; else each channel does.
    """
    from scipy.linalg import eigh  # takes a fifth of a second

    n_channels = X.shape[-1]
    if not X.size:
        return Whitening(np.zeros(n_channels, np.float32), np.zeros((n_channels, 0), np.float32))
    rows = X.reshape(-1, n_channels)
    wide = rows[:: max(1, len(rows) // N_POSITIONS)].astype(np.float64)
    mean, scale = wide.mean(0), wide.std(0)
    scale = np.where(scale > 1e-6, scale, np.inf)  # neither scale nor offset of a channel matters
    standard = (wide - mean) / scale
    first = max(0, n_channels - most)
    values, U = eigh(standard.T @ standard / len(wide), subset_by_index=(first, n_channels - 1))
    kept = values > LEAST * max(values[-1], LEAST)
    basis = U[:, kept] / scale[:, None]
    if even:
        basis = basis / np.sqrt(values[kept])
    return Whitening(mean.astype(np.float32), basis.astype(np.float32))
