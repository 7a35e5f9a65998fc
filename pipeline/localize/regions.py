"""Connected regions of maps: boxes, areas and scores, many maps at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MIN_AREA = 0.002
"""Regions with a smaller share of the image are left out: less than half a cell of a 14 × 14 grid
is interpolation, not sight."""

IN_PLANE = np.zeros((3, 3, 3), dtype=int)
IN_PLANE[1] = 1


@dataclass(frozen=True)
class Regions:
    """Regions found in m maps, map by map, the largest of each first.

    Parameters
    ----------
    map_index : ndarray
        int64 (n,), which map each is of.
    box : ndarray
        float64 (n, 4), half-open x0, y0, x1, y1 as shares of width and height.
    area : ndarray
        float64 (n,), share of the map.
    score : ndarray
        float64 (n,), mean strength within.
    """

    map_index: NDArray[np.int64]
    box: NDArray[np.float64]
    area: NDArray[np.float64]
    score: NDArray[np.float64]

    def pixels(self, sizes: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the boxes in original pixels, int32 (n, 4), given (width, height) of each map."""
        scale = np.tile(sizes[self.map_index], 2)
        low, high = np.floor(self.box * scale + 1e-9), np.ceil(self.box * scale - 1e-9)
        return np.where([True, True, False, False], low, high).astype(np.int32)


def find_regions(
    maps: NDArray[np.float32], thresholds: NDArray[np.float32], min_area: float = MIN_AREA
) -> Regions:
    """Find the connected regions (8 neighbours) in which maps reach their thresholds.

    Parameters
    ----------
    maps : ndarray
        float32 (m, height, width), each covering a whole image; NaN where nothing was seen.
    thresholds : ndarray
        float32 (m,), the strength from which on a map counts as present.
    min_area : float
        Smallest share of the map that counts.
    """
    labels, n_regions = ndimage.label(maps >= thresholds[:, None, None], structure=IN_PLANE)
    if n_regions == 0:
        nothing = np.zeros(0)
        return Regions(nothing.astype(np.int64), np.zeros((0, 4)), nothing, nothing)
    inside = np.flatnonzero(labels)
    of_cell = labels.ravel()[inside]
    counts = np.bincount(of_cell, minlength=n_regions + 1)[1:]
    sums = np.bincount(of_cell, maps.ravel()[inside], minlength=n_regions + 1)[1:]
    height, width = maps.shape[1:]
    which, box = _boxes(labels, inside, n_regions)
    area = counts / (height * width)
    kept = np.flatnonzero(area >= min_area)
    order = kept[np.lexsort((box[kept, 1], box[kept, 0], -area[kept], which[kept]))]
    return Regions(which[order], box[order], area[order], (sums / counts)[order])


def _boxes(
    labels: NDArray[np.int32], inside: NDArray[np.int64], n_regions: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the map, int64 (n,), and the box, float64 (n, 4), of each region; `inside` ascends."""
    of_cell = labels.ravel()[inside] - 1
    plane, row, column = np.unravel_index(inside, labels.shape)
    which = np.empty(n_regions, dtype=np.int64)
    which[of_cell] = plane
    low = np.full((2, n_regions), max(labels.shape))
    high = np.zeros_like(low)
    for axis, cells in enumerate((column, row)):
        np.minimum.at(low[axis], of_cell, cells)
        np.maximum.at(high[axis], of_cell, cells)
    height, width = labels.shape[1:]
    box = np.concatenate([low, high + 1]).T / [width, height, width, height]
    return which, box
