"""Does the network, given the concepts alone, agree with itself? Beside SVD, and beside nonsense.

Notation: W channels × k; agreement is the share of held-out images with the same top class on
D(W H) as on the activations. The *permuted* bank has the channels of W exchanged at random: what it
reaches owes nothing to the concepts, and all to how they are encoded. Up to `DENSE` concepts are
fitted with positions having any number of them; of more a position has few, as of the sparse
autoencoder that stands beside them. Each for both objectives.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from benchmarks.autoencoder import Autoencoder, train
from benchmarks.harness import Report, Target, plot, show
from benchmarks.verdicts import Case, run_of
from pipeline.analysis.samples import RunSamples, StandIn, concepts_alone
from pipeline.classify.fidelity import compare
from pipeline.runs.bank import fit_run
from pipeline.runs.workspace import Workspace

_NAME = "concepts.faithful.mobilenet_v2"
OVER_SVD = Target(f"{_NAME}.imagenette224.k100_over_svd", "at-least", 0.94)
OVER_PLAIN = {
    k: Target(f"{_NAME}.imagenet600.k{k}_over_plain", "at-least", 1.8) for k in (100, 200)
}
PERMUTED = {
    dataset: Target(f"{_NAME}.{dataset}.permuted_over_ours", "at-most", 0.33)
    for dataset in ("imagenette224", "imagenet600")
}
TARGETS = (OVER_SVD, *OVER_PLAIN.values(), *PERMUTED.values())

CASES = (Case("mobilenet_v2", "imagenette224"), Case("mobilenet_v2", "imagenet600"))
DENSE, QUICK = (20, 50, 100, 200), (20, 50)
SPARSE, ACTIVE, EPOCHS = (200, 512, 1_000), 16, 20
MOST = 100
"""Concepts of the targets beside SVD and exchanged channels, of ``OBJECTIVE=faithful``."""

N_IMAGES = 1_000
"""Held-out images at most."""


def measure(report: Report, *, quick: bool) -> None:
    """Measure the targets, and print and draw agreement against k.

    Parameters
    ----------
    report : Report
        Where the outcomes go.
    quick : bool
        One dataset, few concepts.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for case in CASES[:1] if quick else CASES:
            workspace = run_of(case, Path(name)).workspace
            found = measured(workspace, QUICK if quick else DENSE)
            many = pd.DataFrame() if quick else measured_sparse(workspace, SPARSE)
            rows += [each.assign(dataset=case.dataset) for each in (found, many)]
    found = pd.concat(rows)
    columns = [
        *("dataset", "k", "active", "ours", "faithful", "autoencoder", "svd", "mean"),
        *("permuted", "faithful permuted"),
        *("kl", "kl faithful", "kl svd", "energy", "energy faithful", "fit s", "fit s faithful"),
    ]
    found = found.reindex(columns=columns)
    show("agreement of held-out images", columns, found.to_numpy().tolist())
    plot("faithful-quick" if quick else "faithful", partial(_draw, found))
    judge(report, found)


def judge(report: Report, found: pd.DataFrame) -> None:
    """Report the targets, of what `measured` gives for some datasets."""
    dense = found[found["active"] == "any"]
    for row in dense.to_dict("records"):
        k, faithful, is_first = row["k"], row["faithful"], row["dataset"] == CASES[0].dataset
        if k == MOST:
            report.measured(PERMUTED[row["dataset"]].name, row["faithful permuted"] / faithful)
        if k == MOST and is_first:
            report.measured(OVER_SVD.name, faithful / row["svd"])
        if k in OVER_PLAIN and not is_first:
            report.measured(OVER_PLAIN[k].name, faithful / row["ours"])


def measured(workspace: Workspace, ks: Sequence[int]) -> pd.DataFrame:
    """Measure agreement, KL, energy and time of both objectives at several k, a row each."""
    rows = []
    for k in ks:
        row: dict[str, object] = {"k": k, "active": "any"}
        for objective, after in (("energy", ""), ("faithful", " faithful")):
            options = {"objective": objective, "active": "none"}
            found, more = _fitted(workspace, k, options)
            row[after.strip() or "ours"] = found["nmf"]["agreement"]
            row[f"{after} permuted".strip()] = found["permuted"]["agreement"]
            row |= {f"{name}{after}": value for name, value in more.items()}
            row[f"kl{after}"] = found["nmf"]["kl"]
            row |= _beside(found)
        rows.append(row)
    return pd.DataFrame(rows)


def measured_sparse(workspace: Workspace, ks: Sequence[int]) -> pd.DataFrame:
    """Measure the same where a position has few, beside an autoencoder, a row for each k."""
    parts = workspace.activations.iterate(["V"], workspace.ids("fit"))
    V = np.concatenate([each["V"].reshape(-1, each["V"].shape[-1]) for each in parts])
    rows = []
    for k in ks:
        *_, last = train(torch.from_numpy(V).float(), k, ACTIVE, EPOCHS)

        def decoded(maps: Tensor, model: Autoencoder = last.model) -> Tensor:
            return model.decoded(maps.flatten(0, 2)).view_as(maps)

        found, more = _fitted(workspace, k, {"active": ACTIVE}, {"autoencoder": decoded})
        row = {way: found[way]["agreement"] for way in ("autoencoder", "permuted")}
        said = {"k": k, "active": ACTIVE, "ours": found["nmf"]["agreement"]}
        row = said | row | more | _beside(found) | {"kl": found["nmf"]["kl"]}
        found, more = _fitted(workspace, k, {"active": ACTIVE, "objective": "faithful"})
        row |= {f"{name} faithful": value for name, value in more.items()}
        row["faithful permuted"] = found["permuted"]["agreement"]
        rows.append(
            row | {"faithful": found["nmf"]["agreement"], "kl faithful": found["nmf"]["kl"]}
        )
    return pd.DataFrame(rows)


def _fitted(
    workspace: Workspace,
    k: int,
    options: Mapping[str, object],
    stand_ins: Mapping[str, StandIn] | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Fit k concepts; give what is left of the answers, way by way, and energy and time."""
    config = workspace.config.model_copy(update=options)
    samples, start = RunSamples(workspace), time.perf_counter()
    bank = fit_run(replace(workspace, config=config), (k,)).bank
    took = time.perf_counter() - start
    mixed = bank.W[np.random.default_rng(0).permutation(len(bank.W))]
    others = {"permuted": concepts_alone(replace(bank, W=mixed)), **(stand_ins or {})}
    image_ids = samples.image_ids(N_IMAGES, samples.split)
    seen = samples.see(image_ids, bank, samples.stand_ins(bank) | others)
    link = workspace.cut.link
    found = {way: compare(seen.truth, answer, link) for way, answer in seen.answers.items()}
    return found, {"fit s": took, "energy": 1 - bank.heldout_error**2}


def _beside(found: dict[str, dict[str, float]]) -> dict[str, float]:
    ways = {way: found[way]["agreement"] for way in ("svd", "mean")}
    return ways | {"kl svd": found["svd"]["kl"]}


def _draw(found: pd.DataFrame, axes: Axes) -> None:
    colours = {
        "ours": "#4477aa",
        "faithful": "#228833",
        "autoencoder": "#ccbb44",
        "svd": "#777777",
        "permuted": "#cc6677",
    }
    styles = iter(("-", "--", ":", "-."))
    for (dataset, active), own in found.groupby(["dataset", "active"], sort=False):
        style = next(styles)
        for way, colour in colours.items():
            label = f"{dataset}, {active} active, {way}"
            if own[way].notna().any():
                axes.plot(own["k"], own[way], style, color=colour, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("k")
    axes.set_ylabel("agreement on held-out images")
    axes.legend(fontsize=7)
