"""Images of more than 8 bits: which they are, their values, and the range of these that is shown.

A file says how many bits a value has, not which values occur: cameras write 12 bits into 16, maps
of depth a few thousand steps, simulations any number. So that equal values look alike in all
images, one range for the dataset becomes black to white: from the 0.1st to the 99.9th percentile of
a sample of it (`pipeline.runs.levels`), or what the option ``levels`` says. An image that belongs
to no dataset has a range of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .formats import FORMATS
from .limits import DecodeError
from .metered import Metered

UINT16, INT32, FLOAT32 = "16-bit", "32-bit", "floating point"
KINDS = (UINT16, INT32, FLOAT32)
"""Kinds of values, as users are told of them; each has a range of its own."""

Ranges = Mapping[str, tuple[float, float]]
"""Kind to the values that become black and white."""

PERCENTILES = (0.1, 99.9)

BAND = 2**17
"""Pixels of a band: what is worked with between is small beside any large picture."""

MOST_SAMPLED = 2**18
"""Values of an image that its percentiles are of, at most: evenly spread over it."""

OTHERWISE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

WIDE = {
    f"{colours};16{order}": f"{colours};16{other}"
    for colours in ("RGB", "RGBA")
    for order, other in OTHERWISE.items()
}
"""How colours of 16 bits are packed, in Pillow's words, and the same in the other byte order."""

GREY_AND_OPACITY = "LA;16B"

PLANAR = 0x011C
"""The TIFF tag that says whether colours lie pixel by pixel (1) or one after another (2)."""

BITS = 0x0102

Values = NDArray[Any]
"""uint16, int32 or float32."""


def kind_of(image: Image.Image) -> str | None:
    """Return the kind of an image's values; None for 8 bits and fewer. The header decides."""
    if image.mode.startswith("I;16"):
        return UINT16
    if _packing(image) in (*WIDE, GREY_AND_OPACITY):
        return UINT16
    return {"I": INT32, "F": FLOAT32}.get(image.mode)


def check_planes(image: Image.Image) -> None:
    """Refuse colours of 16 bits in planes, which Pillow takes for bytes."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(PLANAR) == 2 and len(image.getbands()) > 1 and max(tags.get(BITS, (8,))) > 8:
        raise DecodeError("16-bit colours in planes are not read: save them pixel by pixel")


def bytes_of(image: Image.Image) -> int:
    """Return the bytes that the values of a pixel of such an image have."""
    return 4 if image.mode in ("I", "F") else 2 * len(image.getbands())


def values_of(image: Image.Image, data: bytes) -> Values:
    """Return an image's values (height, width), or with colours (height, width, 2 to 4)."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image)
    return _wide(data)


def sample_of(values: Values) -> NDArray[np.float64]:
    """Return values of an image that its range is found from: finite, without transparency."""
    flat = _colours_of(values).ravel()
    some: NDArray[np.float64] = flat[:: max(1, len(flat) // MOST_SAMPLED)].astype(np.float64)
    return some[np.isfinite(some)]


def range_of(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Return the values that become black and white, given a sample of values."""
    if not len(sample):
        return 0.0, 1.0
    low, high = (float(each) for each in np.percentile(sample, PERCENTILES))
    if high > low:
        return low, high
    return (0.0, low) if low > 0 else (low, low + 1.0)


def to_rgb(values: Values, low: float, high: float) -> torch.Tensor:
    """Bring values to uint8 (3, height, width); what is no number is black, transparency white."""
    height, width = values.shape[:2]
    pixels = torch.empty(3, height, width, dtype=torch.uint8)
    for first, last in _bands(height, width):
        band = values[first:last].astype(np.float64).reshape(last - first, width, -1)
        opacity = band[..., -1:] / 65535 if band.shape[2] in (2, 4) else np.ones(1)
        shown = np.nan_to_num(
            (_colours_of(band) - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0
        )
        shown = shown.clip(0, 1) * opacity + (1 - opacity)
        levels = np.broadcast_to(np.rint(255 * shown).astype(np.uint8), (*shown.shape[:2], 3))
        pixels[:, first:last] = torch.from_numpy(np.array(levels)).permute(2, 0, 1)
    return pixels


def _colours_of(values: NDArray[Any]) -> NDArray[Any]:
    """Leave out transparency, the last of two or four."""
    if values.ndim == 3 and values.shape[2] in (2, 4):
        return values[..., :-1]
    return values


def _bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, BAND // width)
    for first in range(0, height, step):
        yield first, min(first + step, height)


def _packing(image: Image.Image) -> str:
    """Return how a file holds its colours, in Pillow's words; empty for a picture in memory."""
    tiles = getattr(image, "tile", None)
    if image.format not in ("PNG", "TIFF") or not tiles:
        return ""
    packing = tiles[0][3]
    return str(packing[0] if isinstance(packing, tuple) else packing)


def _wide(data: bytes) -> NDArray[np.uint16]:
    """Read colours of 16 bits, of which Pillow keeps eight: the upper ones, then the lower ones.

    It takes the lower for the upper where it is told that bytes are in the other order. Grey with
    transparency is read as four bytes.
    """
    upper, packing = _load(data, None)
    if packing == GREY_AND_OPACITY:
        pairs, _ = _load(data, "RGBA")
        upper, lower = pairs[..., ::2], pairs[..., 1::2]
    else:
        lower, _ = _load(data, WIDE[packing])
    return np.stack([upper, lower], -1).view(">u2")[..., 0].astype(np.uint16)


def _load(data: bytes, packing: str | None) -> tuple[NDArray[np.uint8], str]:
    """Decode a file as if it were packed otherwise; return how it is packed, too."""
    file = Metered(data)
    with Image.open(file, formats=FORMATS) as image:
        file.expect_picture()
        found = _packing(image)
        if packing is not None:
            image.tile = [
                tile._replace(
                    args=(packing, *tile.args[1:]) if isinstance(tile.args, tuple) else packing
                )
                for tile in image.tile
            ]
        return np.asarray(image), found
