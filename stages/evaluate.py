"""A run's objects and concepts against ground truth, as a command."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

from pipeline import files
from pipeline.errors import UserError
from pipeline.evaluation import Scores, evaluate, find_truth, read_truth
from pipeline.run import Run, open_run
from stages.cli import RUN_HELP, Options, command, finished_run

OPTIONS = RUN_HELP | {
    "masks": "folder of masks or label maps named as the images (0 is background), or a CSV of"
    " boxes: path, x0, y0, x1, y1"
}
SHOWN, HEIGHT = 6, 160
"""Images in each row of the picture, and their height in pixels."""

FOUND, TRUE = (255, 120, 0), (0, 200, 255)


def job(options: Options) -> None:
    """Score a run against ground truth: J, pixel precision and CorLoc by label; NMI, ARI of parts.

    Writes ``evaluation/scores.csv`` and ``evaluation/objects.png`` into the run: the best images,
    the middle ones and the worst, found in orange, true in blue.
    """
    if "masks" not in options:
        raise UserError("MASKS is missing; pass MASKS=<folder of masks, or CSV of boxes>")
    run, where = open_run(finished_run(options)), Path(options["masks"])
    scores = evaluate(run, where)
    print(f"{'label':<28} {'images':>6} {'J':>6} {'precision':>9} {'CorLoc':>7}")
    for row in scores.by_label().itertuples():
        print(
            f"{str(row.label)[:28]:<28} {row.images:>6} {row.j:6.3f} {row.precision:9.3f}"
            f" {row.corloc:7.3f}"
        )
    if scores.parts:
        print("\nconcepts as parts: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.parts.items()))
    folder = run.folder / "evaluation"
    text = io.StringIO()
    buffer = io.BytesIO()
    scores.images.to_csv(text, index=False)
    files.write_text(folder / "scores.csv", text.getvalue())
    _picture(run, where, scores).save(buffer, "PNG")
    files.write_bytes(folder / "objects.png", buffer.getvalue())
    print(f"\nby image  {folder / 'scores.csv'}\npicture   {folder / 'objects.png'}")


def _picture(run: Run, where: Path, scores: Scores) -> Image.Image:
    """Put the best, the middle and the worst images into rows."""
    by = "j" if scores.images["j"].notna().any() else "corloc"
    ordered = scores.images.sort_values([by, "path"], ascending=[False, True])
    middle = max(0, (len(ordered) - SHOWN) // 2)
    rows = [ordered.iloc[:SHOWN], ordered.iloc[middle : middle + SHOWN], ordered.iloc[-SHOWN:]]
    known = find_truth(where)
    strips = []
    for part in rows:
        cells = []
        for row in part.to_dict("records"):
            entry = known[str(Path(str(row["path"])).with_suffix(""))]
            cells.append(_outlined(run, int(row["image_id"]), entry))
        strips.append(_join(cells, across=True))
    return _join(strips, across=False)


def _outlined(
    run: Run, image_id: int, entry: Path | list[tuple[int, int, int, int]]
) -> Image.Image:
    pixels = run.image(image_id)
    height, width = pixels.shape[:2]
    truth = read_truth(entry, (width, height))
    shape = (max(1, round(width * HEIGHT / height)), HEIGHT)
    picture = Image.fromarray(pixels).resize(shape)
    shown = np.array(picture)
    masks = [(run.object_mask(image_id), FOUND)]
    if truth.labels is not None:
        masks.append((truth.labels > 0, TRUE))
    for mask, colour in masks:
        small = np.asarray(Image.fromarray(mask).resize(shape, Image.Resampling.NEAREST))
        shown[find_boundaries(small, mode="thick")] = colour
    picture = Image.fromarray(shown)
    if truth.labels is None:
        draw = ImageDraw.Draw(picture)
        for box in truth.boxes:
            draw.rectangle([edge * HEIGHT / height for edge in box], outline=TRUE)
    return picture


def _join(pictures: list[Image.Image], *, across: bool) -> Image.Image:
    widths, heights = [each.width for each in pictures], [each.height for each in pictures]
    size = (sum(widths), max(heights)) if across else (max(widths), sum(heights))
    joined = Image.new("RGB", size, "white")
    at = 0
    for each in pictures:
        joined.paste(each, (at, 0) if across else (0, at))
        at += each.width if across else each.height
    return joined


if __name__ == "__main__":
    sys.exit(command(job, OPTIONS))
