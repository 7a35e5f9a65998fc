"""What an image may be: how large, how long, in how many scans; told from its header."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .jpeg import START_OF_SCAN

MAX_PIXELS = 178_956_970
"""Larger images are refused as decompression bombs (the limit at which Pillow refuses)."""

MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are refused unread: four channels of 16 bits need no more for the most pixels."""

MAX_SCANNED = 20 * MAX_PIXELS
"""Pixels times scans of a JPEG, each of which takes as long as a picture: a progressive one has
about ten, and a small file with thousands would keep a core for hours."""

MAX_PLAIN = 4_000_000
"""Bytes of a PPM written in digits, which Pillow reads in Python: two megabytes a second."""

MIN_SIDE = 8
"""Images with a shorter side hold nothing a network could see."""

MAX_ASPECT = 50
"""Images longer than so many times their width would be squashed beyond recognition."""

TILE_WIDTH, TILE_LENGTH = 0x0142, 0x0143


class DecodeError(Exception):
    """An image that cannot be used; the text is the reason.

    `digest` is that of its contents, empty where they could not be read.
    """

    digest = ""


def check_header(image: Image.Image) -> None:
    """Refuse an image for what its header says of its size."""
    check_size(*image.size)
    if tile_pixels(image) > MAX_PIXELS:
        raise DecodeError(f"decompression bomb: tiles of {tile_pixels(image)} pixels")


def check_scans(image: Image.Image, data: bytes) -> None:
    n_scans = data.count(START_OF_SCAN)
    if image.width * image.height * n_scans > MAX_SCANNED:
        size = f"{image.width} × {image.height} pixels"
        raise DecodeError(f"decompression bomb: {size} in {n_scans} scans")


def tile_pixels(image: Image.Image) -> int:
    """Return the pixels of a tile of a TIFF, which is decoded whole however small the image is."""
    tags = getattr(image, "tag_v2", {})
    sides = (tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0))
    return math.prod(side for side in sides if isinstance(side, int))


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Raise `DecodeError` for an array that is no image, or one of an impossible size."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DecodeError(
            f"an image is uint8 (height, width, 3), this is {pixels.dtype} {pixels.shape}"
        )
    check_size(pixels.shape[1], pixels.shape[0])


def check_size(width: int, height: int) -> None:
    """Raise `DecodeError` for an image too large, too small or too long."""
    if width * height > MAX_PIXELS:
        raise DecodeError(f"decompression bomb: {width} × {height} pixels")
    if min(width, height) < MIN_SIDE:
        raise DecodeError(f"too small: {width} × {height} pixels, at least {MIN_SIDE} a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DecodeError(f"too long: {width} × {height} pixels, at most {MAX_ASPECT} to 1")
