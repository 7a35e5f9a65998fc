"""What is known of images: masks, maps of part labels, or boxes; and which image each is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError, option
from ..images import FORMATS
from ..images.folder import escape
from ..images.rows import read_rows, take
from ..localize.scores import Box, box_of

MASK_MODES = ("1", "L", "P", "I", "I;16")
"""Modes of pictures whose values are labels; of others brightness counts."""

Entry = Path | list[Box]
"""A mask's file, or boxes."""


@dataclass(frozen=True)
class Truth:
    """What is known of one image: labels integer (height, width), 0 nothing; or boxes."""

    labels: NDArray[np.int64] | None
    boxes: list[Box] = field(default_factory=list)


def find_truth(where: Path) -> dict[str, Entry]:
    """List what is known, by image path without its ending, and with it where a table says so.

    Parameters
    ----------
    where : Path
        A folder of masks or label maps named as the images, or a CSV of boxes with the columns
        path, x0, y0, x1, y1: half-open, original pixels, one row per box.

    Raises
    ------
    UserError
        It is neither, two masks have one name, or a box is none.
    """
    return _find_masks(where) if where.is_dir() else _find_boxes(where)


def _find_masks(where: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in sorted(where.rglob("*")):
        if path.suffix.lower() not in _endings() or not path.is_file():
            continue  # annotations of other kinds lie beside masks
        other = found.setdefault(_key(escape(path.relative_to(where).as_posix())), path)
        if other != path:
            raise UserError(f"{other} and {path} are named as the same image; keep one")
    return found


def _find_boxes(where: Path) -> dict[str, Entry]:
    columns = ["path", "x0", "y0", "x1", "y1"]
    by_path: dict[str, list[Box]] = {}
    for line, (path, *sides) in enumerate(_read_boxes(where, columns), 2):
        x0, y0, x1, y1 = sides
        is_named = Path(path).name != ""
        is_whole = all(float(side).is_integer() for side in sides)  # neither NaN nor infinity is
        if not (is_named and is_whole and 0 <= x0 < x1 and 0 <= y0 < y1):
            raise UserError(
                f"{where}, line {line}: {path}, {', '.join(f'{side:g}' for side in sides)} is no"
                " box: a path, and whole numbers with 0 <= x0 < x1 and 0 <= y0 < y1"
            )
        by_path.setdefault(path, []).append((int(x0), int(y0), int(x1), int(y1)))
    found: dict[str, Entry] = dict(by_path)
    alike = Counter(map(_key, by_path))
    for path, boxes in by_path.items():  # a path may end as the image does, otherwise, or not
        if alike[_key(path)] == 1:
            found.setdefault(_key(path), boxes)
    return found


def _read_boxes(where: Path, names: list[str]) -> list[tuple[Any, ...]]:
    """Read paths and the four sides of boxes."""
    try:
        columns, rows = read_rows(where)
        places = [take(columns, name) for name in names]
        if lacking := [name for name, place in zip(names, places, strict=True) if place is None]:
            raise ValueError(f"it has no column {lacking[0]!r}")
        path, *sides = [place for place in places if place is not None]
        return [(row[path], *(float(row[side] or "nan") for side in sides)) for row in rows]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{option('masks', where)} is neither a folder of masks nor a CSV with"
            f" {', '.join(names)}: {error}"
        ) from error


def match_truth(known: Mapping[str, Entry], paths: Iterable[str]) -> dict[str, Entry]:
    """Return what is known by image: by its whole path, else without its ending if that is clear.

    Parameters
    ----------
    known : mapping
        As of `find_truth`.
    paths : iterable of str
        Paths of images within their dataset.

    Raises
    ------
    UserError
        A mask is that of two images by its name.
    """
    paths = list(paths)
    alike = Counter(map(_key, paths))
    found: dict[str, Entry] = {}
    image_of: dict[Path, str] = {}
    for path in paths:
        entry = known.get(path)
        if entry is None:
            entry = known.get(_key(path))
            if isinstance(entry, list) and alike[_key(path)] > 1:
                continue  # boxes of one of several, and nobody knows of which
        if entry is None:
            continue
        if isinstance(entry, Path) and (other := image_of.setdefault(entry, path)) != path:
            raise UserError(f"{entry} is named as two images, {other} and {path}")
        found[path] = entry
    return found


def read_truth(entry: Entry, size: tuple[int, int]) -> Truth:
    """Read what is known of one image of `size` (width, height).

    Raises
    ------
    UserError
        The file is no picture, or its size is not the image's.
    """
    if isinstance(entry, list):
        return Truth(None, entry)
    try:
        with Image.open(entry, formats=FORMATS) as picture:
            if picture.size != size:
                raise UserError(
                    f"{entry} is {picture.width} × {picture.height} pixels, its image is"
                    f" {size[0]} × {size[1]}"
                )
            if picture.mode in MASK_MODES and picture.format != "JPEG":
                labels = np.asarray(picture).astype(np.int64)
            else:
                labels = (np.asarray(picture.convert("L")) >= 128).astype(np.int64)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # decoders meet damage with every kind of exception
        raise UserError(f"{entry} cannot be read as a mask: {error}") from error
    box = box_of(labels > 0)
    return Truth(labels, [] if box is None else [_whole_box(labels > 0)])


def _whole_box(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _key(path: str) -> str:
    """Name an image without the ending of a picture, as masks are named."""
    plain = Path(path)
    return str(plain.with_suffix("") if plain.suffix.lower() in _endings() else plain)


@cache
def _endings() -> frozenset[str]:
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, name in known if name in FORMATS)
