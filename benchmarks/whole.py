"""Runs whole jobs as a user does, each stage a process of its own, for their time and memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Watched, show, watch
from pipeline.config import make_config
from pipeline.images import list_dataset
from pipeline.runs.prepare import prepare
from pipeline.runs.stages import STAGES
from pipeline.runs.workspace import Workspace
from pipeline.system import files

STAGE_NAMES = tuple(stage.name for stage in STAGES)
"""In the order in which they work."""

LOADS = "import pipeline.runs.find; from pipeline.jobs.execute import body_of; body_of('{}')"
"""Code that loads what the command of a stage does: commands themselves load nothing before."""

REST = "start-up and summary"
"""What a job does beside its stages."""

START_UP = 30.0
"""Seconds a job may take that do not grow with the data."""


def repeat_images(source: Path, target: Path, n: int) -> Path:
    """Make a dataset of any size: links to a dataset's images, over and over, under new names.

    Parameters
    ----------
    source : Path
        A folder of images, in folders by label or not.
    target : Path
        Folder to make; the labels stay.
    n : int
        How many images it should have.

    Returns
    -------
    Path
        `target`.
    """
    dataset = list_dataset(source)
    root = Path(dataset.source.where)
    for index in range(n):
        original = root / dataset.images[index % len(dataset.images)].path
        folder = target / original.relative_to(root).parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:06d}_{original.name}").symlink_to(original)
    return target


def memory_of_stages(
    options: Mapping[str, str],
    sizes: tuple[int, int],
    folder: Path,
    stages: Sequence[str] = STAGE_NAMES,
    repeats: int = 3,
) -> tuple[float, float]:
    """Carry out stages on a small and a large dataset and watch the memory of each.

    Parameters
    ----------
    options : mapping
        Of the runs: dataset, model and so on.
    sizes : (int, int)
        Images of the small and the large run.
    folder : Path
        Where to make the runs; they are removed again.
    stages : sequence of str
        Which stages, in order.
    repeats : int
        How often each is carried out: the median counts. How buffers of two threads meet moves a
        peak by 3 %, and the largest of twelve single ones would say no more than that.

    Returns
    -------
    peak : float
        The most any stage took above the bare imports, gigabytes.
    growth : float
        The largest ratio between the peaks of the large and the small run of one stage.
    """
    bare = {stage: watch(["-c", LOADS.format(stage)]).peak for stage in stages}
    peaks: list[dict[str, float]] = []
    for size in sizes:
        run, found = folder / f"memory-{size}", []
        for _ in range(repeats):
            found.append(_run_stages({**options, "limit": str(size), "run": str(run)}, stages))
            files.remove(run)
        peaks.append({stage: median(each[stage].peak for each in found) for stage in stages})
    small, large = peaks
    rows = [
        [stage, bare[stage], *(each[stage] for each in peaks), large[stage] - bare[stage]]
        for stage in stages
    ]
    header = ["stage", "bare imports", *(f"{size} images" for size in sizes), "above imports"]
    show("peak memory of the process tree, GB (PSS it would have alone)", header, rows)
    above = max(each[stage] - bare[stage] for each in peaks for stage in stages)
    return above, max(large[stage] / small[stage] for stage in stages)


def discover_over_extract(options: Mapping[str, str], folder: Path) -> float:
    """Carry out the whole job in one process; return its time over that of its extraction.

    Start-up, `START_UP` seconds at most, is taken off; the shares of the stages are printed, and
    what ``K=auto`` takes more.
    """
    run = folder / "discover"
    times = discover(options, run)
    whole = sum(times.values())
    rows: list[list[object]] = [[name, took, took / whole] for name, took in times.items()]
    rows.append(["whole job", whole, 1.0])
    adds = _time_of_auto(options, run, folder / "auto") - times["factorize"]
    rows.append(["K=auto adds", adds, adds / whole])
    show("the whole job", ["stage", "seconds", "share"], rows)
    files.remove(run)
    return (whole - START_UP) / times["extract"]


def discover(options: Mapping[str, str], run: Path) -> dict[str, float]:
    """Carry out the whole job in one process, and leave the run.

    Returns
    -------
    dict
        Seconds of each stage, and of the `REST`: their sum is the time of the process.
    """
    arguments = _arguments(dict(options) | {"run": str(run)})
    whole = watch(["-m", "stages.discover", *arguments], memory=False)
    stages = _record(run)["stages"]
    times = {name: float(stages[name]["seconds"]) for name in STAGE_NAMES}
    return times | {REST: whole.seconds - sum(times.values())}


def _run_stages(options: Mapping[str, str], stages: Sequence[str]) -> dict[str, Watched]:
    """Make a run stage by stage; the first one is given all options, the others its folder."""
    watched: dict[str, Watched] = {}
    for stage in stages:
        given = {"run": options["run"]} if watched else options
        watched[stage] = watch(["-m", f"stages.{stage}", *_arguments(given)])
    return watched


def _time_of_auto(options: Mapping[str, str], run: Path, folder: Path) -> float:
    """Return the seconds of the factorization with ``K=auto``, on the same activations."""
    workspace = prepare(make_config(dict(options) | {"k": "auto"}), folder)
    _take_over(Workspace.open(run), workspace)
    watch(["-m", "stages.factorize", *_arguments({"run": str(folder)})], memory=False)
    took = float(_record(folder)["stages"]["factorize"]["seconds"])
    files.remove(folder)
    return took


def _take_over(made: Workspace, workspace: Workspace) -> None:
    """Give a run the activations of another with the same listing."""
    for index in range(made.activations.n_shards):
        source, target = made.activations.path(index), workspace.activations.path(index)
        for ending in (".h5", ".json"):
            shutil.copyfile(source.with_suffix(ending), target.with_suffix(ending))


def _arguments(options: Mapping[str, str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def _record(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return record
