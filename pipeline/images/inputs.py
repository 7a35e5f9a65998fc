"""From anything that is an image to the network's input: the one way pixels get there."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import UserError, option
from ..system.heap import hand_back
from ..system.memory import TooMuch
from .contents import content_digest, refusal
from .cost import DECODING, decoding_bytes
from .decode import Picture, as_tensor, decode_contents, deep_sample, read_original
from .geometry import Affine, InputSize, Resize, Scaling, fit_to_input
from .limits import MAX_BYTES, DecodeError, check_pixels, check_size
from .pixel_rule import RULE, PixelRule
from .rgb import picture_to_rgb
from .source import Contents, DatasetSource, ImageRecord
from .trouble import GO_ON, patiently

LARGE = 300_000_000
"""Images that take more bytes hand them back at once: the holes they leave fit no other image."""

ImageLike = str | Path | Image.Image | NDArray[np.uint8]


def load_image(image: ImageLike, rule: PixelRule = RULE) -> NDArray[np.uint8]:
    """Return an image's pixels.

    Parameters
    ----------
    image : str, Path, PIL.Image.Image or ndarray
        A file, a picture, or uint8 (height, width, 3), RGB.
    rule : PixelRule
        How a file's pixels are read.

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
            pixels = picture_to_rgb(ImageOps.exif_transpose(image)).permute(1, 2, 0)
            return pixels.contiguous().numpy()
        if isinstance(image, str | Path):
            return patiently(image, lambda: read_original(Path(image), rule))
    except (DecodeError, OSError) as error:
        raise UserError(f"{called} cannot be used: {error}") from error
    except MemoryError as error:
        raise UserError(f"{called} cannot be decoded: memory ran out") from error
    raise UserError(
        "an image is a path, a PIL image or uint8 (height, width, 3), this is a"
        f" {type(image).__name__}"
    )


def read_image(
    source: DatasetSource, image: ImageRecord, rule: PixelRule = RULE
) -> tuple[torch.Tensor, str]:
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
    UserError
        Disk, network or memory do not serve, and trying again did not help.
    """
    with decoded(source, image, rule) as (picture, digest):
        return picture.pixels, digest


@contextmanager
def decoded(
    source: DatasetSource, image: ImageRecord, rule: PixelRule, *, reduced: bool = False
) -> Iterator[tuple[Picture, str]]:
    """Read and decode an image as `read_image` does, its memory held within the block.

    Where that is enough (`reduced`), large JPEGs are decoded at a reduced scale.

    Whoever decodes takes what that needs from one budget (`DECODING`): large images wait for each
    other. How large one is, its file says once it is read; where that is too much for now, the file
    is let go and read again when there is room.
    """
    needed = image.size if image.size <= MAX_BYTES else 0
    while True:
        try:
            with DECODING.hold(needed) as share:
                contents = read_contents(source, image)
                needed = decoding_bytes(contents, reduced=reduced)
                if share.grow(needed):
                    yield _decode(contents, image, rule, reduced)
                    if needed > LARGE:
                        hand_back()
                    return
        except TooMuch as error:
            raise UserError(
                f"{image.path} takes up to {error.n_bytes / 1e9:.2f} GB to decode, and"
                f" {error.total / 1e9:.2f} GB are left for that; allow more"
                f" {option('max_memory')}, take fewer {option('workers')}, or take the image out of"
                " the dataset"
            ) from error


def _decode(
    contents: Contents, image: ImageRecord, rule: PixelRule, reduced: bool
) -> tuple[Picture, str]:
    digest = content_digest(contents)
    try:
        return decode_contents(contents, rule, reduced=reduced), digest
    except DecodeError as error:
        error.digest = digest
        raise
    except MemoryError as error:
        raise UserError(
            f"{image.path} could not be decoded: memory ran out; let other work end, or take fewer"
            f" {option('workers')}, then {GO_ON}"
        ) from error


def sample_values(
    source: DatasetSource, image: ImageRecord, enough: Container[str]
) -> tuple[str, NDArray[np.float64]] | None:
    """Return the kind and a sample of the values of an image of more than 8 bits; None of others,
    and of kinds of which there is enough.

    Raises
    ------
    DecodeError
        It cannot be read or used.
    TooMuch
        It takes more memory to decode than there is.
    """
    contents = read_contents(source, image)
    with DECODING.hold(decoding_bytes(contents)):
        return deep_sample(contents, enough)


def read_contents(source: DatasetSource, image: ImageRecord) -> Contents:
    """Read what a dataset holds of an image; trouble that passes is waited for.

    Raises
    ------
    DecodeError
        It cannot be read.
    UserError
        The trouble is not the image's, and does not pass.
    """
    try:
        return patiently(image.path, lambda: source.read(image))
    except OSError as error:
        raise refusal(error) from error


def network_input(
    image: NDArray[np.uint8] | torch.Tensor,
    size: InputSize,
    resize: Resize,
    scaling: Scaling | None = None,
    original: tuple[int, int] | None = None,
) -> tuple[torch.Tensor, Affine]:
    """Bring decoded pixels to the network's input.

    Parameters
    ----------
    image : ndarray or Tensor
        uint8, RGB: an array (height, width, 3) or a tensor (3, height, width).
    size : int or (int, int)
        Side of a square input, or height and width, pixels.
    resize : {'squash', 'crop', 'pad'}
        How the image gets that size.
    scaling : Scaling, optional
        As the network's images are scaled; by default as torchvision does.
    original : (int, int), optional
        Width and height of the image, where `image` was decoded at a reduced scale.

    Returns
    -------
    pixels : Tensor
        uint8 (3, height, width) of the input.
    affine : Affine
        From the image's pixels to the input's.
    """
    if isinstance(image, np.ndarray):
        image = as_tensor(image)
    fitted, affine = fit_to_input(image, size, resize, scaling)
    height, width = image.shape[-2:]
    return fitted, affine if original is None else affine.of_larger((width, height), original)
