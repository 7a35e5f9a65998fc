"""Scores of localization against ground truth: IoU, CorLoc, one-to-one IoU of parts, NMI, ARI.

Notation: masks bool (n, height, width); concepts bool (n, k, height, width); parts integer
(n, height, width), 0 being background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Matching:
    """How well concepts agree with parts, matched one to one.

    Parameters
    ----------
    ious : dict
        Part number to the IoU of its concept, pooled over images; 0 for a part without concept.
    """

    ious: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean IoU over all parts."""
        return float(np.mean(list(self.ious.values())))


def iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union (Jaccard index, J) of two masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def box_of(mask: NDArray[np.bool_]) -> Box | None:
    """Return the half-open box x0, y0, x1, y1 around a mask's largest connected region."""
    labels, n_regions = ndimage.label(mask, structure=np.ones((3, 3)))
    if n_regions == 0:
        return None
    largest = int(np.bincount(labels.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(labels)[largest]
    return int(columns.start), int(rows.start), int(columns.stop), int(rows.stop)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two half-open boxes x0, y0, x1, y1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / (areas - both) if areas > both else 0.0


def contingency(
    found: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], n_found: int, n_truth: int
) -> NDArray[np.int64]:
    """Count how often each pair of labels meets, int64 (n_found, n_truth); labels from 0.

    Tables of several images add up to that of all their pixels.
    """
    pairs = found.ravel().astype(np.int64) * n_truth + truth.ravel()
    return np.bincount(pairs, minlength=n_found * n_truth).reshape(n_found, n_truth)


def normalized_mutual_information(table: NDArray[np.int64]) -> float:
    """Return mutual information over the mean of the two entropies, in [0, 1], of a contingency.

    1 where both sides have one label only.

    References
    ----------
    Strehl, A. & Ghosh, J. (2002). Cluster ensembles. (With the arithmetic mean, as scikit-learn.)
    """
    joint = table / max(1, table.sum())
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = (_entropy(rows) + _entropy(columns)) / 2
    if entropies == 0:
        return 1.0
    return float((_entropy(rows) + _entropy(columns) - _entropy(joint.ravel())) / entropies)


def adjusted_rand_index(table: NDArray[np.int64]) -> float:
    """Return the Rand index of a contingency, corrected for chance: 1 alike, 0 by chance.

    References
    ----------
    Hubert, L. & Arabie, P. (1985). Comparing partitions.
    """
    counts = table.astype(np.float64)
    both, rows, columns = (
        float((each * (each - 1)).sum() / 2) for each in (counts, counts.sum(1), counts.sum(0))
    )
    n = counts.sum()
    expected = rows * columns / max(1.0, n * (n - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def match_parts(
    concepts: NDArray[np.bool_],
    parts: NDArray[np.uint8],
    part_ids: list[int],
    choose: NDArray[np.bool_],
) -> Matching:
    """Match concepts to parts on some images and score the matches on the others.

    Parameters
    ----------
    concepts : ndarray
        bool (n, k, height, width).
    parts : ndarray
        integer (n, height, width).
    part_ids : list of int
        The parts there are; each is scored.
    choose : ndarray
        bool (n,), the images on which the one-to-one matching is decided (Hungarian, largest total
        IoU); the scores are of the others.
    """
    table = _pooled_iou(concepts[choose], parts[choose], part_ids)
    rows, columns = linear_sum_assignment(-table)
    scored = _pooled_iou(concepts[~choose], parts[~choose], part_ids)
    ious = dict.fromkeys(part_ids, 0.0)
    for row, column in zip(rows, columns, strict=True):
        ious[part_ids[column]] = float(scored[row, column])
    return Matching(ious)


def strongest(maps: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask every pixel for its strongest map after each map's per-image min-max scaling.

    The rule of pytorch-grad-cam's Deep Feature Factorization, for comparison.

    Parameters
    ----------
    maps : ndarray
        float32 (n, k, height, width).
    """
    low = maps.min(axis=(2, 3), keepdims=True)
    scaled = (maps - low) / (1e-7 + (maps - low).max(axis=(2, 3), keepdims=True))
    winner = scaled.argmax(axis=1)
    return np.asarray(winner[:, None] == np.arange(maps.shape[1])[:, None, None])


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _pooled_iou(
    concepts: NDArray[np.bool_], parts: NDArray[np.uint8], part_ids: list[int]
) -> NDArray[np.float64]:
    """IoU of every concept with every part, pixels of all images pooled: float64 (k, parts)."""
    flat = np.moveaxis(concepts, 1, 0).reshape(concepts.shape[1], -1).astype(np.float32)
    truth = np.stack([(parts == part).ravel() for part in part_ids]).astype(np.float32)
    both = (flat @ truth.T).astype(np.float64)
    sizes = flat.sum(1, dtype=np.float64)[:, None] + truth.sum(1, dtype=np.float64) - both
    shares: NDArray[np.float64] = both / np.maximum(sizes, 1)
    return shares
