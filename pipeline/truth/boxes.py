"""Boxes in a table: under the names people give their columns, and in the units they use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError, option
from ..images.rows import read_rows, take

Sides = tuple[float, float, float, float]

PATHS = ("path", "file_name", "filename", "filepath", "image_path", "image", "imageid", "image_id")

CORNERS = (
    ("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"),
    ("x_min", "y_min", "x_max", "y_max"), ("left", "top", "right", "bottom"),
)  # fmt: skip
SIZES = (
    ("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"), ("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
)  # fmt: skip

TAKES = "path, x0, y0, x1, y1 (or x, y, width, height)"


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image, x0, y0, x1, y1: in pixels, or in shares of its sides."""

    sides: tuple[Sides, ...]
    are_shares: bool

    def on(self, width: int, height: int) -> list[Sides]:
        """Return the boxes in pixels of an image of that size, without what lies outside it.

        Raises
        ------
        ValueError
            One lies outside altogether.
        """
        by = (width, height, width, height) if self.are_shares else (1, 1, 1, 1)
        found = []
        for each in self.sides:
            x0, y0, x1, y1 = (side * unit for side, unit in zip(each, by, strict=True))
            inside = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
            if inside[0] >= inside[2] or inside[1] >= inside[3]:
                raise ValueError(
                    f"its box {x0:g}, {y0:g}, {x1:g}, {y1:g} lies outside its {width} × {height}"
                    " pixels"
                )
            found.append(inside)
        return found


def read_boxes(where: Path) -> tuple[dict[str, Boxes], list[str]]:
    """Read a table of boxes, one a row.

    Returns
    -------
    boxes : dict of str to Boxes
        By the image's path, as the table has it.
    said : list of str
        How they were read, where that is not plain.

    Raises
    ------
    UserError
        It is no such table, or a row is no box.
    """
    rows, are_sizes = _read(where)
    said = []
    if are_sizes:
        rows = [(line, path, (x, y, x + w, y + h)) for line, path, (x, y, w, h) in rows]
    else:
        rows, swapped = _put_right(where, rows)
        said += [f"boxes have {swapped}: they are exchanged"] if swapped else []
    for line, path, (x0, y0, x1, y1) in rows:
        if not (x0 < x1 and y0 < y1):
            raise _no_box(where, line, path, (x0, y0, x1, y1))
    values = [side for _, _, sides in rows for side in sides]
    are_shares = bool(values) and max(values) <= 1 and any(not v.is_integer() for v in values)
    if are_shares:
        said.append("boxes are in shares of an image's sides, from 0 to 1")
    by_path: dict[str, list[Sides]] = {}
    for _, path, sides in rows:
        by_path.setdefault(path, []).append(sides)
    return {path: Boxes(tuple(each), are_shares) for path, each in by_path.items()}, said


Row = tuple[int, str, Sides]
"""Line, path and what the four columns say."""


def _read(where: Path) -> tuple[list[Row], bool]:
    try:
        columns, lines = read_rows(where, "\t" if where.suffix.lower() == ".tsv" else None)
        lower = [name.lower() for name in columns]
        path = next((take(lower, name) for name in PATHS if name in lower), None)
        forms = [form for form in (*CORNERS, *SIZES) if set(form) <= set(lower)]
        if path is None or not forms:
            raise ValueError(f"it has the columns {', '.join(columns)}")
        places = [place for name in forms[0] if (place := take(lower, name)) is not None]
        rows = [
            (line, row[path].strip(), _numbers([row[place] for place in places]))
            for line, row in enumerate(lines, 2)
        ]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{option('masks', where)} is neither a folder of masks nor a table with {TAKES}:"
            f" {error}"
        ) from error
    for line, name, sides in rows:
        if not Path(name).name or not all(map(math.isfinite, sides)):
            raise _no_box(where, line, name, sides)
    return rows, forms[0] in SIZES


def _numbers(texts: Sequence[str]) -> Sides:
    first, second, third, fourth = (float(text.replace(",", ".") or "nan") for text in texts)
    return first, second, third, fourth


def _put_right(where: Path, rows: list[Row]) -> tuple[list[Row], str]:
    """Exchange corners that all come the other way round.

    Where only some do, they are none: width and height are less than x or y as it happens.
    """
    swapped = []
    for axis, name in enumerate("xy"):
        turned = [line for line, _, sides in rows if sides[axis] > sides[axis + 2]]
        if turned and len(turned) == len(rows):
            swapped.append(name)
        elif turned:
            raise UserError(
                f"{where}, line {turned[0]}: {name}1 is less than {name}0, in {len(turned)} of"
                f" {len(rows)} rows: if these are x, y, width and height, call the columns so"
            )
    if not swapped:
        return rows, ""
    right = []
    for line, path, (x0, y0, x1, y1) in rows:
        x0, x1 = (x1, x0) if "x" in swapped else (x0, x1)
        y0, y1 = (y1, y0) if "y" in swapped else (y0, y1)
        right.append((line, path, (x0, y0, x1, y1)))
    return right, f"their greater {' and '.join(swapped)} first"


def _no_box(where: Path, line: int, path: str, sides: Sides) -> UserError:
    return UserError(
        f"{where}, line {line}: {path}, {', '.join(f'{side:g}' for side in sides)} is no box:"
        " a path, and numbers with x0 < x1 and y0 < y1"
    )
