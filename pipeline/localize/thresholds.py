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
    """Find for every concept the strength that best parts present from absent (Otsu).

    Strengths are heavy-tailed, so Otsu's two classes are found among their square roots; zeros are
    left out, for they are the majority in almost every concept and would decide alone.

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
        roots = np.sqrt(strengths[strengths > 0])
        if np.unique(roots).size > 1:
            thresholds[concept] = np.clip(threshold_otsu(roots) ** 2, *BOUNDS)
    return thresholds
