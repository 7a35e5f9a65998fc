"""From the layer's grid to any size: bilinear between the true centres of the grid's cells.

A grid's cells do not sit at (i + ½) · width / w: their centres follow from the network's strides
and paddings, and an image reaches the network through an affine map. Both are honoured here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import Affine, InputSize, sides


@dataclass(frozen=True)
class Grid:
    """Where a layer's cells are in the network's input.

    Parameters
    ----------
    centres_y, centres_x : ndarray
        float64 (h,) and (w,), increasing, in pixel-index coordinates: pixel i has its centre at i.
    image_size : int or (int, int)
        Side of the network's square input, or its height and width, in pixels.
    """

    centres_y: NDArray[np.float64]
    centres_x: NDArray[np.float64]
    image_size: InputSize


def upsample(
    maps: NDArray[np.float32],
    grid: Grid,
    affine: Affine,
    size: tuple[int, int],
    shape: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Bring maps from the layer's grid to an image's size.

    Parameters
    ----------
    maps : ndarray
        float32 (n, h, w) on the grid.
    grid : Grid
        The grid's cells.
    affine : Affine
        From the image to the network's input.
    size : (width, height)
        Of the original image, in pixels.
    shape : (height, width), optional
        Of the outcome, which covers the whole image; the original size by default.

    Returns
    -------
    ndarray
        float32 (n, height, width); NaN where the network did not see the image. Beyond the
        outermost centres the nearest value holds.
    """
    width, height = size
    out_height, out_width = shape or (height, width)
    ys = (np.arange(out_height) + 0.5) * height / out_height
    xs = (np.arange(out_width) + 0.5) * width / out_width
    ys = ys * affine.scale_y + affine.offset_y
    xs = xs * affine.scale_x + affine.offset_x
    rows = _weights(ys - 0.5, grid.centres_y)
    columns = _weights(xs - 0.5, grid.centres_x)
    raised: NDArray[np.float32] = np.matmul(np.matmul(rows, maps), columns.T)
    tall, wide = sides(grid.image_size)
    raised[:, (ys < 0) | (ys > tall)] = np.nan
    raised[:, :, (xs < 0) | (xs > wide)] = np.nan
    return raised


def between_grids(maps: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Bring maps (n, h, w, channels) from one layer's cells to another's, bilinear."""
    rows = _weights(target.centres_y, source.centres_y)
    columns = _weights(target.centres_x, source.centres_x)
    n, h, w, channels = maps.shape
    tall = np.matmul(rows, maps.reshape(n, h, w * channels)).reshape(n, len(rows), w, channels)
    moved: NDArray[np.float32] = np.matmul(columns, tall)
    return moved


def _weights(at: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the matrix (len(at), len(centres)) of linear interpolation, clamped at the ends."""
    place = np.interp(at, centres, np.arange(len(centres)))
    low = np.minimum(place.astype(int), max(len(centres) - 2, 0))
    weights = np.zeros((len(at), len(centres)), dtype=np.float32)
    each = np.arange(len(at))
    weights[each, low] = 1 - (place - low)
    if len(centres) > 1:
        weights[each, low + 1] = place - low
    return weights
