"""The way between an image's own pixels and the network's input, and back.

Coordinates are continuous: pixel i covers [i, i + 1) and has its centre at i + 0.5, in the image
and in the network's input alike. An `Affine` maps image coordinates to input coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

Resize = Literal["squash", "crop", "pad"]
InputSize = int | tuple[int, int]
"""Of a network's input, in pixels: the side of a square, or height and width."""

Interpolation = Literal["bilinear", "bicubic"]

PREPROCESSING = 1
"""Version of the way from a file to the network's input; raised when a file gives other pixels."""

PAD_VALUE = 124
"""Grey level of the border that ``pad`` adds: near the mean of natural images."""


def sides(size: InputSize) -> tuple[int, int]:
    """Return height and width of a network's input."""
    return (size, size) if isinstance(size, int) else size


def size_of(height: int, width: int) -> InputSize:
    """Return the size of a network's input of that height and width."""
    return height if height == width else (height, width)


@dataclass(frozen=True)
class Scaling:
    """How a network's images were scaled when it was trained.

    Attributes
    ----------
    interpolation : {'bilinear', 'bicubic'}
        Both with antialiasing.
    crop : float
        Side of the centre crop over the short side of the scaled image, 0 to 1.
    """

    interpolation: Interpolation = "bilinear"
    crop: float = 224 / 256


@dataclass(frozen=True)
class Affine:
    """x_input = scale_x · x_image + offset_x, and the same for y."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    def to_input(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map image coordinates (…, 2) to input coordinates (…, 2)."""
        return xy * (self.scale_x, self.scale_y) + (self.offset_x, self.offset_y)

    def to_image(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map input coordinates (…, 2) to image coordinates (…, 2)."""
        return (xy - (self.offset_x, self.offset_y)) / (self.scale_x, self.scale_y)

    def of_larger(self, size: tuple[int, int], original: tuple[int, int]) -> Affine:
        """Return the same from an original whose reduced copy, of `size`, this one is from."""
        x, y = size[0] / original[0], size[1] / original[1]
        return Affine(self.scale_x * x, self.scale_y * y, self.offset_x, self.offset_y)

    def as_array(self) -> NDArray[np.float64]:
        """Return (scale_x, scale_y, offset_x, offset_y)."""
        return np.array([self.scale_x, self.scale_y, self.offset_x, self.offset_y])


def fit_to_input(
    image: torch.Tensor, size: InputSize, resize: Resize = "squash", scaling: Scaling | None = None
) -> tuple[torch.Tensor, Affine]:
    """Bring an image to the size of the network's input.

    Parameters
    ----------
    image : Tensor
        uint8 (3, height, width).
    size : int or (int, int)
        Side of the square, or height and width, in pixels.
    resize : {'squash', 'crop', 'pad'}
        ``squash`` stretches the whole image onto the input; ``crop`` is what classification
        networks are tested with (scaled to cover ``size / scaling.crop``, centre crop); ``pad``
        keeps the aspect and fills the rest with grey.
    scaling : Scaling, optional
        By default as in torchvision's classification preset.

    Returns
    -------
    Tensor
        uint8 (3, height, width) of the input.
    Affine
        From image coordinates to coordinates of the input.
    """
    scaling = scaling or Scaling()
    way = scaling.interpolation
    height, width = image.shape[-2:]
    tall, wide = sides(size)
    if resize == "squash":
        fitted = _scale(image, tall, wide, way)
        return fitted, Affine(wide / width, tall / height, 0.0, 0.0)
    if resize == "crop":
        least = [max(side, math.floor(side / scaling.crop)) for side in (tall, wide)]
        scale = max(least[0] / height, least[1] / width)
        new_height, new_width = (
            max(least[0], int(height * scale)),
            max(least[1], int(width * scale)),
        )
        top, left = round((new_height - tall) / 2), round((new_width - wide) / 2)
        fitted = _scale(image, new_height, new_width, way)[:, top : top + tall, left : left + wide]
        return fitted.contiguous(), Affine(new_width / width, new_height / height, -left, -top)
    scale = min(tall / height, wide / width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (tall - new_height) // 2, (wide - new_width) // 2
    fitted = torch.full((3, tall, wide), PAD_VALUE, dtype=torch.uint8)
    fitted[:, top : top + new_height, left : left + new_width] = _scale(
        image, new_height, new_width, way
    )
    return fitted, Affine(new_width / width, new_height / height, left, top)


def mirrored(image: torch.Tensor, rows: range, columns: range) -> torch.Tensor:
    """Return a window of an image that goes on beyond its borders as in mirrors there.

    Parameters
    ----------
    image : Tensor
        (…, height, width).
    rows, columns : range
        Of the window, in the image's pixels, of any sign.

    Returns
    -------
    Tensor
        (…, len(rows), len(columns)); the pixels of the border stand once.
    """
    y, x = (
        torch.from_numpy(_mirror(np.arange(each.start, each.stop), n))
        for each, n in zip((rows, columns), image.shape[-2:], strict=True)
    )
    return image[..., y[:, None], x]


def _mirror(index: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    period = max(1, 2 * (n - 1))
    folded: NDArray[np.int64] = n - 1 - np.abs(n - 1 - index % period)
    return folded


def _scale(image: torch.Tensor, height: int, width: int, way: Interpolation) -> torch.Tensor:
    if image.shape[-2:] == (height, width):
        return image
    from torchvision.transforms.v2 import functional as tv  # takes a second and more

    mode = tv.InterpolationMode(way)
    scaled: torch.Tensor = tv.resize(image, [height, width], interpolation=mode, antialias=True)
    return scaled
