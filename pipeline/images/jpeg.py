"""JPEG by libjpeg-turbo, which prints nothing here and refuses what is damaged, saying how.

Pixels are those of Pillow and torchvision, bit by bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

Pixels = NDArray[Any]

START_OF_SCAN = b"\xff\xda"

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}
"""From pixels as stored to an upright picture, by EXIF's orientation (TIFF 6.0, tag 274)."""

LYING = (5, 6, 7, 8)
"""Orientations of pictures that are stored lying: their width is the stored height."""

ODD_SAMPLING = "Could not determine subsampling level"
"""What TurboJPEG says of whole files that it does not decode: colours sampled in a rare pattern."""


_BEFORE_END = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


class DamagedError(Exception):
    """A file that is not whole, or not for this decoder; the text says what is damaged."""


def decode_jpeg(data: bytes, orientation: int, least: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """Decode a JPEG, grey or of colours, that is whole.

    Parameters
    ----------
    data : bytes
        The file.
    orientation : int
        EXIF's; what is none of 1 to 8 turns nothing.
    least : (int, int)
        Width and height, as stored, that are enough: eighths of the picture at most are left out
        while it is decoded. (0, 0): the whole.

    Returns
    -------
    Tensor
        uint8 (3, height, width), RGB, upright.

    Raises
    ------
    DamagedError
        It is not whole: a decoder that bears with damage may still read it.
    """
    width, height = least
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    except ValueError as error:
        if (plain := _without_padding(data, str(error))) is not None:
            return decode_jpeg(plain, orientation, least)
        raise DamagedError("" if ODD_SAMPLING in str(error) else str(error)) from error
    if orientation in UPRIGHT:
        pixels = np.ascontiguousarray(UPRIGHT[orientation](pixels))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _without_padding(data: bytes, words: str) -> bytes | None:
    """Leave out what some cameras fill up with before the end, of which TurboJPEG warns.

    The same warning is often all there is to be told of damage: a decoder that has lost its place
    is done before the data are. So only zeros, or only ones, are padding; None for anything else.
    """
    found = _BEFORE_END.search(words)
    end = data.rfind(b"\xff\xd9")
    if found is None or end < 0 or not int(found[1]):
        return None
    padding = data[end - int(found[1]) : end]
    if not padding or (padding.strip(b"\0") and padding.strip(b"\xff")):
        return None
    return data[: end - len(padding)] + data[end:]
