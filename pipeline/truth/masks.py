"""Mask files to values, uninterpreted: pictures of any mode, arrays of NumPy and Matlab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images import FORMATS
from ..images.jpeg import LYING, UPRIGHT
from .matlab import read_matlab
from .reading import Kind, UnfitError, Values

LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
"""Modes of pictures whose values may be labels."""


def read_mask(
    path: Path, size: tuple[int, int], orientation: Callable[[], int]
) -> tuple[Kind, Values]:
    """Read the values of a mask.

    Parameters
    ----------
    path : Path
    size : (int, int)
        Width and height of its image, upright.
    orientation : callable
        EXIF's of the image, asked for where sides are exchanged: a mask may be stored lying, as
        its image is.

    Raises
    ------
    UnfitError
        It is no mask, cannot be read, or is not of the image's size.
    """
    kind: Kind = "labels"
    try:
        if path.suffix.lower() == ".npy":
            values = _whole(np.load(path, allow_pickle=False))
        elif path.suffix.lower() == ".mat":
            values = _whole(_of_matlab(path))
        else:
            kind, values = _of_picture(path, size)
    except (UnfitError, MemoryError):
        raise
    except Exception as error:  # readers meet damage with every kind of exception
        raise UnfitError(f"it cannot be read as a mask: {error}") from error
    if (
        values.shape[1::-1] != size
        and values.shape[:2] == size
        and (turn := orientation()) in LYING
    ):
        deep = values.reshape(*values.shape[:2], -1)
        values = np.ascontiguousarray(UPRIGHT[turn](deep)).reshape(
            size[1], size[0], *values.shape[2:]
        )
    _check_size(values.shape[1], values.shape[0], size)
    return kind, values


def _check_size(width: int, height: int, size: tuple[int, int]) -> None:
    if (width, height) != size:
        raise UnfitError(f"it is {width} × {height} pixels, its image is {size[0]} × {size[1]}")


def _of_picture(path: Path, size: tuple[int, int]) -> tuple[Kind, Values]:
    with Image.open(path, formats=FORMATS) as picture:
        if picture.size not in (size, size[::-1]):
            _check_size(*picture.size, size)
        if picture.format in ("JPEG", "MPO"):
            grey = np.asarray(picture.convert("L")).astype(np.int64)
            if picture.mode == "L" or _is_grey(np.asarray(picture.convert("RGB"))):
                return "grey", grey
            raise UnfitError("it is a JPEG with colours, which are not those that were painted")
        if picture.mode in LABEL_MODES:
            return "labels", np.asarray(picture).astype(np.int64)
        if picture.mode in ("RGBA", "LA", "PA"):
            return _with_opacity(np.asarray(picture.convert("RGBA")))
        return _with_colours(np.asarray(picture.convert("RGB")))


def _with_opacity(values: NDArray[np.uint8]) -> tuple[Kind, Values]:
    """Tell a picture cut out, or a mask of transparency alone, from what is opaque everywhere."""
    opacity = values[..., 3]
    if opacity.min() == 255:
        return "opaque", values[..., :3].astype(np.int64)
    return "opacity", opacity.astype(np.int64)


def _with_colours(values: NDArray[np.uint8]) -> tuple[Kind, Values]:
    if _is_grey(values):
        return "labels", values[..., 0].astype(np.int64)
    return "colours", values.astype(np.int64)


def _is_grey(values: NDArray[np.uint8]) -> bool:
    return bool((values[..., :1] == values).all())


def _of_matlab(path: Path) -> NDArray[Any]:
    arrays = read_matlab(path)
    if len(arrays) != 1:
        raise UnfitError(
            f"it holds {len(arrays)} arrays of two axes"
            f"{': ' + ', '.join(sorted(arrays)) if arrays else ''}; one is the mask"
        )
    return next(iter(arrays.values()))


def _whole(values: NDArray[Any]) -> Values:
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise UnfitError(
            f"it holds {values.dtype} {values.shape}, not whole numbers (height, width)"
        )
    whole = values.astype(np.int64)
    if not (whole == values).all():
        raise UnfitError("it holds fractions, not labels")
    return whole
