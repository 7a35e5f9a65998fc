"""Formats of image files that are opened, and by how much the largest may be decoded smaller."""

from __future__ import annotations

from PIL import Image

from .endings import HAS_HEIF

if HAS_HEIF:  # else Pillow knows nothing of them
    import pillow_heif

    pillow_heif.register_heif_opener()

_PLAIN = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

FORMATS = (*_PLAIN, "HEIF") if HAS_HEIF else _PLAIN
"""What is opened, by Pillow's names; to it, files of cameras that hold several pictures (MPO) are
JPEG. Pillow knows more, and runs programs for some: Ghostscript for EPS, however it is called.
"""

JPEGS = ("JPEG", "MPO")

ENOUGH = 64_000_000
"""Pixels from which a JPEG may be decoded at a reduced scale: some 4,000 a side are left."""


def divisor(image: Image.Image, reduced: bool) -> int:
    """Return by how much the sides of a picture may be divided while it is decoded."""
    if not reduced or image.format not in JPEGS or image.mode not in ("RGB", "L"):
        return 1
    n_pixels = image.width * image.height
    return next((each for each in (1, 2, 4) if n_pixels <= ENOUGH * each**2), 8)
