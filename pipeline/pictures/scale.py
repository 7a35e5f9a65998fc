"""Pictures made smaller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def size_within(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return the width and height of a picture whose longer side is at most `longest`."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrunk(pixels: NDArray[np.uint8], longest: int) -> Image.Image:
    """Scale a picture, uint8 (height, width, 3), down to a longer side of at most `longest`."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    size = size_within(*picture.size, longest)
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
