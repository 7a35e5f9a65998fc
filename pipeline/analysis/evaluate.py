"""A run against ground truth: masks, maps of part labels, or boxes.

Of an object mask: J (intersection over union), pixel precision (share of the image's pixels that
are on the right side) and CorLoc (whether the box of its largest region meets a true box with an
IoU of at least a half). Of label maps, besides: how well the concepts' division of the image
agrees with the parts', as NMI and ARI over the pixels of all images.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import UserError, option
from ..localize.scores import (
    Box,
    adjusted_rand_index,
    box_iou,
    box_of,
    contingency,
    iou,
    normalized_mutual_information,
)
from ..pictures.outlines import grid, outlines
from ..system import files
from ..system.progress import bar
from .run import Run, open_run

CORLOC = 0.5
"""IoU from which on a box counts as found, as in PASCAL VOC."""

PART_SIDE = 96
"""Parts are compared on maps of so many pixels per side: the same weight for every image."""

SHOWN, HEIGHT = 6, 160
"""Images in each row of the picture, and their height in pixels."""

FOUND, TRUE = (255, 120, 0), (0, 200, 255)
"""Colours of what was found and of what is true."""

MASK_MODES = ("1", "L", "P", "I", "I;16")
"""Modes of pictures whose values are labels; of others brightness counts."""


@dataclass(frozen=True)
class Truth:
    """What is known of one image: labels integer (height, width), 0 nothing; or boxes."""

    labels: NDArray[np.int64] | None
    boxes: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to.

    Attributes
    ----------
    images : DataFrame
        A row per image: image_id, path, label, j, precision (NaN for boxes), corloc.
    parts : dict
        nmi, ari (whole images), fg_nmi, fg_ari (pixels of parts alone); empty without label maps.
    picture : ndarray
        uint8 (height, width, 3): the best images, the middle ones and the worst, what was found in
        orange, what is true in blue.
    """

    images: pd.DataFrame
    parts: dict[str, float]
    picture: NDArray[np.uint8] = field(repr=False)

    def by_label(self) -> pd.DataFrame:
        """Return means by label and, last, over all images: label, images, j, precision, corloc."""
        columns = ["j", "precision", "corloc"]
        groups = [*self.images.groupby("label", dropna=True), ("all", self.images)]
        rows = [
            {"label": label, "images": len(part), **part[columns].mean().to_dict()}
            for label, part in groups
        ]
        return pd.DataFrame(rows)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write ``scores.csv``, by image, and ``objects.png``; return their paths."""
        scores, picture = folder / "scores.csv", folder / "objects.png"
        text = io.StringIO()
        self.images.to_csv(text, index=False)
        files.write_text(scores, text.getvalue())
        shown = Image.fromarray(self.picture)
        files.write_with(picture, lambda path: shown.save(path, format="PNG"))
        return scores, picture


def find_truth(where: Path) -> dict[str, Path | list[Box]]:
    """List what is known, by image path without its ending.

    Parameters
    ----------
    where : Path
        A folder of masks or label maps named as the images, or a CSV of boxes with the columns
        path, x0, y0, x1, y1: half-open, original pixels, one row per box.

    Raises
    ------
    UserError
        It is neither.
    """
    if where.is_dir():
        return {
            str(path.relative_to(where).with_suffix("")): path
            for path in sorted(where.rglob("*"))
            if path.is_file()
        }
    columns = ["path", "x0", "y0", "x1", "y1"]
    try:
        frame = pd.read_csv(where, usecols=columns, dtype={"path": str})
        frame[columns[1:]] = frame[columns[1:]].astype(np.int64)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{option('masks', where)} is neither a folder of masks nor a CSV with"
            f" {', '.join(columns)}: {error}"
        ) from error
    found: dict[str, Path | list[Box]] = {}
    for path, x0, y0, x1, y1 in frame[columns].itertuples(index=False):
        boxes = found.setdefault(_key(path), [])
        assert isinstance(boxes, list)
        boxes.append((int(x0), int(y0), int(x1), int(y1)))
    return found


def read_truth(entry: Path | list[Box], size: tuple[int, int]) -> Truth:
    """Read what is known of one image of `size` (width, height).

    Raises
    ------
    UserError
        The file is no picture, or its size is not the image's.
    """
    if isinstance(entry, list):
        return Truth(None, entry)
    try:
        with Image.open(entry) as picture:
            if picture.mode in MASK_MODES and picture.format != "JPEG":
                labels = np.asarray(picture).astype(np.int64)
            else:
                labels = (np.asarray(picture.convert("L")) >= 128).astype(np.int64)
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{entry} cannot be read as a mask: {error}") from error
    if labels.shape != size[::-1]:
        raise UserError(
            f"{entry} is {labels.shape[1]} × {labels.shape[0]} pixels, its image is"
            f" {size[0]} × {size[1]}"
        )
    box = box_of(labels > 0)
    return Truth(labels, [] if box is None else [_whole_box(labels > 0)])


def evaluate(
    run: Run | str | Path, masks: str | Path, *, refiner: str | None = "edges"
) -> Evaluation:
    """Score a run's objects, and its concepts as parts, against what is known.

    Parameters
    ----------
    run : Run, str or Path
    masks : str or Path
        See `find_truth`.
    refiner : str, optional
        What gives masks the image's edges, see `Run.object_mask`; None: nothing does.

    Raises
    ------
    UserError
        Nothing is known of any image of the run, or what there is cannot be used.
    """
    run = run if isinstance(run, Run) else open_run(run)
    where = Path(masks)
    known = find_truth(where)
    rows, tables = [], []
    for row, truth in _pairs(run, known, where):
        image_id = int(row["image_id"])
        mask = run.object_mask(image_id, refined=refiner or False)
        rows.append(
            {name: row[name] for name in ("image_id", "path", "label")} | score(mask, truth)
        )
        if truth.labels is not None:
            concepts = run.concept_map(image_id, shape=(PART_SIDE, PART_SIDE))
            tables.append((concepts.astype(np.int64) + 1, _small(truth.labels)))
    images = pd.DataFrame(rows)
    return Evaluation(images, part_scores(tables), _picture(run, images, known, refiner or False))


def score(mask: NDArray[np.bool_], truth: Truth) -> dict[str, float]:
    """Score one object mask: j, precision, corloc."""
    box = box_of(mask)
    best = max((box_iou(box, each) for each in truth.boxes), default=0.0) if box else 0.0
    scores = {"j": np.nan, "precision": np.nan, "corloc": float(best >= CORLOC)}
    if truth.labels is not None:
        inside = truth.labels > 0
        scores |= {"j": iou(mask, inside), "precision": float((mask == inside).mean())}
    return scores


def part_scores(
    tables: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> dict[str, float]:
    """Compare divisions of images, pixels of all images pooled.

    Parameters
    ----------
    tables : list of (found, truth)
        int64 (height, width), labels from 0; truth 0 is background.

    Returns
    -------
    dict
        nmi, ari, fg_nmi, fg_ari; empty where truth tells fewer than two parts apart.
    """
    values = np.unique([value for _, truth in tables for value in np.unique(truth)])
    if (values > 0).sum() < 2:
        return {}
    n_found = 1 + max(int(found.max()) for found, _ in tables)
    table = np.zeros((n_found, len(values)), dtype=np.int64)
    for found, truth in tables:
        table += contingency(found, np.searchsorted(values, truth), n_found, len(values))
    inside = table[:, values > 0]
    return {
        "nmi": normalized_mutual_information(table),
        "ari": adjusted_rand_index(table),
        "fg_nmi": normalized_mutual_information(inside),
        "fg_ari": adjusted_rand_index(inside),
    }


def _pairs(
    run: Run, known: Mapping[str, Path | list[Box]], where: Path
) -> Iterator[tuple[dict[str, Any], Truth]]:
    images = run.table("images")
    keys = [_key(path) for path in images["path"]]
    chosen = images[[key in known for key in keys]]
    if chosen.empty:
        raise UserError(
            f"{option('masks', where)} says nothing of any image of {run.folder}; masks are named"
            f" as the images, such as {images['path'].iloc[0] if len(images) else 'none'}"
        )
    with bar("evaluate", len(chosen), "images") as shown:
        for row in chosen.to_dict("records"):
            size = (int(row["width"]), int(row["height"]))
            truth = read_truth(known[_key(row["path"])], size)
            yield {str(name): value for name, value in row.items()}, truth
            shown.update()


def _whole_box(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _small(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sample a label map at the centres of `PART_SIDE` × `PART_SIDE` cells."""
    rows, columns = (
        ((np.arange(PART_SIDE) + 0.5) * n / PART_SIDE).astype(int) for n in labels.shape
    )
    small: NDArray[np.int64] = labels[rows[:, None], columns]
    return small


def _picture(
    run: Run, images: pd.DataFrame, known: Mapping[str, Path | list[Box]], refined: str | bool
) -> NDArray[np.uint8]:
    """Put the best, the middle and the worst images into rows."""
    by = "j" if images["j"].notna().any() else "corloc"
    ordered = images.sort_values([by, "path"], ascending=[False, True])
    middle = max(0, (len(ordered) - SHOWN) // 2)
    rows = [ordered.iloc[:SHOWN], ordered.iloc[middle : middle + SHOWN], ordered.iloc[-SHOWN:]]
    return grid(
        [
            [
                _outlined(run, int(row["image_id"]), known[_key(row["path"])], refined)
                for row in part
            ]
            for part in (each.to_dict("records") for each in rows)
        ]
    )


def _outlined(
    run: Run, image_id: int, entry: Path | list[Box], refined: str | bool
) -> NDArray[np.uint8]:
    pixels = run.image(image_id)
    truth = read_truth(entry, (pixels.shape[1], pixels.shape[0]))
    masks = [(run.object_mask(image_id, refined=refined), FOUND)]
    if truth.labels is not None:
        masks.append((truth.labels > 0, TRUE))
    boxes = [(box, TRUE) for box in truth.boxes] if truth.labels is None else []
    return outlines(pixels, masks, boxes, HEIGHT)


def _key(path: object) -> str:
    """Name an image without its ending, as masks are named."""
    return str(Path(str(path)).with_suffix(""))
