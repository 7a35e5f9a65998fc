"""Where concepts are, against true masks: objects of horses, parts of cars, rendered scenes.

Images are squashed to the network's input. J is the mean over images of the IoU at the original
size.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.harness import Report, Target, assets, plot
from benchmarks.object_masks import Reported, score_objects
from benchmarks.part_labels import TARGETS as OF_PARTS
from benchmarks.part_labels import score_part_labels
from benchmarks.parts import score_cars, score_sample
from pipeline.analysis.objects import fit_objects
from pipeline.config import make_config
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace

MAX_F = Target("concepts.salient.maxf", "at-least", 0.78)
TARGETS = (
    Target("concepts.horses.j", "at-least", 0.72),
    Target("concepts.salient.j", "at-least", 0.657),
    MAX_F,
    Target("concepts.salient.control_gap", "at-least", 0.10),
    Target("concepts.cars.fg_nmi", "at-least", 0.38),
    Target("concepts.cars.fg_ari", "at-least", 0.26),
    *OF_PARTS,
    Target("concepts.sample.objects_j", "at-least", 0.75),
    Target("concepts.sample.parts_over_gradcam", "at-least", 1.15),
    Target("concepts.refinement_control_gap", "at-least", 0.15),
)


def measure(report: Report, *, quick: bool) -> None:
    """Measure the targets of localization.

    Parameters
    ----------
    report : Report
        Where the outcomes go.
    quick : bool
        Fewer images.
    """
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rendered = _run({"limit": "160"} if quick else {}, folder / "sample")
        scores["rendered sample"] = score_sample(report, rendered)
        weights = assets("weights", "mobilenet_v2.safetensors")
        folders = ("weizmann_horses", "salient_objects", "car_parts")
        horses, salient, cars = (assets("images", each) for each in folders)
        options = {"model": "mobilenet_v2", "weights": str(weights), "image_size": "448"}
        if quick:
            options["limit"] = "48"
        finer = {"k": "10", "aux_layers": "features.13", "dataset": str(horses / "images")}
        run = _run(options | finer, folder / "horses")
        gap = "concepts.refinement_control_gap"
        scores["horses"] = score_objects(report, run, horses, "horses", gap)
        finer |= {"k": "32", "dataset": str(salient / "images")}
        run, gap = _run(options | finer, folder / "salient"), "concepts.salient.control_gap"
        scores["photographs"] = score_objects(report, run, salient, "salient", gap)
        report.measured(MAX_F.name, Reported.of(run, salient / "masks").max_f())
        parts = {"k": "8", "dataset": str(cars / "images")}
        run = _run(options | parts, folder / "cars")
        score_cars(report, run, cars)
        score_part_labels(report, run, cars, quick=quick)
    plot("localization-quick" if quick else "localization", partial(_draw, scores))


def _run(options: dict[str, str], folder: Path) -> Workspace:
    """Carry out a run up to what is object."""
    workspace = prepare(make_config(options), folder)
    for job in (extract, factorize, localize):
        job(workspace)
    fit_objects(workspace)
    return workspace


def _draw(scores: dict[str, dict[str, float]], axes: Axes) -> None:
    names = [f"{data}: {way}" for data, each in scores.items() for way in each]
    values = [value for each in scores.values() for value in each.values()]
    axes.barh(range(len(names)), values, color="#4477aa")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("J, mean IoU of object masks")
