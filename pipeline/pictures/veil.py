"""Pictures in the place of others: blurred past recognition, or grey with a word."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .typeset import Style, clean, draw, elide, width_of

SIDE, CELL = 12, 16
"""Cells along the long side of a blurred picture at most, and pixels of a cell at least."""

GREY, DARK = (214, 211, 209), (87, 83, 78)


def blurred(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average a picture over a twelfth of its side, or 16 pixels if that is more, drawn smoothly.

    Averages are all that is left: what was finer cannot be computed back, as it could of a
    convolution.

    Parameters
    ----------
    pixels : ndarray
        uint8 (height, width, 3).

    Returns
    -------
    ndarray
        uint8 (height, width, 3).
    """
    height, width = pixels.shape[:2]
    longest = max(height, width)
    scale = max(1, min(SIDE, longest // CELL)) / longest
    small = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(pixels).resize(small, Image.Resampling.BOX)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def placeholder(width: int, height: int, text: str = "") -> NDArray[np.uint8]:
    """Return a grey picture that says `text` in its middle, uint8 (height, width, 3)."""
    picture = Image.new("RGB", (width, height), GREY)
    if text:
        style = Style(max(8, min(width, height) // 6), bold=True, colour=DARK)
        line = elide(clean(text), style, 0.9 * width)
        left, baseline = (width - width_of(line, style)) / 2, (height + 0.7 * style.size) / 2
        draw(picture, (left, baseline), line, style)
    return np.asarray(picture)
