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
from PIL import Image

from ..errors import UserError, option
from ..escape import csv_cell
from ..localize.scores import (
    adjusted_rand_index,
    box_iou,
    box_of,
    contingency,
    iou,
    normalized_mutual_information,
)
from ..pictures.outlines import grid, outlines
from ..runs.stages import EVALUATION
from ..store import begin, read_begun, read_record, write_record
from ..system import files
from ..system.progress import bar
from .run import Run, open_run
from .truth import Entry, Truth, find_truth, match_truth, read_truth

CORLOC = 0.5
"""IoU from which on a box counts as found, as in PASCAL VOC."""

PART_SIDE = 96
"""Parts are compared on maps of so many pixels per side: the same weight for every image."""

SHOWN, HEIGHT = 6, 160
"""Images in each row of the picture, and their height in pixels."""

FOUND, TRUE = (255, 120, 0), (0, 200, 255)
"""Colours of what was found and of what is true."""


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
        """Write ``scores.csv``, by image, and ``objects.png``; return their paths.

        In the CSV, paths and labels that a spreadsheet would take for a formula, from their first
        character ``=``, ``+``, ``-``, ``@``, tab or carriage return, have an apostrophe before it.
        Their record, ``evaluation.json``, says that both are ours.

        Raises
        ------
        UserError
            A file of that name is there, and not ours.
        """
        scores, picture = (folder / name for name in EVALUATION.files)
        record, begun = (
            folder / f"{EVALUATION.product}{ending}" for ending in (".json", ".begun.json")
        )
        earlier = read_record(record, EVALUATION.makes)
        ours = {*read_begun(begun, EVALUATION.makes), *(earlier.files if earlier else ())}
        for path in (scores, picture):
            if path.exists() and path.name not in ours:
                raise UserError(f"{path} is of no evaluation of ours; move it")
        begin(begun, EVALUATION.files)
        text = io.StringIO()
        # With lines as of RFC 4180, so that a carriage return in a name is quoted and begins none.
        self.images.map(csv_cell).to_csv(text, index=False, lineterminator="\r\n")
        files.write_text(scores, text.getvalue())
        shown = Image.fromarray(self.picture)
        files.write_with(picture, lambda path: shown.save(path, format="PNG"))
        write_record(record, [scores, picture])
        files.remove(begun)
        return scores, picture


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
    images = run.table("images")
    known = match_truth(find_truth(where), images["path"])
    if not known:
        raise UserError(
            f"{option('masks', where)} says nothing of any image of {run.folder}; masks are named"
            f" as the images, such as {images['path'].iloc[0] if len(images) else 'none'}"
        )
    rows, tables = [], []
    for row, truth in _pairs(images, known):
        image_id = int(row["image_id"])
        mask = run.object_mask(image_id, refined=refiner or False)
        rows.append(
            {name: row[name] for name in ("image_id", "path", "label")} | score(mask, truth)
        )
        if truth.labels is not None:
            concepts = run.concept_map(image_id, shape=(PART_SIDE, PART_SIDE))
            tables.append((concepts.astype(np.int64) + 1, _small(truth.labels)))
    scored = pd.DataFrame(rows)
    return Evaluation(scored, part_scores(tables), _picture(run, scored, known, refiner or False))


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
    images: pd.DataFrame, known: Mapping[str, Entry]
) -> Iterator[tuple[dict[str, Any], Truth]]:
    """Give the rows of images of which something is known, and that."""
    chosen = images[images["path"].isin(known)]
    with bar("evaluate", len(chosen), "images") as shown:
        for row in chosen.to_dict("records"):
            size = (int(row["width"]), int(row["height"]))
            truth = read_truth(known[row["path"]], size)
            yield {str(name): value for name, value in row.items()}, truth
            shown.update()


def _small(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sample a label map at the centres of `PART_SIDE` × `PART_SIDE` cells."""
    rows, columns = (
        ((np.arange(PART_SIDE) + 0.5) * n / PART_SIDE).astype(int) for n in labels.shape
    )
    small: NDArray[np.int64] = labels[rows[:, None], columns]
    return small


def _picture(
    run: Run, images: pd.DataFrame, known: Mapping[str, Entry], refined: str | bool
) -> NDArray[np.uint8]:
    """Put the best, the middle and the worst images into rows."""
    by = "j" if images["j"].notna().any() else "corloc"
    ordered = images.sort_values([by, "path"], ascending=[False, True])
    middle = max(0, (len(ordered) - SHOWN) // 2)
    rows = [ordered.iloc[:SHOWN], ordered.iloc[middle : middle + SHOWN], ordered.iloc[-SHOWN:]]
    return grid(
        [
            [_outlined(run, int(row["image_id"]), known[row["path"]], refined) for row in part]
            for part in (each.to_dict("records") for each in rows)
        ]
    )


def _outlined(run: Run, image_id: int, entry: Entry, refined: str | bool) -> NDArray[np.uint8]:
    pixels = run.image(image_id)
    truth = read_truth(entry, (pixels.shape[1], pixels.shape[0]))
    masks = [(run.object_mask(image_id, refined=refined), FOUND)]
    if truth.labels is not None:
        masks.append((truth.labels > 0, TRUE))
    boxes = [(box, TRUE) for box in truth.boxes] if truth.labels is None else []
    return outlines(pixels, masks, boxes, HEIGHT)
