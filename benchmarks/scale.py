"""Benchmark of workers: the same shards by two processes and by one, on the same cores.

Both are workers that share the cores evenly, so what is compared is what it costs
to spread work over processes: 1 means nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes

from benchmarks.harness import Report, Target, alternate, assets, plot, ratio, show, wants_quick
from benchmarks.whole import repeat_images
from pipeline.config import make_config
from pipeline.jobs.extract import choose_runner, extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.system import files

TARGETS = (Target("scale.two_workers_over_one", "at-most", 1.15),)
OPTIONS = {
    "model": "squeezenet1_1", "weights": "random", "precision": "bf16", "device": "cpu", "k": "20",
}  # fmt: skip
N_IMAGES, N_QUICK = 12_800, 1_600
ROUNDS = 3

Times = dict[str, list[float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where the target was missed."""
    quick = wants_quick(__doc__ or "", argv)
    report = Report(TARGETS)
    try:
        images = assets("images", "imagenette224")
    except FileNotFoundError as error:
        report.skip_rest(str(error))
        return report.finish()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = repeat_images(images, folder / "images", N_QUICK if quick else N_IMAGES)
        runs = {workers: _prepare(dataset, folder, workers) for workers in (1, 2)}
        times: dict[str, Times] = {}
        for stage, work in {"extract": extract, "localize": localize}.items():
            works: dict[str, Callable[[], object]] = {
                f"{workers} workers": partial(_anew, run, stage, work)
                for workers, run in runs.items()
            }
            times[stage] = alternate(works, 2 if quick else ROUNDS)
            if stage == "extract":
                for run in runs.values():
                    factorize(run)
    both = {
        way: [sum(pair) for pair in zip(*(each[way] for each in times.values()), strict=True)]
        for way in times["extract"]
    }
    rows = [
        [stage, *(median(each[way]) for way in both), ratio(each["2 workers"], each["1 workers"])]
        for stage, each in {**times, "both": both}.items()
    ]
    show("seconds a stage", ["stage", *both, "two over one"], rows)
    plot("scale-quick" if quick else "scale", partial(_draw, times))
    report.measured("scale.two_workers_over_one", ratio(both["2 workers"], both["1 workers"]))
    return report.finish()


def _prepare(dataset: Path, folder: Path, workers: int) -> Workspace:
    """Make a run and choose how its network runs, which takes the same however many work."""
    options = OPTIONS | {"dataset": str(dataset), "workers": str(workers)}
    workspace = prepare(make_config(options), folder / f"run-{workers}")
    choose_runner([workspace])
    return workspace


def _anew(workspace: Workspace, stage: str, work: Callable[[Workspace], object]) -> None:
    """Remove a stage's shards and make them again."""
    store = workspace.activations if stage == "extract" else workspace.heatmaps
    for index in range(store.n_shards):
        files.remove(store.path(index))
        files.remove(store.record_path(index))
    work(workspace)


def _draw(times: dict[str, Times], axes: Axes) -> None:
    """Draw the seconds of each stage, a bar for each number of workers."""
    for column, each in enumerate(times.values()):
        for row, (way, took) in enumerate(each.items()):
            bars = axes.bar(column + 0.4 * row, median(took), 0.4, color=f"C{row}")
            if column == 0:
                bars.set_label(way)
    axes.set_xticks([0.2, 1.2], list(times))
    axes.set_ylabel("seconds")
    axes.legend()


if __name__ == "__main__":
    sys.exit(main())
