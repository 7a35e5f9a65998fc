"""A run against ground truth: masks, maps of part labels, or boxes.

Of an object mask: J (intersection over union), pixel precision (share of the image's pixels that
are on the right side), CorLoc (whether the box of its largest region meets a true box with an IoU
of at least a half) and, of what it was cut from, saliency's F and mean absolute error. Of label
maps, besides: how well the concepts' division of the image agrees with the parts', as NMI and ARI
over the pixels of all images. Void pixels count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import UserError, option
from ..images import DecodeError, make_record, read_contents, stored_orientation
from ..localize.refine import working_shape
from ..localize.saliency import Curve, max_f, mean_absolute_error, precision_and_recall
from ..localize.scores import (
    adjusted_rand_index,
    box_iou,
    box_of,
    contingency,
    iou,
    normalized_mutual_information,
)
from ..pictures.outlines import grid, outlines
from ..system.progress import bar
from ..truth import Known, Truth, UnfitError, find_truth
from .aligned import Parts, align_labels
from .evaluation import Evaluation
from .run import Run, open_run

CORLOC = 0.5
"""IoU from which on a box counts as found, as in PASCAL VOC."""

PART_SIDE = 96
"""Parts are compared on maps of so many pixels per side: the same weight for every image."""

SHOWN, HEIGHT = 6, 160
"""Images in each row of the picture, and their height in pixels."""

FOUND, TRUE = (255, 120, 0), (0, 200, 255)
"""Colours of what was found and of what is true."""


def evaluate(
    run: Run | str | Path, masks: str | Path | None = None, *, refiner: str | None = "edges"
) -> Evaluation:
    """Score a run's objects, and its concepts as parts, against what is known.

    Parameters
    ----------
    run : Run, str or Path
    masks : str or Path, optional
        See `find_truth`; by default the dataset's own, where it is a JSON of COCO.
    refiner : str, optional
        What gives masks the image's edges, see `Run.object_mask`; None: nothing does.

    Raises
    ------
    UserError
        Nothing is known of any image of the run, or what there is cannot be used.
    """
    run = run if isinstance(run, Run) else open_run(run)
    masks = _own_truth(run) if masks is None else masks
    images = run.table("images")
    listing = run.workspace.listing
    known = _known(run, Path(masks), images)
    rows: list[dict[str, Any]] = []
    unused: list[tuple[str, str]] = []
    tables: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    curves: list[Curve] = []
    parts = Parts(run)
    for row, truth in _pairs(run, images, known, unused):
        image_id = int(row["image_id"])
        mask = run.object_mask(image_id, refined=refiner or False)
        scores = score(mask, truth)
        if truth.labels is not None:
            strength, labels, is_known = _strengths(run, image_id, truth, refiner or False)
            scores["mae"] = mean_absolute_error(strength[is_known], labels[is_known] > 0)
            if (
                curve := precision_and_recall(strength[is_known], labels[is_known] > 0)
            ) is not None:
                curves.append(curve)
            concepts = run.concept_map(image_id, shape=(PART_SIDE, PART_SIDE))
            found, true = _divisions(concepts, truth)
            if found.size:
                tables.append((found, true))
            parts.add(image_id, truth)
        facts: dict[str, Any] = {name: row[name] for name in ("image_id", "path", "label")}
        facts["labels"] = listing.labels[listing.places([image_id])[0]]
        rows.append(facts | scores)
    if not rows:
        raise UserError(
            f"{option('masks', masks)}: of what is known of {run.folder}'s images nothing can be"
            f" used; {unused[0][0]}: {unused[0][1]}"
        )
    scored = pd.DataFrame(rows)
    said = (*known.said, f"{len(rows):,} of {len(images):,} images have truth that is used")
    return Evaluation(
        scored,
        part_scores(tables),
        _picture(run, scored, known, refiner or False),
        max_f(curves),
        _joined([align_labels(run), parts.aligned()]),
        (*((each, "not clear") for each in known.matched.unclear), *unused),
        said,
    )


def _own_truth(run: Run) -> Path:
    """Return the ground truth that came with a run's dataset."""
    dataset = Path(run.workspace.config.dataset)
    if dataset.suffix.lower() != ".json":
        raise UserError(
            f"{option('masks')} is missing; pass"
            f" {option('masks', '<folder of masks, CSV of boxes or JSON of COCO>')}"
        )
    return dataset


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Join tables one below the other, but for empty ones, whose columns have no type."""
    full = [table for table in tables if len(table)]
    return pd.concat(full, ignore_index=True) if full else tables[0]


def score(mask: NDArray[np.bool_], truth: Truth) -> dict[str, float]:
    """Score one object mask: j, precision, corloc; mae is not known of a mask."""
    box = box_of(mask)
    best = max((box_iou(box, each) for each in truth.boxes), default=0.0) if box else 0.0
    scores = {"j": np.nan, "precision": np.nan, "corloc": float(best >= CORLOC), "mae": np.nan}
    if truth.labels is not None:
        inside = truth.labels > 0
        if truth.void is not None:
            mask, inside = mask[~truth.void], inside[~truth.void]
        scores |= {"j": iou(mask, inside)}
        scores |= {"precision": float((mask == inside).mean()) if mask.size else np.nan}
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


def orientations(run: Run) -> Callable[[str], int]:
    """Return what tells the EXIF orientation of a run's images by their paths."""

    @lru_cache(maxsize=1)
    def of(path: str) -> int:
        try:
            contents = read_contents(run.workspace.source, make_record(path))
            return stored_orientation(contents)
        except DecodeError:
            return 1

    return of


def _known(run: Run, where: Path, images: pd.DataFrame) -> Known:
    sizes = {
        str(path): (int(width), int(height))
        for path, width, height in zip(images.path, images.width, images.height, strict=True)
    }
    known = find_truth(where).of(sizes, orientations(run))
    if not known.matched.found:
        unclear = f"; {known.matched.unclear[0]}" if known.matched.unclear else ""
        raise UserError(
            f"{option('masks', where)} says nothing of any image of {run.folder}; masks are named"
            f" as the images, such as {images['path'].iloc[0] if len(images) else 'none'}{unclear}"
        )
    return known


def _pairs(
    run: Run, images: pd.DataFrame, known: Known, unused: list[tuple[str, str]]
) -> Iterator[tuple[dict[str, Any], Truth]]:
    """Give the rows of images of which something is known, and that; note what cannot be used."""
    chosen = images[images["path"].isin(known.matched.found)]
    orientation = orientations(run)
    with bar("evaluate", len(chosen), "images") as shown:
        for row in chosen.to_dict("records"):
            size = (int(row["width"]), int(row["height"]))
            try:
                truth = known.read(row["path"], size, orientation)
            except UnfitError as error:
                unused.append((str(row["path"]), f"{known.matched.found[row['path']]}: {error}"))
            else:
                yield {str(name): value for name, value in row.items()}, truth
            shown.update()


def _strengths(
    run: Run, image_id: int, truth: Truth, refined: str | bool
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Return object strength in [0, 1], the truth, and where that is known, on one size."""
    assert truth.labels is not None
    height, width = truth.labels.shape
    shape = working_shape(width, height)
    strength = _sampled(run.object_strength(image_id, refined=refined), shape)
    void = np.zeros_like(truth.labels, np.bool_) if truth.void is None else truth.void
    return strength, _sampled(truth.labels, shape), ~_sampled(void, shape)


def _divisions(
    concepts: NDArray[np.int16], truth: Truth
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the concepts' division of an image and the truth's, without what is void."""
    assert truth.labels is not None
    small, found = _sampled(truth.labels, concepts.shape), concepts.astype(np.int64) + 1
    if truth.void is None:
        return found, small
    is_known = ~_sampled(truth.void, concepts.shape)
    return found[is_known], small[is_known]


def _sampled(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Sample a map at the centres of cells."""
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(int)
        for n, side in zip(shape, values.shape, strict=True)
    )
    sampled: NDArray[Any] = values[rows[:, None], columns]
    return sampled


def _picture(
    run: Run, images: pd.DataFrame, known: Known, refined: str | bool
) -> NDArray[np.uint8]:
    """Put the best, the middle and the worst images into rows."""
    by = "j" if images["j"].notna().any() else "corloc"
    ordered = images.sort_values([by, "path"], ascending=[False, True])
    middle = max(0, (len(ordered) - SHOWN) // 2)
    rows = [ordered.iloc[:SHOWN], ordered.iloc[middle : middle + SHOWN], ordered.iloc[-SHOWN:]]
    return grid(
        [
            [_outlined(run, int(row["image_id"]), row["path"], known, refined) for row in part]
            for part in (each.to_dict("records") for each in rows)
        ]
    )


def _outlined(
    run: Run, image_id: int, path: str, known: Known, refined: str | bool
) -> NDArray[np.uint8]:
    pixels = run.image(image_id)
    truth = known.read(path, (pixels.shape[1], pixels.shape[0]), orientations(run))
    masks = [(run.object_mask(image_id, refined=refined), FOUND)]
    if truth.labels is not None:
        masks.append((truth.labels > 0, TRUE))
    boxes = [(box, TRUE) for box in truth.boxes] if truth.labels is None else []
    return outlines(pixels, masks, boxes, HEIGHT)
