"""Scores of localization against ground truth: IoU of objects, one-to-one IoU of parts.

Notation: masks bool (n, height, width); concepts bool (n, k, height, width); parts integer
(n, height, width), 0 being background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Matching:
    """Which concept is which part, and how well they agree.

    Parameters
    ----------
    part_of_concept : dict
        Concept number to part number, one to one.
    ious : dict
        Part number to the IoU of its concept, pooled over images; 0 for a part without concept.
    """

    part_of_concept: dict[int, int]
    ious: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean IoU over all parts."""
        return float(np.mean(list(self.ious.values())))


def iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union (Jaccard index, J) of two masks; 1 where both are empty."""
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


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
    pairs = {int(row): part_ids[column] for row, column in zip(rows, columns, strict=True)}
    scored = _pooled_iou(concepts[~choose], parts[~choose], part_ids)
    ious = dict.fromkeys(part_ids, 0.0)
    for row, column in zip(rows, columns, strict=True):
        ious[part_ids[column]] = float(scored[row, column])
    return Matching(pairs, ious)


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
