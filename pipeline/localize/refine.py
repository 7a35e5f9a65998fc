"""From a map of evidence to a mask with the image's own edges.

The image is divided into superpixels (scikit-image's SLIC), which become the nodes of a fully
connected conditional random field, solved by mean field. q_i, the probability that superpixel i
is object, is the logistic function of three terms:

    its evidence  +  ½ · log ratio of its colour's density in object and in background, as q says
                  +  3 · mean of 2 q − 1 over superpixels near it and like it in colour

References
----------
Krähenbühl, P. & Koltun, V. (2011). Efficient Inference in Fully Connected CRFs. Achanta, R. et al.
(2012). SLIC Superpixels. Rother, C. et al. (2004). GrabCut (the colour model of the image's own).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit
from skimage.color import rgb2lab
from skimage.segmentation import slic

SIDE = 224
"""Longer side at which edges are looked for, pixels; masks gain nothing from more."""

N_SUPERPIXELS = 600
"""About 9 × 9 pixels each: their own ceiling is J 0.83 on thin-legged animals."""

COLOUR = 8.0
"""Colours nearer than this in CIELAB (ΔE) support each other: plainly alike at a glance."""

FAR, NEAR = 0.5, 0.05
"""How far the colour model and the smoothing reach, in image sides; near is two superpixels."""

NEAR_WEIGHT = 3.0
"""A superpixel whose like neighbours agree gives way unless its evidence is strong."""

COLOUR_WEIGHT, MOST = 0.5, 3.0
"""Weight of what the colour model says, and the most it may say, in log odds. In full it would find
an object in the middle of most images whatever the evidence: the benchmark's controls gain more
from it than the real thing."""

ROUNDS = 6
"""Mean-field rounds; masks hardly change after the fourth."""


@dataclass(frozen=True)
class _Superpixels:
    """Labels (height, width) and, by superpixel, area (share), colour (CIELAB), centre (y, x)."""

    labels: NDArray[np.int64]
    area: NDArray[np.float32]
    colour: NDArray[np.float32]
    centre: NDArray[np.float32]

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean of values (height, width) in each superpixel."""
        n = len(self.area)
        sums = np.bincount(self.labels.ravel(), values.ravel().astype(np.float64), minlength=n)
        return (sums / np.bincount(self.labels.ravel(), minlength=n)).astype(np.float32)


Refiner = Callable[
    [NDArray[np.uint8], NDArray[np.float32]], NDArray[np.bool_] | NDArray[np.float32]
]
"""Takes an image, uint8 (height, width, 3), and evidence, float32 of `working_shape`: log odds of
object, NaN where the network did not see the image. Returns the mask, bool (height, width), or the
probability of object, float32, whose mask is what lies above a half."""


def working_shape(width: int, height: int) -> tuple[int, int]:
    """Return the (height, width) at which an image's edges are looked for."""
    scale = min(1.0, SIDE / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


def refine(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Part object from background along the image's edges: where `probability` is above a half."""
    mask: NDArray[np.bool_] = probability(image, evidence) > 0.5
    return mask


def probability(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how probably object is where, along the image's edges.

    Parameters
    ----------
    image : ndarray
        uint8 (height, width, 3), RGB.
    evidence : ndarray
        float32 of `working_shape`, log odds of object; NaN where the network did not see the
        image, which is never object.

    Returns
    -------
    ndarray
        float32 (height, width), 0 to 1.
    """
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize(evidence.shape[::-1], Image.Resampling.BILINEAR)
    found = _superpixels(np.asarray(small))
    q = _mean_field(found, found.mean(np.nan_to_num(evidence)))
    odds = np.where(np.isnan(evidence), 0.0, q[found.labels]).astype(np.float32)
    raised = Image.fromarray(odds).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(raised)


def _superpixels(image: NDArray[np.uint8]) -> _Superpixels:
    lab = rgb2lab(image).astype(np.float32)
    n_pixels = lab.shape[0] * lab.shape[1]
    labels = slic(
        lab,
        n_segments=max(1, min(N_SUPERPIXELS, n_pixels // 4)),
        compactness=10.0,
        sigma=1.0,
        max_num_iter=5,
        convert2lab=False,
        start_label=0,
        channel_axis=-1,
    )
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    area = np.bincount(labels.ravel()).astype(np.float32) / n_pixels
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]].astype(np.float32)
    plain = _Superpixels(labels, area, np.zeros(0, np.float32), np.zeros(0, np.float32))
    return _Superpixels(
        labels,
        area,
        np.stack([plain.mean(lab[..., channel]) for channel in range(3)], axis=1),
        np.stack([plain.mean(rows), plain.mean(columns)], axis=1) / max(labels.shape),
    )


def _mean_field(found: _Superpixels, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return q, float32 (superpixels,)."""
    unlike = _squared_distances(found.colour) / (2 * COLOUR**2)
    apart = _squared_distances(found.centre) / 2
    alike = np.exp(-unlike - apart / FAR**2) * found.area
    near = np.exp(-unlike - apart / NEAR**2) * found.area
    np.fill_diagonal(near, 0)
    near /= near.sum(1, keepdims=True) + 1e-9
    floor = 1e-3 * alike.sum(1)
    q = _logistic(evidence)
    for _ in range(ROUNDS):
        inside = alike @ q / (found.area @ q + 1e-9) + floor
        outside = alike @ (1 - q) / (found.area @ (1 - q) + 1e-9) + floor
        colour = COLOUR_WEIGHT * np.clip(np.log(inside / outside), -MOST, MOST)
        q = _logistic(evidence + colour + NEAR_WEIGHT * (near @ (2 * q - 1)))
    return q


def _squared_distances(x: NDArray[np.float32]) -> NDArray[np.float32]:
    squares = (x * x).sum(1)
    found: NDArray[np.float32] = squares[:, None] + squares - 2 * x @ x.T
    return np.maximum(found, 0)


def _logistic(x: NDArray[np.float32]) -> NDArray[np.float32]:
    q: NDArray[np.float32] = expit(x)
    return q
