"""A run's objects against true masks, as a command."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import UserError
from pipeline.localize.scores import iou
from pipeline.run import Run, open_run
from stages.cli import RUN_HELP, Options, command, finished_run

OPTIONS = RUN_HELP | {
    "masks": "folder of masks named as the images, with any ending; what is not 0 is object"
}


def job(options: Options) -> None:
    """Score the objects of a run against true masks: IoU, pixel precision, CorLoc, by label."""
    if "masks" not in options:
        raise UserError("MASKS is missing; pass MASKS=<folder of masks named as the images>")
    run = open_run(finished_run(options))
    masks = _find_masks(Path(options["masks"]))
    scores = pd.DataFrame(
        [
            {"label": row["label"], **_score(run, int(row["image_id"]), masks[key])}
            for row in run.table("images").to_dict("records")
            if (key := str(Path(str(row["path"])).with_suffix(""))) in masks
        ]
    )
    if scores.empty:
        raise UserError(
            f"MASKS={options['masks']} has no mask for any image of {run.folder};"
            f" masks are named as the images, such as {run.table('images')['path'][0]}"
        )
    print(f"{'label':<28} {'images':>6} {'J':>6} {'precision':>9} {'CorLoc':>7}")
    for label, part in [*scores.groupby("label", dropna=True), ("all", scores)]:
        means = part[["j", "precision", "corloc"]].mean()
        print(
            f"{str(label)[:28]:<28} {len(part):>6} {means['j']:6.3f} {means['precision']:9.3f}"
            f" {means['corloc']:7.3f}"
        )


def _find_masks(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"MASKS={folder} is not a folder")
    return {
        str(path.relative_to(folder).with_suffix("")): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _score(run: Run, image_id: int, mask: Path) -> dict[str, float]:
    found = run.object_mask(image_id)
    with Image.open(mask) as image:
        truth = np.asarray(image.convert("L")) > 0
    if truth.shape != found.shape:
        raise UserError(f"{mask} is {truth.shape[1]} × {truth.shape[0]} pixels, its image is not")
    return {
        "j": iou(found, truth),
        "precision": float((found == truth).mean()),
        "corloc": float(iou(_box(found), _box(truth)) >= 0.5),
    }


def _box(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the bounding box of a mask."""
    filled = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows):
        filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return filled


if __name__ == "__main__":
    sys.exit(command(job, OPTIONS))
