"""Pixels of one image file: decoded by libjpeg-turbo or by Pillow, or refused.

Images are shown and measured as a viewer shows them: an EXIF orientation is applied.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from . import deep
from .colours import has_other_colours
from .contents import read_bytes
from .formats import FORMATS, JPEGS, divisor
from .jpeg import LYING, UPRIGHT, DamagedError, decode_jpeg
from .limits import (
    MAX_PIXELS,
    MAX_PLAIN,
    DecodeError,
    check_header,
    check_pixels,
    check_scans,
    check_size,
)
from .metered import Metered
from .pages import note_of
from .pixel_rule import RULE, PixelRule, is_harmful
from .rgb import to_rgb
from .words import listening

NO_MEMORY = ("can't allocate memory", "not enough memory", "Insufficient memory")
"""What torch and libjpeg say, in errors of other kinds, where they are given no memory."""

EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """An image that was decoded.

    Attributes
    ----------
    pixels : Tensor
        uint8 (3, height, width), RGB, upright.
    size : (int, int)
        Width and height of the original, upright: `pixels` have fewer where it was decoded at a
        reduced scale.
    damage : str
        What its decoder says is wrong in the file; empty where nothing is.
    is_damaged : bool
        Whether pixels may be wrong for it.
    note : str
        What was read of the file where it holds more than that; else empty.
    """

    pixels: torch.Tensor
    size: tuple[int, int]
    damage: str = ""
    is_damaged: bool = False
    note: str = ""


def decode(file: Path, rule: PixelRule = RULE) -> torch.Tensor:
    """Read an image file.

    Parameters
    ----------
    file : Path
        A file in one of `FORMATS`; its name's ending is not trusted.
    rule : PixelRule

    Returns
    -------
    Tensor
        uint8 (3, height, width), RGB, upright.

    Raises
    ------
    DecodeError
        The file is unreadable, truncated, no image, too small, too long or too large.
    """
    return decode_bytes(read_bytes(file), rule).pixels


def decode_contents(
    contents: bytes | NDArray[np.uint8], rule: PixelRule = RULE, *, reduced: bool = False
) -> Picture:
    """Decode what a dataset source gives of an image: its file, or its pixels.

    Parameters
    ----------
    contents : bytes or ndarray
    rule : PixelRule
    reduced : bool
        See `decode_bytes`.

    Raises
    ------
    DecodeError
        It is no image that can be used.
    """
    if isinstance(contents, bytes):
        return decode_bytes(contents, rule, reduced=reduced)
    check_pixels(contents)
    return Picture(as_tensor(contents), (contents.shape[1], contents.shape[0]))


def as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Bring pixels, uint8 (height, width, 3), to a tensor (3, height, width) of its own."""
    return torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"])).permute(2, 0, 1).contiguous()


def decode_bytes(data: bytes, rule: PixelRule = RULE, *, reduced: bool = False) -> Picture:
    """Decode the contents of an image file.

    Parameters
    ----------
    data : bytes
    rule : PixelRule
    reduced : bool
        Whether a JPEG of more than `ENOUGH` pixels is decoded at a half, a quarter or an eighth of
        its sides, with more than any network or page takes left. The rule knows nothing of the
        machine: results do not depend on it.

    Raises
    ------
    DecodeError
        They are at fault.
    MemoryError
        There is not enough.
    """
    with _refusing():
        picture = _decode(data, rule, reduced)
    if rule.on_damage == "reject" and picture.is_damaged:
        raise DecodeError(f"damaged: {picture.damage}")
    return picture


def deep_sample(
    contents: bytes | NDArray[np.uint8], enough: Container[str] = ()
) -> tuple[str, NDArray[np.float64]] | None:
    """Return the kind and a sample of the values of an image of more than 8 bits; None of others.

    Of kinds of which there is enough nothing is decoded, and None returned.

    Raises
    ------
    DecodeError
        It cannot be used.
    """
    if not isinstance(contents, bytes):
        return None
    with _refusing(), listening() as heard:
        file = Metered(contents)
        with Image.open(file, formats=FORMATS) as image:
            check_header(image)
            kind = deep.kind_of(image)
            if kind is None or kind in enough:
                return None
            file.expect_picture()
            return kind, deep.sample_of(_deep_values(contents, image, heard))


def stored_orientation(contents: bytes | NDArray[np.uint8]) -> int:
    """Return EXIF's orientation of an image's contents; 1 where they have none."""
    if not isinstance(contents, bytes):
        return 1
    file = Metered(contents)
    with _refusing(), listening() as heard, Image.open(file, formats=FORMATS) as image:
        return _orientation(image, heard)


def read_original(file: Path, rule: PixelRule = RULE) -> NDArray[np.uint8]:
    """Read an image file as uint8 (height, width, 3), RGB, upright (see `decode`)."""
    pixels: NDArray[np.uint8] = decode(file, rule).permute(1, 2, 0).contiguous().numpy()
    return pixels


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise `DecodeError` for whatever decoders meet."""
    try:
        yield
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DecodeError("not an image") from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"decompression bomb: more than {MAX_PIXELS} pixels") from error
    except Exception as error:
        # Decoders meet damage with every kind of exception; the file is at fault all the same.
        reason = str(error).partition("\n")[0] or type(error).__name__
        if any(words in str(error) for words in NO_MEMORY):
            raise MemoryError(reason) from error
        raise DecodeError(f"cannot be decoded: {reason}") from error


def _decode(data: bytes, rule: PixelRule, reduced: bool) -> Picture:
    file = Metered(data)
    with listening() as heard, Image.open(file, formats=FORMATS) as image:
        check_header(image)
        file.expect_picture()
        kind = image.format
        picture = _first_picture(data, image, heard, rule, reduced)
    return replace(picture, note=note_of(data, kind))


def _first_picture(
    data: bytes, image: ImageFile.ImageFile, heard: list[str], rule: PixelRule, reduced: bool
) -> Picture:
    if image.format in JPEGS:
        check_scans(image, data)
        if image.mode in ("RGB", "L"):
            return _decode_jpeg(data, image, heard, divisor(image, reduced))
    if any(tile[0] == "ppm_plain" for tile in image.tile) and len(data) > MAX_PLAIN:
        raise DecodeError(f"too large: {len(data)} bytes of digits, at most {MAX_PLAIN}")
    deep.check_planes(image)
    if (kind := deep.kind_of(image)) is not None:
        return _decode_deep(data, image, heard, rule.range_of(kind))
    image.load()
    check_size(*image.size)  # that of HEIF may be another than its header says
    _turn_upright(image, heard)
    return _picture(to_rgb(image), image.size, heard)


def _picture(pixels: torch.Tensor, size: tuple[int, int], heard: list[str]) -> Picture:
    """Return a picture with what was heard of it, what harms first."""
    heard = sorted(heard, key=is_harmful, reverse=True)
    return Picture(pixels, size, "; ".join(heard[:2]), any(map(is_harmful, heard)))


def _decode_deep(
    data: bytes, image: Image.Image, heard: list[str], shown: tuple[float, float] | None
) -> Picture:
    """Decode an image of more than 8 bits."""
    values = _deep_values(data, image, heard)
    low, high = deep.range_of(deep.sample_of(values)) if shown is None else shown
    size = values.shape[1], values.shape[0]
    return _picture(deep.to_rgb(values, low, high), size, heard)


def _deep_values(data: bytes, image: Image.Image, heard: list[str]) -> deep.Values:
    values = deep.values_of(image, data)
    turn = UPRIGHT.get(_orientation(image, heard))
    if turn is None:
        return values
    if values.ndim == 3:
        return turn(values)
    return turn(values[..., None])[..., 0]


def _decode_jpeg(data: bytes, image: Image.Image, heard: list[str], divisor: int) -> Picture:
    """Decode a JPEG; where it is damaged, Pillow decodes what can be."""
    orientation = _orientation(image, heard)
    size = image.size[::-1] if orientation in LYING else image.size
    least = (0, 0)
    if divisor > 1:
        least = -(-image.width // divisor), -(-image.height // divisor)
    try:
        pixels = decode_jpeg(data, orientation, least)
        if has_other_colours(image):
            pixels = _profiled(pixels, image)
        return _picture(pixels, size, heard)
    except DamagedError as error:
        heard[:] = [str(error)] if str(error) else []
    if divisor > 1:
        image.draft(image.mode, least)
    image.load()
    _turn_upright(image, heard)
    return _picture(to_rgb(image), size, heard)


def _profiled(pixels: torch.Tensor, image: Image.Image) -> torch.Tensor:
    """Bring pixels decoded as they are to sRGB, by the profile of their file."""
    values = pixels.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(values[..., 0] if image.mode == "L" else values)
    picture.info["icc_profile"] = image.info["icc_profile"]
    return to_rgb(picture)


def _orientation(image: Image.Image, heard: list[str]) -> int:
    with _bearing(heard):
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    return 1


def _turn_upright(image: Image.Image, heard: list[str]) -> None:
    with _bearing(heard):
        ImageOps.exif_transpose(image, in_place=True)


@contextmanager
def _bearing(heard: list[str]) -> Iterator[None]:
    """Go on where metadata cannot be read, for the picture can; note it."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # of any kind, as when decoding
        heard.append(f"EXIF cannot be read: {error or type(error).__name__}")
