"""How well factors of a layer are parts, beside pytorch-grad-cam's rule."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from pipeline.sample import PARTS

Masks = npt.NDArray[np.bool_]


class Factorizes(Protocol):
    """What estimators of NMF do."""

    def fit_transform(self, X: npt.NDArray[np.float32]) -> npt.ArrayLike:
        """Return H, (rows, k)."""


def part_ious(
    V: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8], model: Factorizes
) -> tuple[float, float, float]:
    """Match factors with parts on half of the scenes, and score them on the other.

    Parameters
    ----------
    V : ndarray
        float32 (n, h, w, channels), not negative.
    truth : ndarray
        uint8 (n, height, width), the part of each pixel, 0 for none.
    model : estimator
        What factorizes, as scikit-learn's.

    Returns
    -------
    ours, shuffled, gradcam : float
        Mean IoU over parts: with one threshold a factor; the same with masks of other scenes;
        and with the strongest of each image's own scaled maps.
    """
    n, height, width, channels = V.shape
    H = np.asarray(model.fit_transform(V.reshape(-1, channels)))
    H, k = H / ((H**2).sum(0) / H.sum(0)), H.shape[1]
    maps = torch.from_numpy(H.reshape(n, height, width, k)).permute(0, 3, 1, 2)
    maps = functional.interpolate(maps.float(), size=truth.shape[1:], mode="bilinear")
    ours = matched_iou((maps >= 0.5).numpy(), truth)
    shuffled = matched_iou((maps >= 0.5).numpy(), np.random.default_rng(0).permutation(truth))
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    strongest = ((maps - low) / (high - low).clamp_min(1e-9)).argmax(1, keepdim=True)
    gradcam = matched_iou((strongest == torch.arange(k).view(k, 1, 1)).numpy(), truth)
    print(f"part IoU {ours:.3f}, shuffled {shuffled:.3f}, pytorch-grad-cam's rule {gradcam:.3f}")
    return ours, shuffled, gradcam


def matched_iou(found: Masks, truth: npt.NDArray[np.uint8]) -> float:
    """Mean IoU over parts of masks (n, k, h, w) matched one to one on the first half."""
    half = len(truth) // 2
    concepts, parts = linear_sum_assignment(-ious(found[:half], truth[:half]))
    return float(ious(found[half:], truth[half:])[concepts, parts].sum() / len(PARTS))


def ious(found: Masks, truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """IoU of each concept with each part, over all pixels: (k, parts)."""
    counts = [np.bincount(truth[mask], minlength=len(PARTS) + 1) for mask in found.swapaxes(0, 1)]
    both = np.array(counts)
    part = np.bincount(truth.ravel(), minlength=len(PARTS) + 1)
    union = both.sum(axis=1, keepdims=True) + part - both
    shares: npt.NDArray[np.float64] = both / union
    return shares[:, 1:]
