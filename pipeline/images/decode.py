"""Pixels of one image file: decoded by libjpeg-turbo or by Pillow, or refused.

Images are shown and measured as a viewer shows them: an EXIF orientation is applied.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..system.memory import Budget
from .jpeg import LYING, DamagedError, decode_jpeg
from .limits import (
    MAX_BYTES,
    MAX_PIXELS,
    MAX_PLAIN,
    DecodeError,
    check_header,
    check_pixels,
    check_scans,
    tile_pixels,
)
from .metered import Metered
from .rgb import to_rgb
from .trouble import UNREADABLE, is_of_the_file
from .words import listening

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is opened, by Pillow's names; to it, files of cameras that hold several pictures (MPO) are
JPEG. Pillow knows more, and runs programs for some: Ghostscript for EPS, however it is called.
"""

DECODING = Budget()
"""Bytes that all threads decoding images share; see `runs.estimate.bound_decoding`."""

COST, WEBP_COST, DECODING_FIXED = 10, 18, 32_000_000
"""Bytes a pixel takes while it is decoded and scaled, and an image whatever its size. Measured: 9
(progressive JPEG, floating point), 8 (8-bit colours), 7 (16-bit greys) and, of WebP, 17."""

COEFFICIENTS = 6
"""Bytes a pixel's coefficients take in a progressive JPEG, at most."""

ENOUGH = 64_000_000
"""Pixels from which a JPEG may be decoded at a reduced scale: some 4,000 a side are left."""

NO_MEMORY = ("can't allocate memory", "not enough memory", "Insufficient memory")
"""What torch and libjpeg say, in errors of other kinds, where they are given no memory."""

JPEGS = ("JPEG", "MPO")

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
    """

    pixels: torch.Tensor
    size: tuple[int, int]
    damage: str = ""


def decode(file: Path) -> torch.Tensor:
    """Read an image file.

    Parameters
    ----------
    file : Path
        A file in one of `FORMATS`; its name's ending is not trusted.

    Returns
    -------
    Tensor
        uint8 (3, height, width), RGB, upright.

    Raises
    ------
    DecodeError
        The file is unreadable, truncated, no image, too small, too long or too large.
    """
    return decode_bytes(read_bytes(file)).pixels


def read_bytes(file: Path) -> bytes:
    """Read the contents of an image file.

    Raises
    ------
    DecodeError
        The file is unreadable, empty, too large, or a pipe or device, which might never end.
    OSError
        The trouble is not the file's, and may pass.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise DecodeError(f"too large: {status.st_size} bytes, at most {MAX_BYTES}")
        if status.st_size == 0:  # so say files of /proc, too, reading which may wait for ever
            raise DecodeError("empty file")
        with file.open("rb") as opened:
            data = opened.read(status.st_size + 1)  # it may grow meanwhile
    except OSError as error:
        raise refusal(error) from error
    if len(data) != status.st_size:
        raise DecodeError(f"{UNREADABLE}: its size changed while it was read")
    return data


def refusal(error: OSError) -> DecodeError:
    """Return the refusal of an image for an error of its file; raise any other error as it is."""
    if not is_of_the_file(error):
        raise error
    if error.errno is None:
        return DecodeError("not an image")
    return DecodeError(f"{UNREADABLE}: {error.strerror}")


def decode_contents(contents: bytes | NDArray[np.uint8], *, reduced: bool = False) -> Picture:
    """Decode what a dataset source gives of an image: its file, or its pixels.

    Parameters
    ----------
    contents : bytes or ndarray
    reduced : bool
        See `decode_bytes`.

    Raises
    ------
    DecodeError
        It is no image that can be used.
    """
    if isinstance(contents, bytes):
        return decode_bytes(contents, reduced=reduced)
    check_pixels(contents)
    return Picture(as_tensor(contents), (contents.shape[1], contents.shape[0]))


def as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Bring pixels, uint8 (height, width, 3), to a tensor (3, height, width) of its own."""
    return torch.from_numpy(np.require(pixels, np.uint8, ["C", "W"])).permute(2, 0, 1).contiguous()


def decode_bytes(data: bytes, *, reduced: bool = False) -> Picture:
    """Decode the contents of an image file.

    Parameters
    ----------
    data : bytes
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
    try:
        return _decode(data, reduced)
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


def decoding_bytes(contents: bytes | NDArray[np.uint8], *, reduced: bool = False) -> int:
    """Return the most bytes it takes to hold contents, decode them and scale what they show.

    Those that will be refused for their header or their size take no more than they are.
    """
    if not isinstance(contents, bytes):
        return 4 * contents.nbytes
    try:
        with listening(), Image.open(Metered(contents), formats=FORMATS) as image:
            check_header(image)
            cost = WEBP_COST if image.format == "WEBP" else COST
            n_pixels = max(image.width * image.height, tile_pixels(image))
            n_bytes = n_pixels * cost // _divisor(image, reduced) ** 2
            if image.info.get("progressive"):  # its coefficients are kept whole
                n_bytes = min(n_pixels * cost, n_bytes + n_pixels * COEFFICIENTS)
            # Some decoders hold the file twice.
            return n_bytes + 2 * len(contents) + DECODING_FIXED
    except MemoryError:
        raise
    except Exception:  # decoding will meet it too, and say what it is
        return len(contents)


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


def _decode(data: bytes, reduced: bool) -> Picture:
    file = Metered(data)
    with listening() as heard, Image.open(file, formats=FORMATS) as image:
        check_header(image)
        file.expect_picture()
        if image.format in JPEGS:
            check_scans(image, data)
            if image.mode in ("RGB", "L"):
                return _decode_jpeg(data, image, heard, _divisor(image, reduced))
        if any(tile[0] == "ppm_plain" for tile in image.tile) and len(data) > MAX_PLAIN:
            raise DecodeError(f"too large: {len(data)} bytes of digits, at most {MAX_PLAIN}")
        image.load()
        _turn_upright(image, heard)
        return Picture(to_rgb(image), image.size, "; ".join(heard[:2]))


def _decode_jpeg(data: bytes, image: Image.Image, heard: list[str], divisor: int) -> Picture:
    """Decode a JPEG; where it is damaged, Pillow decodes what can be."""
    orientation = _orientation(image, heard)
    size = image.size[::-1] if orientation in LYING else image.size
    least = (0, 0)
    if divisor > 1:
        least = -(-image.width // divisor), -(-image.height // divisor)
    try:
        return Picture(decode_jpeg(data, orientation, least), size, "; ".join(heard))
    except DamagedError as error:
        heard[:] = [str(error)] if str(error) else []
    if divisor > 1:
        image.draft(image.mode, least)
    image.load()
    _turn_upright(image, heard)
    return Picture(to_rgb(image), size, "; ".join(heard[:2]))


def _divisor(image: Image.Image, reduced: bool) -> int:
    """Return by how much the sides of a picture may be divided while it is decoded."""
    if not reduced or image.format not in JPEGS or image.mode not in ("RGB", "L"):
        return 1
    n_pixels = image.width * image.height
    return next((each for each in (1, 2, 4) if n_pixels <= ENOUGH * each**2), 8)


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
