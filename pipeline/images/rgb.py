"""Pictures of any mode to 8-bit RGB, a band at a time, so that no second copy of one is made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from . import deep
from .colours import to_srgb

BAND = 2**20
"""Pixels of a band: what is worked with between is small beside any large picture."""


def to_rgb(image: Image.Image) -> torch.Tensor:
    """Convert 8-bit pictures to uint8 (3, height, width), sRGB; transparency is laid on white."""
    pixels = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    for first, band in _bands(image):
        rgb = np.array(_band_to_rgb(band))
        pixels[:, first : first + band.height] = torch.from_numpy(rgb).permute(2, 0, 1)
    return pixels


def picture_to_rgb(image: Image.Image) -> torch.Tensor:
    """Convert a picture that is in memory, of any depth; a deep one has a range of its own."""
    kind = deep.kind_of(image)
    if kind is None or image.mode in ("RGB", "RGBA", "LA"):
        return to_rgb(image)
    values = np.asarray(image)
    return deep.to_rgb(values, *deep.range_of(deep.sample_of(values)))


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    image.load()
    height = max(1, BAND // image.width)
    for first in range(0, image.height, height):
        box = (0, first, image.width, min(first + height, image.height))
        yield first, image if height >= image.height else image.crop(box)


def _band_to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba).convert("RGB")
    elif image.mode not in ("RGB", "CMYK", "L"):
        image = image.convert("RGB")
    return to_srgb(image).convert("RGB")
