"""Whether the interval said of a concept holds the cosine of its match in a fit nobody looked at.

Of each dataset the images are dealt into two parts at random. Each part is fitted as a run is, from
a start of its own, and says of its concepts how sure they are, by fits on halves of its images. The
other part's fit is the third one: as many other images, and another start.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.harness import Report, Target, assets, show
from pipeline import nmf
from pipeline.config import make_config
from pipeline.jobs.extract import extract
from pipeline.runs.fit import FitData, fit_concepts, measure_reappearance
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample

COVERAGE = Target("concepts.reappear.coverage", "at-least", 0.87)
NOT_OVER = Target("concepts.reappear.coverage_not_over", "at-most", 0.93)
BY_ENERGY = {
    dataset: Target(f"concepts.reappear.{dataset}.k100_by_energy", "at-least", 0.8)
    for dataset in ("imagenette224", "imagenet600")
}
TARGETS = (COVERAGE, NOT_OVER, *BY_ENERGY.values())

NETWORKS = ("mobilenet_v2", "squeezenet1_1")
SEVERAL = {"imagenet600": ("imagenet_samples", "imagenet_more")}
"""Datasets that are several of the folders of images."""

DATASETS = (
    "imagenette224", "imagenet600", "weizmann_horses", "car_parts", "salient_objects", "sample",
)  # fmt: skip
KS, SEEDS, MOST = (12, 32), (0, 1), 100
"""Numbers of concepts, ways to deal the images, and the number at which energy is weighed."""

N_QUICK = 600
PROBABILITIES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(frozen=True)
class Case:
    """A network on a dataset, numbers of concepts and ways to deal its images."""

    network: str
    dataset: str
    ks: tuple[int, ...] = KS
    seeds: tuple[int, ...] = SEEDS
    limit: int | None = None


QUICK = (Case(NETWORKS[0], DATASETS[0], (20,), (0,), N_QUICK),)


def _full() -> list[Case]:
    cases = [Case(network, dataset) for network in NETWORKS for dataset in DATASETS]
    return [*cases, *(Case(NETWORKS[0], dataset, (MOST,), (0,)) for dataset in BY_ENERGY)]


def measure(report: Report, *, quick: bool) -> None:
    """Measure the targets.

    Parameters
    ----------
    report : Report
        Where the outcomes go.
    quick : bool
        One network, one dataset, one number of concepts.
    """
    found = []
    with tempfile.TemporaryDirectory() as name:
        workspaces: dict[tuple[str, str], Workspace] = {}
        for case in QUICK if quick else _full():
            key = (case.network, case.dataset)
            if key not in workspaces:
                workspaces[key] = _extracted(case, Path(name))
            found += [_compared(workspaces[key], case, k, s) for k in case.ks for s in case.seeds]
    rows = pd.concat(found, ignore_index=True)
    _show(rows)
    report.measured(COVERAGE.name, float(rows["covered"].mean()))
    report.measured(NOT_OVER.name, float(rows["covered"].mean()))
    for dataset, target in BY_ENERGY.items():
        own = rows[(rows["dataset"] == dataset) & (rows["k"] == MOST)]
        if len(own):
            report.measured(target.name, _by_energy(own))


def _extracted(case: Case, folder: Path) -> Workspace:
    options = {
        "dataset": str(_images(case.dataset, folder)),
        "model": case.network,
        "weights": str(assets("weights", f"{case.network}.safetensors")),
    }
    if case.limit is not None:
        options["limit"] = str(case.limit)
    workspace = prepare(make_config(options), folder / f"{case.network}-{case.dataset}")
    extract(workspace)
    return workspace


def _images(dataset: str, folder: Path) -> Path:
    """Find the images of a dataset, or make it of others or of nothing."""
    target = folder / dataset
    if dataset == "sample":
        if not target.exists():
            write_sample(target)
        return target / "images"
    if dataset in SEVERAL:
        for each in SEVERAL[dataset]:
            shutil.copytree(assets("images", each), target / each, dirs_exist_ok=True)
        return target
    found = assets("images", dataset)
    return found / "images" if (found / "images").exists() else found


def _compared(workspace: Workspace, case: Case, k: int, seed: int) -> pd.DataFrame:
    """Fit both parts, and compare what each says with the other: a row per concept."""
    ids = workspace.listing.frame["image_id"].to_numpy()
    order = np.random.default_rng(seed).permutation(np.sort(ids))
    half = len(order) // 2
    # Seeds far from each other: replicates of a fit start from the few next to its own.
    parts = [order[:half], order[half : 2 * half]]
    datas = [_data(workspace, part, 1_000 * seed + 500 * at) for at, part in enumerate(parts)]
    fits = [fit_concepts(data, (k,)) for data in datas]
    rows = []
    for data, own, other in zip(datas, fits, reversed(fits), strict=True):
        said = measure_reappearance(data, own)
        cosine = nmf.match(own.W, other.W)[1].numpy()
        rows.append(
            pd.DataFrame(
                {
                    "network": case.network,
                    "dataset": case.dataset,
                    "k": k,
                    "energy": (own.energies / own.energies.sum()).numpy(),
                    "cosine": cosine,
                    "came_back": cosine >= nmf.ALIKE,
                    "probability": said.probability,
                    "width": said.high - said.low,
                    "covered": (said.low <= cosine) & (cosine <= said.high),
                    "together": said.partners[:, 0] >= 0,
                }
            )
        )
    return pd.concat(rows)


def _data(workspace: Workspace, part: NDArray[np.int64], seed: int) -> FitData:
    return FitData(workspace.activations, frozenset(part.tolist()), seed, device=workspace.device)


def _by_energy(rows: pd.DataFrame) -> float:
    return float((rows["energy"] * rows["came_back"]).sum() / rows["energy"].sum())


def _show(rows: pd.DataFrame) -> None:
    """Print coverage by case, and how often concepts of each probability came back."""
    table: list[list[object]] = []
    for key, own in rows.groupby(["network", "dataset", "k"], sort=False):
        shares = [own[each].mean() for each in ("covered", "width", "probability", "came_back")]
        table.append([*key, len(own), *shares, _by_energy(own), int(own["together"].sum())])
    header = ["network", "dataset", "k", "concepts", "covered", "width", "said", "came back"]
    show("concepts in a fit on other images", [*header, "by energy", "as a subspace"], table)
    bins = pd.cut(rows["probability"], PROBABILITIES, include_lowest=True)
    table = [
        [str(each), len(own), own["probability"].mean(), own["came_back"].mean()]
        for each, own in rows.groupby(bins, observed=True)
    ]
    show("probabilities", ["said", "concepts", "mean", "came back"], table)
