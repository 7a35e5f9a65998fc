"""Pictures of any mode to 8-bit RGB, a band at a time, so that no second copy of one is made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

BAND = 2**20
"""Pixels of a band: what is worked with between is small beside any large picture."""


def to_rgb(image: Image.Image) -> torch.Tensor:
    """Convert to uint8 (3, height, width); transparency is laid on white, 16 bits are scaled to 8.

    Of floating point the largest value becomes white, and what is no number, black.
    """
    top = 65535.0
    if image.mode == "F":
        levels = (np.asarray(band) for _, band in _bands(image))
        finite = (each[np.isfinite(each)] for each in levels)
        top = max(1e-12, *(float(each.max(initial=0.0)) for each in finite))
    pixels = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    for first, band in _bands(image):
        rgb = np.array(_band_to_rgb(band, top))
        pixels[:, first : first + band.height] = torch.from_numpy(rgb).permute(2, 0, 1)
    return pixels


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    image.load()
    height = max(1, BAND // image.width)
    for first in range(0, image.height, height):
        box = (0, first, image.width, min(first + height, image.height))
        yield first, image if height >= image.height else image.crop(box)


def _band_to_rgb(image: Image.Image, top: float) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.nan_to_num(np.asarray(image, dtype=np.float64), neginf=0.0, posinf=top)
        return Image.fromarray((levels / top * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
