"""Where a concept counts as present: one threshold a concept for the whole dataset.

Notation: H positions × k in gauge units, h = 1 being a concept's typical strength.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

BOUNDS = (0.1, 1.0)
"""A threshold lies between a tenth of a concept's typical strength and that strength itself: below,
rounding would count as presence; above, the concept would be absent where it is as usual."""


def presence_thresholds(H: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find for every concept the strength that best parts strong from weak (Otsu).

    Zeros are left out: how many positions are free of a concept says nothing of how strong it is
    where it is. On the rendered sample, whose parts are known, this scores within a hundredth of
    the best single threshold found with the truth in hand (mean part IoU 0.198 against 0.195; with
    zeros 0.196, on square roots 0.148, per-image maxima 0.139).

    Parameters
    ----------
    H : ndarray
        float32 (positions, k), a sample of the dataset, gauge units.

    Returns
    -------
    ndarray
        float32 (k,), within `BOUNDS`; 0.5 for a concept with fewer than two distinct strengths.

    References
    ----------
    Otsu, N. (1979). A threshold selection method from gray-level histograms.
    """
    thresholds = np.full(H.shape[1], 0.5, dtype=np.float32)
    for concept, strengths in enumerate(H.T):
        positive = strengths[strengths > 0]
        if np.unique(positive).size > 1:
            thresholds[concept] = np.clip(threshold_otsu(positive), *BOUNDS)
    return thresholds
