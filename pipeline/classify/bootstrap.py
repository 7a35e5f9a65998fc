"""Means over images with their intervals, by resampling the images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_DRAWS = 2_000

Floats = NDArray[np.float64]


def interval(values: Floats, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Return mean, lower and upper end of the 95 % interval (percentile bootstrap).

    Parameters
    ----------
    values : ndarray
        float64 (n, ...), a row an image; whole rows are drawn.
    seed : int
        Of the draws.

    References
    ----------
    Efron, B. (1979). Bootstrap methods: another look at the jackknife.
    """
    n = len(values)
    rows = values.reshape(n, -1)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_DRAWS) / n
    low, high = np.percentile(weights @ rows, [2.5, 97.5], axis=0)
    shape = values.shape[1:]
    return rows.mean(0).reshape(shape), low.reshape(shape), high.reshape(shape)
