"""Pixels of one image file: decoded by libjpeg-turbo where possible, else by Pillow; or refused.

Images are shown and measured as a viewer shows them: an EXIF orientation is applied.
"""

from __future__ import annotations

import hashlib
import io
import stat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.io import ImageReadMode

MAX_PIXELS = 178_956_970
"""Larger images are refused as decompression bombs (the limit at which Pillow refuses)."""

MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are refused unread: four channels of 16 bits need no more for the most pixels."""

MIN_SIDE = 8
"""Images with a shorter side hold nothing a network could see."""

MAX_ASPECT = 50
"""Images longer than so many times their width would be squashed beyond recognition."""

EXIF_ORIENTATION = 0x0112


class DecodeError(Exception):
    """An image that cannot be used; the text is the reason.

    `digest` is that of its contents, empty where they could not be read.
    """

    digest = ""


def decode(file: Path) -> torch.Tensor:
    """Read an image file.

    Parameters
    ----------
    file : Path
        A file in any format Pillow reads; its name's ending is not trusted.

    Returns
    -------
    Tensor
        uint8 (3, height, width), RGB, upright.

    Raises
    ------
    DecodeError
        The file is unreadable, truncated, no image, too small, too long or too large.
    """
    return decode_bytes(read_bytes(file))


def read_bytes(file: Path) -> bytes:
    """Read the contents of an image file.

    Raises
    ------
    DecodeError
        The file is unreadable, empty, too large, or a pipe or device, which might never end.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise DecodeError(f"too large: {status.st_size} bytes, at most {MAX_BYTES}")
        data = file.read_bytes()
    except OSError as error:
        raise DecodeError(f"file unreadable: {error.strerror}") from error
    if not data:
        raise DecodeError("empty file")
    return data


def decode_contents(contents: bytes | NDArray[np.uint8]) -> torch.Tensor:
    """Decode what a dataset source gives of an image: its file, or its pixels.

    Returns
    -------
    Tensor
        uint8 (3, height, width), RGB, upright.

    Raises
    ------
    DecodeError
        It is no image that can be used.
    """
    if isinstance(contents, bytes):
        return decode_bytes(contents)
    check_pixels(contents)
    return as_tensor(contents)


def as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Bring pixels, uint8 (height, width, 3), to a tensor (3, height, width) of its own."""
    return torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"])).permute(2, 0, 1).contiguous()


def decode_bytes(data: bytes) -> torch.Tensor:
    """Decode the contents of an image file, as `decode` does."""
    try:
        return _decode(data)
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError("not an image") from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"decompression bomb: more than {MAX_PIXELS} pixels") from error
    except Exception as error:
        # Decoders meet damage with every kind of exception; the file is at fault all the same.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DecodeError(f"cannot be decoded: {reason}") from error


def content_digest(contents: bytes | NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an image's contents, in hexadecimal."""
    if isinstance(contents, bytes):
        return hashlib.sha256(contents).hexdigest()
    shape = str((contents.shape, contents.dtype.str)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(contents).tobytes()).hexdigest()


def read_original(file: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 (height, width, 3), RGB, upright (see `decode`)."""
    pixels: NDArray[np.uint8] = decode(file).permute(1, 2, 0).contiguous().numpy()
    return pixels


def _decode(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        check_size(*image.size)
        plain = image.mode in ("RGB", "L") and image.getexif().get(EXIF_ORIENTATION, 1) == 1
        if image.format == "JPEG" and plain:
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            # The operator itself: torchvision's function around it warns of its deprecation, and
            # silencing a warning is not safe in the threads that decode.
            pixels: torch.Tensor = torch.ops.image.decode_jpeg(
                encoded, ImageReadMode.RGB.value, False
            )
            return pixels
        upright = ImageOps.exif_transpose(image)
        return as_tensor(np.array(to_rgb(upright)))


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


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB; transparency is laid on white, 16 bits are scaled to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(float(levels.max()), 1e-12)
        return Image.fromarray((levels / top * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
