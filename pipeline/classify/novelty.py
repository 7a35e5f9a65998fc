"""Novelty: is more of an image left unexplained than of the images that the concepts come from?

Notation: v_p activations, r_p = v_p − D(W h_p) at position p of one image. Its *residual* is
‖r‖ / ‖v‖ over all positions; its *peak* is max_p ‖r_p‖ over the root mean square of ‖v_p‖, what no
concept explains at the place where that is most. (Relative to each position's own norm the peak
would lie where the image is dullest.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

LEAST = 20
"""Images a class needs for quantiles of its own; others are compared with all images."""

SHARES = np.linspace(0, 1, 101)

EVERY = -1
"""Stands for all classes among the classes of `Quantiles`."""


@dataclass(frozen=True)
class Quantiles:
    """How much is usually left unexplained, by the class an image is taken for.

    Parameters
    ----------
    classes : ndarray
        int64 (m,), the classes that have quantiles of their own; the first is `EVERY`.
    residual, peak : ndarray
        float32 (m, 101), the quantiles from 0 to 100 %.
    n : ndarray
        int64 (m,), images they are from.
    """

    classes: NDArray[np.int64]
    residual: NDArray[np.float32]
    peak: NDArray[np.float32]
    n: NDArray[np.int64]


@dataclass(frozen=True)
class Novelty:
    """How unusual an image is to the concepts.

    Attributes
    ----------
    residual, peak : float
        Percentiles among the images of its class, 0 to 100.
    class_id : int
        The class compared with; `EVERY` where it has too few images.
    n : int
        Images compared with.
    """

    residual: float
    peak: float
    class_id: int
    n: int


def unexplained(V: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure what is left of images.

    Parameters
    ----------
    V : Tensor
        float32 (n, h, w, channels).
    residual : Tensor
        float32 (n, h, w), ‖r_p‖ / ‖v_p‖.

    Returns
    -------
    Tensor
        float32 (n,), the images' residuals.
    Tensor
        float32 (n, h, w), ‖r_p‖ over the root mean square of ‖v_p‖; its maximum is the peak.
    """
    length = V.norm(dim=-1)
    typical = length.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-12)
    left = residual * length / typical
    return left.square().mean(dim=(1, 2)).sqrt(), left


def quantiles(
    residual: NDArray[np.float32], peak: NDArray[np.float32], classes: NDArray[np.int64]
) -> Quantiles:
    """Learn what is usual: residual, peak, and the class each image is taken for, all (n,)."""
    found, counts = np.unique(classes, return_counts=True)
    own = [int(each) for each in found[counts >= LEAST] if each != EVERY]
    groups = [np.ones(len(classes), dtype=bool), *(classes == each for each in own)]
    return Quantiles(
        classes=np.array([EVERY, *own], dtype=np.int64),
        residual=np.array([np.quantile(residual[each], SHARES) for each in groups], np.float32),
        peak=np.array([np.quantile(peak[each], SHARES) for each in groups], np.float32),
        n=np.array([each.sum() for each in groups], dtype=np.int64),
    )


def novelty(usual: Quantiles, residual: float, peak: float, class_id: int) -> Novelty:
    """Compare one image with those of the class it is taken for, or with all."""
    rows = np.flatnonzero(usual.classes == class_id)
    row = int(rows[0]) if len(rows) else 0
    return Novelty(
        residual=_percentile(usual.residual[row], residual),
        peak=_percentile(usual.peak[row], peak),
        class_id=int(usual.classes[row]),
        n=int(usual.n[row]),
    )


def _percentile(known: NDArray[np.float32], value: float) -> float:
    return 100 * float(np.interp(value, known, SHARES))
