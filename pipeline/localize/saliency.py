"""Saliency's measures: mean absolute error, and the largest F of all thresholds.

Notation: S in [0, 1], how strongly object stands where; G bool, where it is. At threshold t
precision P(t) and recall R(t) are means over images; F(t) = (1 + β²) P R / (β² P + R), β² = 0.3.

References
----------
Achanta, R., Hemami, S., Estrada, F. & Susstrunk, S. (2009). Frequency-tuned salient region
detection. (F with β² = 0.3.) Perazzi, F. et al. (2012). Saliency filters. (Mean absolute error.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BETA2 = 0.3

LEVELS = 256
"""Thresholds: those of a picture of eight bits."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def mean_absolute_error(S: NDArray[np.float32], G: NDArray[np.bool_]) -> float:
    """Return the mean of |S − G| over pixels."""
    return float(np.abs(S - G).mean(dtype=np.float64)) if S.size else float("nan")


def precision_and_recall(S: NDArray[np.float32], G: NDArray[np.bool_]) -> Curve | None:
    """Return precision and recall of ``S ≥ t`` at thresholds 0, 1/255, …, 1.

    Precision is 1 where nothing is found. None where there is no object.
    """
    if not G.any():
        return None
    levels = np.rint(S * (LEVELS - 1)).astype(np.int64).ravel()
    inside = np.bincount(levels[G.ravel()], minlength=LEVELS)[::-1].cumsum()[::-1]
    found = np.bincount(levels, minlength=LEVELS)[::-1].cumsum()[::-1]
    precision = np.where(found > 0, inside / np.maximum(found, 1), 1.0)
    return precision, inside / inside[0]


def max_f(curves: Sequence[Curve]) -> float:
    """Return the largest F of the mean precision and recall of images."""
    if not curves:
        return float("nan")
    precision, recall = (np.mean([curve[part] for curve in curves], axis=0) for part in (0, 1))
    below = BETA2 * precision + recall
    F = (1 + BETA2) * precision * recall / np.where(below > 0, below, 1)
    return float(F.max())
