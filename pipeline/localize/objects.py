"""The object of an image: where the concepts stand that speak for the class it was taken for.

Notation: H (h, w, k) gauge units; evidence classes × k, what a unit of each concept adds to each
logit. A concept speaks for a class as far as it adds more to it than to the classes on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu


@dataclass(frozen=True)
class Foreground:
    """What is foreground, for every class.

    Parameters
    ----------
    weights : ndarray
        float32 (classes, k), not negative: how much a unit of a concept speaks for a class, scaled
        so that a typical image of the class reaches 1 at its strongest position.
    threshold : float
        Foreground strength that parts object from background, one for the dataset.
    """

    weights: NDArray[np.float32]
    threshold: float

    def maps(self, H: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return foreground strength, float32 (n, h, w), of H (n, h, w, k) for classes (n,)."""
        strength: NDArray[np.float32] = np.einsum("nhwk,nk->nhw", H, self.weights[classes])
        return strength


def fit_foreground(
    H: NDArray[np.float32], classes: NDArray[np.int64], evidence: NDArray[np.float32]
) -> Foreground:
    """Find what is foreground from a sample of images, without any ground truth.

    Parameters
    ----------
    H : ndarray
        float32 (n, h, w, k), heatmaps of a sample of images in gauge units.
    classes : ndarray
        int64 (n,), the class each image was taken for.
    evidence : ndarray
        float32 (classes, k).

    Returns
    -------
    Foreground
        The threshold is Otsu's over the sample's positions.

    References
    ----------
    Otsu, N. (1979). A threshold selection method from gray-level histograms.
    """
    weights = np.maximum(evidence - evidence.mean(0), 0)
    strength = Foreground(weights, 0.0).maps(H, classes)
    peaks = strength.max(axis=(1, 2))
    typical = float(np.median(peaks)) or 1.0
    scale = np.full(len(weights), typical)
    for class_id in np.unique(classes):
        scale[class_id] = float(np.median(peaks[classes == class_id])) or typical
    scaled = (weights / scale[:, None]).astype(np.float32)
    values = Foreground(scaled, 0.0).maps(H, classes)
    threshold = float(threshold_otsu(values)) if np.ptp(values) > 0 else 0.5
    return Foreground(scaled, threshold)
