"""Images that a program holds, as files: bytes stay what they are, pixels lose nothing.

Arrays, tensors and PIL's pictures become PNG of 8 or 16 bits, or TIFF where values are floating
point or have 32 bits; the reader has rules for all of these (`pipeline.images.deep`).
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from ..contents import read_bytes
from ..decode import EXIF_ORIENTATION
from ..limits import DecodeError, check_size

CHANNELS = (1, 2, 3, 4)
"""Grey, colours, and either with transparency."""

NEAR = 2e-4
"""How near bytes times 255 are to whole numbers where they were divided by that."""

WITHOUT = "give the dataset without Normalize, and best without ToTensor"


@dataclass(frozen=True)
class Pixels:
    """An image without a file.

    Attributes
    ----------
    values : ndarray
        uint8 or uint16 (height, width) or (height, width, 2 to 4); int32 or float32 (height,
        width).
    profile : bytes
        Its colour profile (ICC), empty where it has none.
    """

    values: NDArray[Any]
    profile: bytes = b""


def is_image(value: Any) -> bool:
    """Say whether a value may stand for an image: its file, its path, or its pixels."""
    if isinstance(value, str | Path | bytes | bytearray | memoryview | Image.Image):
        return True
    if isinstance(value, Mapping):
        return "bytes" in value and "path" in value
    return len(getattr(value, "shape", ())) >= 2


def contents_of(value: Any) -> bytes | Pixels:
    """Return an image's file where it has one, else its pixels.

    Raises
    ------
    DecodeError
        It is no image that can be kept as it is.
    OSError
        Its file cannot be read, which may pass.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | Path):
        return read_bytes(Path(value).expanduser())
    if isinstance(value, Mapping):
        data = value.get("bytes")
        return read_bytes(Path(str(value.get("path")))) if data is None else bytes(data)
    if isinstance(value, Image.Image):
        file = file_of(value)
        return _of_picture(value) if file is None else read_bytes(file)
    is_tensor = hasattr(value, "detach")
    values = value.detach().cpu().numpy() if is_tensor else np.asarray(value)
    return Pixels(_of_array(values, is_tensor))


def file_of(picture: Image.Image) -> Path | None:
    """Return the file that a picture was opened from and still is; None where there is none."""
    name = getattr(picture, "filename", "")
    if not isinstance(picture, ImageFile.ImageFile) or not isinstance(name, str) or not name:
        return None
    return Path(name).absolute() if Path(name).is_file() else None


def to_file(pixels: Pixels) -> bytes:
    """Return pixels as a file that holds the same values."""
    values = pixels.values
    if values.dtype == np.uint16 and values.ndim == 3:
        return _png_of_16_bits(values)
    buffer = io.BytesIO()
    extra: dict[str, Any] = {"icc_profile": pixels.profile} if pixels.profile else {}
    if values.dtype in (np.int32, np.float32):
        Image.fromarray(values).save(buffer, "TIFF", **extra)
    else:
        Image.fromarray(values).save(buffer, "PNG", compress_level=1, **extra)
    return buffer.getvalue()


def update_digest(digest: Any, contents: bytes | Pixels) -> None:
    """Add what an image holds to a digest."""
    if isinstance(contents, bytes):
        digest.update(b"file" + hashlib.sha256(contents).digest())
        return
    values = np.ascontiguousarray(contents.values)
    digest.update(repr((values.dtype.str, values.shape, contents.profile)).encode())
    digest.update(values.data)


def _of_picture(picture: Image.Image) -> Pixels:
    """Return a picture's pixels, upright, as those of its file would be shown."""
    try:
        profile = picture.info.get("icc_profile") or b""
        if picture.getexif().get(EXIF_ORIENTATION, 1) != 1:
            picture = ImageOps.exif_transpose(picture)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
        elif picture.mode == "1":
            picture = picture.convert("L")
        elif picture.mode not in ("L", "RGB", "I", "F") and not picture.mode.startswith("I;16"):
            profile = b"" if picture.mode == "CMYK" else profile  # it is of other colours
            picture = picture.convert("RGB")
        values = np.asarray(picture)
    except MemoryError:
        raise
    except Exception as error:  # a picture is read only now, and decoders raise whatever they meet
        raise DecodeError(f"cannot be decoded: {error or type(error).__name__}") from error
    return Pixels(_of_array(values, is_tensor=False), profile)


def _of_array(values: NDArray[Any], is_tensor: bool) -> NDArray[Any]:
    """Bring an array to a type and order of axes that a file has."""
    values = _channels_last(values)
    check_size(values.shape[1], values.shape[0])
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("=")))
    if kind == "f" and (values.ndim == 3 or is_tensor):
        found = _bytes_of(values)
        if found is not None:
            return found
    if values.ndim == 3:
        raise DecodeError(_why_not(values))
    if kind == "f":
        return values.astype(np.float32)
    if kind not in "iu":
        raise DecodeError(f"an array of {values.dtype} is no image")
    if int(values.min()) < -(2**31) or int(values.max()) >= 2**31:
        raise DecodeError(
            f"its values need more than 32 bits: they are from {values.min()} to {values.max()}"
        )
    return values.astype(np.int32)


def _channels_last(values: NDArray[Any]) -> NDArray[Any]:
    """Bring (height, width), (height, width, channels) and (channels, height, width) to the first
    two; which of these an array is, its sides say: an image's are longer than `CHANNELS`."""
    if values.ndim == 3 and values.shape[2] not in CHANNELS and values.shape[0] in CHANNELS:
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in CHANNELS):
        raise DecodeError(
            f"an array {values.dtype} {values.shape} is no image, which is (height, width) or"
            " (height, width, 3)"
        )
    return values


def _bytes_of(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return the bytes that were divided by 255, as ToTensor does; None where they are others."""
    scaled = values.astype(np.float64) * 255
    if not np.isfinite(scaled).all() or scaled.min() < -NEAR or scaled.max() > 255 + NEAR:
        return None
    whole = np.rint(scaled)
    return whole.astype(np.uint8) if np.abs(scaled - whole).max() <= NEAR else None


def _why_not(values: NDArray[Any]) -> str:
    if values.dtype.kind != "f":
        return f"colours of {values.dtype}, which may be anything: give them as uint8 or uint16"
    said = f"from {np.nanmin(values):.3g} to {np.nanmax(values):.3g}"
    return f"colours in floating point {said}, which are no bytes divided by 255: {WITHOUT}"


def _png_of_16_bits(values: NDArray[np.uint16]) -> bytes:
    """Encode colours of 16 bits, which Pillow reads and does not write, as PNG (W3C 2025)."""
    height, width, channels = values.shape
    lines = np.zeros((height, 1 + 2 * width * channels), np.uint8)  # no filter
    lines[:, 1:] = values.astype(">u2").reshape(height, -1).view(np.uint8)
    colour = {2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.data, 1)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
