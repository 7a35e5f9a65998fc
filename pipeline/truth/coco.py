"""COCO's JSON: boxes, polygons and run-length masks of objects, by image.

Reference: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import UserError, option
from ..images.coco import read_json
from .reading import Truth, UnfitError


@dataclass(frozen=True)
class Annotations:
    """What is known of one image: its size in the file (or None), and its objects."""

    size: tuple[int, int] | None
    objects: tuple[dict[str, Any], ...]

    def on(self, width: int, height: int) -> Truth:
        """Draw the objects of an image of that size.

        Raises
        ------
        UnfitError
            The image is of another size, or an object cannot be drawn.
        """
        if self.size not in (None, (width, height)):
            raise UnfitError(
                f"the file says {self.size[0]} × {self.size[1]} pixels, its image is"
                f" {width} × {height}"
            )
        labels = np.zeros((height, width), np.int64)
        void = np.zeros((height, width), np.bool_)
        boxes, has_masks = [], True
        for each in self.objects:
            try:
                drawn = _draw(each.get("segmentation"), width, height)
                if each.get("iscrowd"):
                    void |= False if drawn is None else drawn
                    continue
                has_masks &= drawn is not None
                if drawn is not None:
                    labels[drawn] = int(each.get("category_id", 0)) + 1
                boxes.append(_box(each, drawn))
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise UnfitError(f"an object of it cannot be drawn: {error}") from error
        void &= labels == 0
        if not has_masks:
            return Truth(None, boxes)
        return Truth(labels, boxes, void if void.any() else None)


def read_coco(where: Path) -> dict[str, Annotations]:
    """Read what a file of COCO says, by the images' paths.

    Raises
    ------
    UserError
        It is no such file.
    """
    try:
        says = read_json(where)
        if not says["annotations"]:
            raise ValueError("it has no annotations")
        objects: dict[Any, list[dict[str, Any]]] = {}
        for each in says["annotations"]:
            objects.setdefault(each["image_id"], []).append(dict(each))
        return {
            str(image["file_name"]): Annotations(_size(image), tuple(objects[image["id"]]))
            for image in says["images"]
            if image["id"] in objects
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{option('masks', where)} is no file of COCO, with images and annotations: {error}"
        ) from error


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    return (int(image["width"]), int(image["height"])) if {"width", "height"} <= {*image} else None


def _box(
    each: dict[str, Any], drawn: NDArray[np.bool_] | None
) -> tuple[float, float, float, float]:
    if "bbox" in each:
        x, y, w, h = map(float, each["bbox"])
        return x, y, x + w, y + h
    if drawn is None or not drawn.any():
        raise ValueError("it has neither box nor mask")
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _draw(segmentation: Any, width: int, height: int) -> NDArray[np.bool_] | None:
    """Draw polygons, or a run-length code; None where there is neither."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return _runs(segmentation, width, height)
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    for polygon in segmentation:
        points = [float(each) for each in polygon]
        if len(points) < 6 or len(points) % 2:
            raise ValueError(f"a polygon of {len(points)} numbers")
        pen.polygon([*zip(points[::2], points[1::2], strict=True)], fill=1)
    return np.asarray(canvas)


def _runs(code: dict[str, Any], width: int, height: int) -> NDArray[np.bool_]:
    """Expand a run-length code: pixels down the columns, runs without and with object in turn."""
    if [int(each) for each in code["size"]] != [height, width]:
        raise ValueError(f"a code for {code['size']}, not {[height, width]}")
    counts = code["counts"]
    runs = _unpacked(counts) if isinstance(counts, str) else [int(each) for each in counts]
    if min(runs, default=0) < 0 or sum(runs) > width * height:
        raise ValueError(f"runs of {sum(runs)} pixels in {width * height}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    flat = np.zeros(width * height, np.bool_)
    flat[: len(inside)] = inside
    return flat.reshape(width, height).T.copy()


def _unpacked(text: str) -> list[int]:
    """Read COCO's compressed counts: groups of five bits, from 48; from the fourth on, differences
    to the count before the last."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"{character!r} is in no code")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            if shift > 60:
                raise ValueError("a number that no image has")
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("a code that ends within a number")
    return runs
