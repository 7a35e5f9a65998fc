"""The files a page shows: each image, a large one in two sizes, its heatmaps in a compact script.

A page opened from the file system may not `fetch`, and may not read the pixels of another file. So
the heatmaps travel as a script, ``media/<image_id>.js``, that calls ``concordance.put(id, value)``:

    w, h        size of the picture, pixels
    tw, th      size of one map, a coarse picture of the whole image (not the network's grid)
    cols        maps in a row of the sheet
    concepts    which concepts the sheet holds, in order; all others are absent
    scale       strength, in gauge units, of the sheet's value 255, one per concept
    maps        the sheet, a grey PNG as data URI: value 0..255, concept i at column i % cols
    mask        the object's mask as data URI, or null
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..images import FORMATS
from ..pictures import png
from ..pictures.composites import spotlight
from ..pictures.scale import shrunk, size_within
from ..system import files
from .data import AtlasData, Bytes, Floats, Mask

LONG_SIDE = 448  # some 36 kB per photograph: a concept's page of thirty stays below 2 MB
SMALL_SIDE = 200  # in lists of many images
_SMALL_ENOUGH = 256  # pictures up to this size serve in lists as well
CELL = 256
_FAINT = 0.08  # gauge units: a map that is nowhere stronger is not worth its bytes
_MASK_SIDE = 256

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageJob:
    """One image to show: which of its concepts want a cell, and around which box.

    Boxes are half-open xyxy in pixels of the original image, which is so wide.
    """

    image_id: int
    width: int
    cells: Mapping[int, Box] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageFiles:
    """What was written for an image.

    Attributes
    ----------
    width, height : int
        Size of the picture.
    small : str
        Name of the picture for lists of many images; it may be the same one.
    cells : mapping of int to bytes
        Square JPEGs by concept.
    logits : (float, float) or None
        See `AtlasData.logits`.
    """

    width: int
    height: int
    small: str
    cells: Mapping[int, bytes]
    logits: tuple[float, float] | None


def write_image(data: AtlasData, job: ImageJob, concept_ids: list[int], folder: Path) -> ImageFiles:
    """Write ``<image_id>.jpg`` and ``<image_id>.js`` into `folder`.

    Larger pictures are written a second time, ``<image_id>-small.jpg``, for lists of many images.

    Parameters
    ----------
    data : AtlasData
    job : ImageJob
    concept_ids : list of int
        The concept of each row of the image's heatmap.
    folder : Path

    Returns
    -------
    ImageFiles
        What was written, the cells that `job` asked for, and what ``data.logits`` says, while the
        image's arrays are at hand.
    """
    picture = shrunk(data.read_image(job.image_id, LONG_SIDE), LONG_SIDE)
    grid = data.read_heatmap(job.image_id)
    height, width = _map_size(picture.size, grid.shape[1:])
    maps = data.upsample(grid, job.image_id, height, width)
    payload = {"w": picture.width, "h": picture.height, **_sheet(maps, concept_ids)}
    payload["mask"] = _mask_uri(data, job.image_id, picture)
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    script = f'concordance.put("{job.image_id}",{text});\n'
    files.write_bytes(folder / f"{job.image_id}.js", script.encode("ascii"), durable=False)
    small = _write_picture(picture, folder, job.image_id)
    scale = picture.width / job.width
    cells = {
        concept_id: jpeg(_cell(picture, maps[concept_ids.index(concept_id)], box, scale), 92)
        for concept_id, box in job.cells.items()
    }
    logits = None if data.logits is None else data.logits(job.image_id)
    return ImageFiles(picture.width, picture.height, small, cells, logits)


def image_files(image_id: int) -> tuple[str, str, str]:
    """Return the names of the files that may be written of an image: picture, small one, maps."""
    return f"{image_id}.jpg", f"{image_id}-small.jpg", f"{image_id}.js"


def _write_picture(picture: Image.Image, folder: Path, image_id: int) -> str:
    """Write a picture, a large one in two sizes, and return the name of the smaller one."""
    name, small, _ = image_files(image_id)
    files.write_bytes(folder / name, jpeg(picture), durable=False)
    if max(picture.size) <= _SMALL_ENOUGH:
        return name
    files.write_bytes(folder / small, jpeg(shrunk(np.asarray(picture), SMALL_SIDE)), durable=False)
    return small


def jpeg(picture: Image.Image, quality: int = 82) -> bytes:
    """Encode a picture as JPEG without any metadata."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def unpack(cell: bytes, side: int) -> Image.Image:
    """Decode a cell and scale it to `side` × `side` pixels."""
    picture = _decoded(cell)
    if picture.width == side:
        return picture
    return picture.resize((side, side), Image.Resampling.LANCZOS)


@lru_cache(maxsize=16)  # a concept's: its card and its sheet are made of the same ones
def _decoded(cell: bytes) -> Image.Image:
    return Image.open(io.BytesIO(cell), formats=FORMATS).convert("RGB")


def mosaic(cells: list[bytes], columns: int, side: int) -> bytes:
    """Join cells row by row into one JPEG of `columns` columns, each `side` × `side` pixels."""
    lines = max(1, math.ceil(len(cells) / columns))
    joined = Image.new("RGB", (side * columns, side * lines), (128, 128, 128))
    for at, cell in enumerate(cells):
        joined.paste(unpack(cell, side), (at % columns * side, at // columns * side))
    return jpeg(joined, 80)


def square_around(box: Box, width: int, height: int) -> Box:
    """Grow a box to a square with some of its surroundings, inside an image of that size."""
    x0, y0, x1, y1 = box
    short = min(width, height)
    side = min(float(short), max(1.5 * max(x1 - x0, y1 - y0), 0.5 * short))
    left = min(max((x0 + x1 - side) / 2, 0.0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0.0), height - side)
    return left, top, left + side, top + side


def _map_size(size: tuple[int, int], grid: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a map: the picture's aspect, fine enough for the network's grid."""
    width, height = size_within(*size, min(64, max(28, 4 * max(grid))))
    return height, width


def _sheet(maps: Floats, concept_ids: list[int]) -> dict[str, object]:
    """Pack the maps that are present into one grey picture, each scaled to its own maximum."""
    peaks = maps.max(axis=(1, 2))
    kept = np.flatnonzero(peaks >= _FAINT)
    height, width = maps.shape[1:]
    columns = max(1, math.ceil(math.sqrt(len(kept))))
    lines = max(1, math.ceil(len(kept) / columns))
    sheet = np.zeros((lines * height, columns * width), np.uint8)
    levels = np.rint(maps[kept].clip(0.0, None) * (255.0 / peaks[kept])[:, None, None])
    for at, level in enumerate(levels):
        y, x = at // columns * height, at % columns * width
        sheet[y : y + height, x : x + width] = level
    return {
        "tw": width,
        "th": height,
        "cols": columns,
        "concepts": [concept_ids[row] for row in kept],
        "scale": [round(float(peaks[row]), 4) for row in kept],
        "maps": _png_uri(sheet),
    }


def _mask_uri(data: AtlasData, image_id: int, picture: Image.Image) -> str | None:
    if data.object_mask is None:
        return None
    width, height = size_within(*picture.size, _MASK_SIDE)
    mask = data.object_mask(image_id, height, width)
    return _png_uri(mask) if mask.any() else None


def _png_uri(pixels: Bytes | Mask) -> str:
    return "data:image/png;base64," + base64.b64encode(png.encode(pixels)).decode("ascii")


def _cell(picture: Image.Image, heatmap: Floats, box: Box, scale: float) -> Image.Image:
    """Cut a square around a box and put the concept in the light."""
    x0, y0, x1, y1 = box
    around = (x0 * scale, y0 * scale, x1 * scale, y1 * scale)
    square = square_around(around, picture.width, picture.height)
    size = (CELL, CELL)
    pixels = picture.resize(size, Image.Resampling.BICUBIC, box=square, reducing_gap=2.0)
    coarse = Image.fromarray(np.ascontiguousarray(heatmap, np.float32))
    fx, fy = coarse.width / picture.width, coarse.height / picture.height
    part = (square[0] * fx, square[1] * fy, square[2] * fx, square[3] * fy)
    light = coarse.resize(size, Image.Resampling.BILINEAR, box=part)
    return Image.fromarray(spotlight(np.asarray(pixels), np.asarray(light), dark=0.6))
