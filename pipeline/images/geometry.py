"""The way between an image's own pixels and the network's square input, and back.

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
from torchvision.transforms.v2 import functional as tv

Resize = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]

PREPROCESSING = 1
"""Version of the way from a file to the network's input; raised when a file gives other pixels."""

PAD_VALUE = 124
"""Grey level of the border that ``pad`` adds: near the mean of natural images."""


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


def fit_to_square(
    image: torch.Tensor, size: int, resize: Resize = "squash", scaling: Scaling | None = None
) -> tuple[torch.Tensor, Affine]:
    """Bring an image to the network's square input.

    Parameters
    ----------
    image : Tensor
        uint8 (3, height, width).
    size : int
        Side of the square in pixels.
    resize : {'squash', 'crop', 'pad'}
        ``squash`` stretches the whole image onto the square; ``crop`` is what classification
        networks are tested with (short side to ``size / scaling.crop``, centre crop); ``pad`` keeps
        the aspect and fills the rest with grey.
    scaling : Scaling, optional
        By default as in torchvision's classification preset.

    Returns
    -------
    Tensor
        uint8 (3, size, size).
    Affine
        From image coordinates to coordinates of the square.
    """
    scaling = scaling or Scaling()
    way = tv.InterpolationMode(scaling.interpolation)
    height, width = image.shape[-2:]
    if resize == "squash":
        square = _scale(image, size, size, way)
        return square, Affine(size / width, size / height, 0.0, 0.0)
    if resize == "crop":
        short = max(size, math.floor(size / scaling.crop))
        scale = short / min(height, width)
        new_height, new_width = max(short, int(height * scale)), max(short, int(width * scale))
        top, left = round((new_height - size) / 2), round((new_width - size) / 2)
        square = _scale(image, new_height, new_width, way)[:, top : top + size, left : left + size]
        return square.contiguous(), Affine(new_width / width, new_height / height, -left, -top)
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square = torch.full((3, size, size), PAD_VALUE, dtype=torch.uint8)
    square[:, top : top + new_height, left : left + new_width] = _scale(
        image, new_height, new_width, way
    )
    return square, Affine(new_width / width, new_height / height, left, top)


def _scale(image: torch.Tensor, height: int, width: int, way: tv.InterpolationMode) -> torch.Tensor:
    if image.shape[-2:] == (height, width):
        return image
    scaled: torch.Tensor = tv.resize(image, [height, width], interpolation=way, antialias=True)
    return scaled
