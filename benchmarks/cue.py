"""A planted spurious cue: is it found, blamed, and does taking it out restore the right answer?

The network and the images, on which it errs, are those of `pipeline.sample.shortcut`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.analysis.run import Run, open_run
from pipeline.config import make_config
from pipeline.jobs.classify import classify
from pipeline.jobs.export import export
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.runs.prepare import prepare
from pipeline.sample import CLASSES, render_scene, write_sample
from pipeline.sample.network import IMAGE_SIZE
from pipeline.sample.shortcut import CLASS_ID, COUNTER_EXAMPLES, LABEL
from pipeline.sample.writer import SAMPLE_SEED

N_IMAGES = 480
K = "12"
"""Of 32, the number ``K=auto`` comes to, some five share the mark among them, each its own part."""


@dataclass(frozen=True)
class CueFound:
    """What was found of the mark.

    Attributes
    ----------
    concept_id, n_concepts : int
        The concept that overlaps most with the mark, of how many.
    iou, next_iou : float
        Its overlap, pixels of all images pooled, and the largest of any other concept.
    rank : int
        Its rank by contribution on images taken for the class of the mark; 1 is the first.
    error_excess, error_q : float
        How much more often the network errs with it than without; see the table ``concepts``.
    error_rank : int
        Its rank by that among all concepts.
    n_counter : int
        Images of other classes, with the mark, that the network takes for its class.
    restored, restored_by_others : float
        Share of them that are given their right class once the concept is taken out; the mean of
        the same with each other concept.
    """

    concept_id: int
    n_concepts: int
    iou: float
    next_iou: float
    rank: int
    error_excess: float
    error_q: float
    error_rank: int
    n_counter: int
    restored: float
    restored_by_others: float


def find_cue(folder: Path, weights: Path, k: str = K, n_images: int = N_IMAGES) -> CueFound:
    """Discover the concepts of such a network on counter-examples, and look for the mark."""
    write_sample(folder / "sample", n_images, cue=COUNTER_EXAMPLES)
    options = {"dataset": str(folder / "sample" / "images"), "model": "sample"}
    options |= {"weights": str(weights), "k": k}
    workspace = prepare(make_config(options), folder / "run")
    for job in (extract, factorize, localize, classify, export):
        job(workspace)
    return _judge(open_run(folder / "run"))


def _judge(run: Run) -> CueFound:
    concepts, images = run.table("concepts"), run.table("images")
    marks = {
        int(image_id): _mark(str(path))
        for image_id, path in images[["image_id", "path"]].itertuples(index=False)
    }
    overlaps = _overlaps(run, marks)
    found = int(overlaps.argmax())
    order = run.meaning.importance(CLASS_ID, n_images=len(images)).concepts
    excess = concepts["error_excess"]
    is_marked = images["image_id"].map(lambda image_id: marks[int(image_id)].any())
    misled = images[is_marked & (images.label != LABEL) & (images.pred_label == LABEL)]
    restored = {concept: _restored(run, concept, misled) for concept in concepts["concept_id"]}
    others = [share for concept, share in restored.items() if concept != found]
    return CueFound(
        concept_id=found,
        n_concepts=len(concepts),
        iou=float(overlaps[found]),
        next_iou=float(np.delete(overlaps, found).max()),
        rank=1 + int(np.flatnonzero(order["concept_id"] == found)[0]),
        error_excess=float(excess[found]),
        error_q=float(concepts["error_q"][found]),
        error_rank=1 + int((excess > excess[found]).sum()),
        n_counter=len(misled),
        restored=restored[found],
        restored_by_others=float(np.mean(others)),
    )


def _mark(path: str) -> NDArray[np.bool_]:
    """Return where the mark of an image is, rendered anew from the number in its name."""
    index = int(Path(path).stem.rpartition("_")[2])
    return render_scene(SAMPLE_SEED, index, IMAGE_SIZE, COUNTER_EXAMPLES).cue


def _overlaps(run: Run, marks: dict[int, NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return every concept's IoU with the mark, pixels of all images pooled, float64 (k,)."""
    thresholds = run.workspace.bank.thresholds[:, None, None]
    both = either = np.zeros(len(thresholds))
    for image_id, mark in marks.items():
        present = run.heatmap(image_id) >= thresholds
        both = both + (present & mark).sum(axis=(1, 2))
        either = either + (present | mark).sum(axis=(1, 2))
    return both / np.maximum(either, 1)


def _restored(run: Run, concept: int, misled: pd.DataFrame) -> float:
    """Return the share of images given their own label without a concept; NaN without images."""
    if misled.empty:
        return math.nan
    after = run.meaning.ablate([concept], misled["image_id"].tolist())
    label = misled.set_index("image_id")["label"].reindex(after["image_id"])
    return float((label.map(CLASSES.index).to_numpy() == after["class_after"]).mean())
