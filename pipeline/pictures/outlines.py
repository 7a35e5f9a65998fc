"""Masks and boxes as coloured outlines on small images, and images put into rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]


def outlines(
    pixels: Bytes,
    masks: Sequence[tuple[NDArray[np.bool_], Colour]],
    boxes: Sequence[tuple[tuple[float, float, float, float], Colour]],
    height: int,
) -> Bytes:
    """Draw outlines on an image brought to a height.

    Parameters
    ----------
    pixels : ndarray
        uint8 (height, width, 3), RGB.
    masks : sequence of (ndarray, colour)
        bool, of the image's size.
    boxes : sequence of (box, colour)
        Half-open x0, y0, x1, y1 in the image's pixels.
    height : int
        Of the outcome, pixels.

    Returns
    -------
    ndarray
        uint8 (height, width', 3).
    """
    scale = height / pixels.shape[0]
    shape = (max(1, round(pixels.shape[1] * scale)), height)
    shown = np.array(Image.fromarray(pixels).resize(shape))
    for mask, colour in masks:
        small = np.asarray(Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST))
        shown[find_boundaries(small, mode="thick")] = colour
    picture = Image.fromarray(shown)
    draw = ImageDraw.Draw(picture)
    for box, colour in boxes:
        draw.rectangle([edge * scale for edge in box], outline=colour)
    return np.asarray(picture)


def grid(rows: Sequence[Sequence[Bytes]]) -> Bytes:
    """Put pictures of one height into rows, on white: uint8 (height, width, 3)."""
    strips = [np.concatenate(row, axis=1) for row in rows if len(row)]
    width = max(strip.shape[1] for strip in strips)
    padded = [
        np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255)
        for strip in strips
    ]
    return np.concatenate(padded, axis=0)
