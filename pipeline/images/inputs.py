"""From anything that is an image to the network's input: the one way pixels get there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import UserError
from .decode import (
    DecodeError,
    as_tensor,
    check_pixels,
    check_size,
    content_digest,
    decode_contents,
    read_original,
    to_rgb,
)
from .geometry import Affine, Resize, fit_to_square
from .source import DatasetSource, ImageRecord

ImageLike = str | Path | Image.Image | NDArray[np.uint8]


def load_image(image: ImageLike) -> NDArray[np.uint8]:
    """Return an image's pixels.

    Parameters
    ----------
    image : str, Path, PIL.Image.Image or ndarray
        A file, a picture, or uint8 (height, width, 3), RGB.

    Returns
    -------
    ndarray
        uint8 (height, width, 3), RGB, upright.

    Raises
    ------
    UserError
        The file cannot be read, or it is no such image.
    """
    called = image if isinstance(image, str | Path) else "this picture"
    try:
        if isinstance(image, np.ndarray):
            check_pixels(image)
            return np.ascontiguousarray(image)
        if isinstance(image, Image.Image):
            check_size(*image.size)
            return np.array(to_rgb(ImageOps.exif_transpose(image)))
        if isinstance(image, str | Path):
            return read_original(Path(image))
    except (DecodeError, OSError) as error:
        raise UserError(f"{called} cannot be used: {error}") from error
    raise UserError(
        "an image is a path, a PIL image or uint8 (height, width, 3), this is a"
        f" {type(image).__name__}"
    )


def read_image(source: DatasetSource, image: ImageRecord) -> tuple[torch.Tensor, str]:
    """Read and decode an image of a dataset.

    Returns
    -------
    pixels : Tensor
        uint8 (3, height, width), RGB, upright.
    digest : str
        Of its contents.

    Raises
    ------
    DecodeError
        It cannot be read or used; `digest` is that of what was read, empty where nothing was.
    """
    try:
        contents = source.read(image)
    except OSError as error:
        raise DecodeError(f"unreadable: {error.strerror or error}") from error
    digest = content_digest(contents)
    try:
        return decode_contents(contents), digest
    except DecodeError as error:
        error.digest = digest
        raise


def network_input(
    image: NDArray[np.uint8] | torch.Tensor, size: int, resize: Resize
) -> tuple[torch.Tensor, Affine]:
    """Bring decoded pixels to the network's input.

    Parameters
    ----------
    image : ndarray or Tensor
        uint8, RGB: an array (height, width, 3) or a tensor (3, height, width).
    size : int
        Side of the input, pixels.
    resize : {'squash', 'crop', 'pad'}
        How the image becomes a square.

    Returns
    -------
    pixels : Tensor
        uint8 (3, size, size).
    affine : Affine
        From the image's pixels to the input's.
    """
    if isinstance(image, np.ndarray):
        image = as_tensor(image)
    return fit_to_square(image, size, resize)
