"""Names of concepts against true parts: the classes they name, and where in the object they say.

Of the rendered sample, the right classes are those that have the part a concept stands on; of cars,
the right place is that of the part's mask in the box around all parts. A concept stands on the part
that its strength ranks best on one half of the images, and is scored where its average precision on
the other half is `LEAST_AP` or more.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import Report, Target, assets, seconds, show
from pipeline.analysis.image_data import ImageData
from pipeline.analysis.naming import describe, name_concepts, strongest_by_image
from pipeline.analysis.objects import fit_objects
from pipeline.analysis.run import Run, open_run
from pipeline.config import make_config
from pipeline.images import Affine, unit_hash
from pipeline.jobs.execute import execute
from pipeline.localize.alignment import LEAST_AP, average_precision
from pipeline.names import Described, Named
from pipeline.names.place import OFF
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.sample import CLASS_PARTS, PARTS
from pipeline.tables import TABLES

TOP3 = Target("concepts.names.top3", "at-least", 0.7)
PLACE = Target("concepts.names.place", "at-least", 0.7)
TARGETS = (TOP3, PLACE)

STAGES = ("extract", "factorize", "localize", "classify", "export")
NETWORKS = ("mobilenet_v2", "squeezenet1_1")
K_CARS = "16"
N_CARS = (200, 60)
"""Cars, and those of the quick case."""

_NO_LABELS, _NO_PAIRS = (
    TABLES[name].schema().empty_table().to_pandas() for name in ("concept_labels", "concept_pairs")
)
"""Of cars nothing but masks is known."""

Parts = NDArray[np.int64]
Read = Callable[[str], Parts]


def measure(report: Report, *, quick: bool) -> None:
    """Measure the targets of names.

    Parameters
    ----------
    report : Report
        Where the outcomes go.
    quick : bool
        Fewer images.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "sample"
        execute(prepare(make_config({"limit": "240"} if quick else {}), folder), STAGES)
        report.measured(TOP3.name, score_classes(open_run(folder)))
        cars = assets("images", "car_parts")
        weights = {each: assets("weights", f"{each}.safetensors") for each in NETWORKS}
        right: list[bool] = []
        for network, path in weights.items():
            options = {"model": network, "weights": str(path), "image_size": "448", "k": K_CARS}
            options |= {"dataset": str(cars / "images"), "limit": str(N_CARS[quick])}
            right += score_places(_localized(options, Path(name) / network), cars, network)
        report.measured(PLACE.name, float(np.mean(right)) if right else float("nan"))


def score_classes(run: Run) -> float:
    """Return how many of the concepts that stand on a part of the sample name its classes."""
    root = Path(run.workspace.record.dataset.root).parent / "parts"

    def read(path: str) -> Parts:
        return _read(root / Path(path).with_suffix(".png"))

    described, named = _names(run)
    rows, right = [], []
    for concept, (part, ap) in _best_parts(run.workspace, read).items():
        classes = frozenset(each for each in CLASS_PARTS if PARTS[part - 1] in CLASS_PARTS[each])
        answer = named[concept]
        ranked = () if answer is None else answer.ranked
        at = [place for place, each in enumerate(ranked, 1) if frozenset(each.labels) == classes]
        right.append(bool(at))
        said = ranked[0].text if ranked else None
        rows.append([concept, PARTS[part - 1], ap, said, at[0] if at else None, len(classes)])
    header = ["concept", "part", "AP", "name", "classes right at", "of classes"]
    show(f"rendered sample, {len(described)} concepts, those on a part", header, rows)
    return float(np.mean(right)) if right else float("nan")


def score_places(workspace: Workspace, source: Path, network: str) -> list[bool]:
    """Say of each concept that stands on a part of cars whether its name says the right place."""
    names = {
        int(key): text for key, text in json.loads((source / "parts.json").read_text()).items()
    }
    plain = sorted({_plain(text) for text in names.values()} - {"_background_"})
    lut = np.zeros(256, dtype=np.int64)
    for value, text in names.items():
        lut[value] = 1 + plain.index(_plain(text)) if _plain(text) in plain else 0

    def read(path: str) -> Parts:
        return lut[_read(source / "parts" / f"{Path(path).stem}.png")]

    described = _described(workspace, _NO_LABELS, _NO_PAIRS)
    heights = _true_heights(workspace, read)
    rows, right = [], []
    for concept, (part, ap) in _best_parts(workspace, read).items():
        true, said = _true(heights[part]), _said(described[concept])
        right.append(said == true)
        words = " ".join(described[concept].place.words) or None
        rows.append([concept, plain[part - 1], ap, words, said, true, heights[part]])
    header = ["concept", "part", "AP", "words", "so it is", "true", "of height"]
    show(f"cars, {network}, {len(described)} concepts, those on a part", header, rows)
    return right


def _localized(options: dict[str, str], folder: Path) -> Workspace:
    """Carry out a run up to where its concepts and objects are."""
    workspace = prepare(make_config(options), folder)
    execute(workspace, STAGES[:3])
    fit_objects(workspace)
    return workspace


def _names(run: Run) -> tuple[list[Described], list[Named | None]]:
    """Describe and name a run's concepts again, for the names that came second and third."""
    tables = run.table("concept_labels"), run.table("concept_pairs")
    described = _described(run.workspace, *tables)
    return described, name_concepts(run.workspace, described)


def _described(workspace: Workspace, labels: pd.DataFrame, pairs: pd.DataFrame) -> list[Described]:
    """Describe concepts, and print how long that took."""
    found: list[Described] = []
    by_image = strongest_by_image(workspace)
    took = seconds(lambda: found.extend(describe(workspace, by_image, labels, pairs)))
    print(f"  {len(by_image)} images looked at in {took:.1f} s", flush=True)
    return found


def _best_parts(workspace: Workspace, read: Read) -> dict[int, tuple[int, float]]:
    """Return the part and its average precision of each concept that stands on one."""
    strength, parts, chosen = (
        np.concatenate(each) for each in zip(*_cells(workspace, read), strict=True)
    )
    ids = [int(each) for each in np.unique(parts) if each]
    members = [parts == each for each in ids]
    known = [at for at, each in enumerate(members) if each[chosen].any() and each[~chosen].any()]
    of_known = np.stack([members[at] for at in known], 1)
    scores = average_precision(strength[chosen], of_known[chosen])
    found = {}
    for concept, best in enumerate(scores.argmax(1)):
        one, member = strength[~chosen, concept, None], of_known[~chosen, best, None]
        ap = float(average_precision(one, member)[0, 0])
        if ap >= LEAST_AP:
            found[concept] = (ids[known[best]], ap)
    return found


def _cells(
    workspace: Workspace, read: Read
) -> Iterator[tuple[NDArray[np.float32], Parts, NDArray[np.bool_]]]:
    """Yield of each image the concepts' strength at each cell, its part, and which half it is."""
    data, grid = ImageData(workspace), workspace.grid
    for image_id, path in _images(workspace):
        parts = read(path)
        affine = Affine(*data.entry(image_id)["affine"].tolist())
        centres = np.stack(np.meshgrid(grid.centres_x, grid.centres_y), -1) + 0.5
        x, y = np.moveaxis(affine.to_image(centres), -1, 0)
        height, width = parts.shape
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        H = data.grid_heatmap(image_id)[:, seen].T
        half = unit_hash(image_id, 0, "evaluate") < 0.5
        yield H, parts[y[seen].astype(int), x[seen].astype(int)], np.full(len(H), half)


def _images(workspace: Workspace) -> list[tuple[int, str]]:
    frame = workspace.images
    return list(zip(frame["image_id"].tolist(), frame["path"].tolist(), strict=True))


def _read(path: Path) -> Parts:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.int64)


def _plain(part: str) -> str:
    return part.replace("left_", "").replace("right_", "")


def _true_heights(workspace: Workspace, read: Read) -> dict[int, float]:
    """Return where the middle of each part is in the box around all: 0 its top, 1 its bottom."""
    heights: dict[int, list[float]] = {}
    for _, path in _images(workspace):
        parts = read(path)
        rows = np.flatnonzero((parts > 0).any(1))
        for part in np.unique(parts[parts > 0]).tolist():
            middle = np.nonzero(parts == part)[0].mean() + 0.5
            height = (middle - rows[0]) / (rows[-1] + 1 - rows[0])
            heights.setdefault(part, []).append(float(height))
    return {part: float(np.median(each)) for part, each in heights.items()}


def _true(height: float) -> str:
    return "top" if height <= 0.5 - OFF else "low" if height >= 0.5 + OFF else "between"


def _said(concept: Described) -> str | None:
    """Return what a name says of the height; None where it says nothing of the object."""
    words: tuple[Any, ...] = concept.place.words
    for word in ("top", "low"):
        if word in words:
            return word
    return "between" if words and "background" not in words else None
