"""Does the network, given the concepts alone, agree with itself? Beside SVD, and beside nonsense.

Notation: W channels × k; agreement is the share of held-out images with the same top class on
D(W H) as on the activations. The *permuted* bank has the channels of W exchanged at random: what it
reaches owes nothing to the concepts, and all to how they are encoded.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from benchmarks.harness import Report, Target, plot, show
from benchmarks.verdicts import Case, run_of
from pipeline.analysis.samples import RunSamples, concepts_alone
from pipeline.classify.fidelity import compare
from pipeline.runs.bank import fit_run
from pipeline.runs.workspace import Workspace

_NAME = "concepts.faithful.mobilenet_v2"
OVER_SVD = Target(f"{_NAME}.imagenette224.k100_over_svd", "at-least", 0.94)
OVER_PLAIN = Target(f"{_NAME}.imagenet600.k100_over_plain", "at-least", 1.8)
PERMUTED = {
    dataset: Target(f"{_NAME}.{dataset}.permuted_over_ours", "at-most", 0.33)
    for dataset in ("imagenette224", "imagenet600")
}
TARGETS = (OVER_SVD, OVER_PLAIN, *PERMUTED.values())

CASES = (Case("mobilenet_v2", "imagenette224"), Case("mobilenet_v2", "imagenet600"))
KS, QUICK = (20, 50, 100), (20, 50)
MOST = 100
"""Concepts of the targets, which are of ``OBJECTIVE=faithful``."""

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
            found = measured(run_of(case, Path(name)).workspace, QUICK if quick else KS)
            rows.append(found.assign(dataset=case.dataset))
    found = pd.concat(rows)
    columns = [
        *("dataset", "k", "ours", "faithful", "svd", "mean", "permuted", "faithful permuted"),
        *("kl", "kl faithful", "kl svd", "energy", "energy faithful", "fit s", "fit s faithful"),
    ]
    show("agreement of held-out images", columns, found[columns].to_numpy().tolist())
    plot("faithful-quick" if quick else "faithful", partial(_draw, found))
    judge(report, found)


def judge(report: Report, found: pd.DataFrame) -> None:
    """Report the targets, of what `measured` gives for some datasets."""
    for row in found[found["k"] == MOST].to_dict("records"):
        faithful = row["faithful"]
        report.measured(PERMUTED[row["dataset"]].name, row["faithful permuted"] / faithful)
        if row["dataset"] == CASES[0].dataset:
            report.measured(OVER_SVD.name, faithful / row["svd"])
        else:
            report.measured(OVER_PLAIN.name, faithful / row["ours"])


def measured(workspace: Workspace, ks: Sequence[int]) -> pd.DataFrame:
    """Measure agreement, KL, energy and time of both objectives at several k, a row each."""
    samples, rows = RunSamples(workspace), []
    image_ids = samples.image_ids(N_IMAGES, samples.split)
    for k in ks:
        row: dict[str, float] = {"k": k}
        for objective, after in (("energy", ""), ("faithful", " faithful")):
            config = workspace.config.model_copy(update={"objective": objective})
            start = time.perf_counter()
            bank = fit_run(replace(workspace, config=config), (k,)).bank
            row[f"fit s{after}"] = time.perf_counter() - start
            row[f"energy{after}"] = 1 - bank.heldout_error**2
            mixed = bank.W[np.random.default_rng(0).permutation(len(bank.W))]
            nonsense = {"permuted": concepts_alone(replace(bank, W=mixed))}
            seen = samples.see(image_ids, bank, samples.stand_ins(bank) | nonsense)
            link = workspace.cut.link
            found = {way: compare(seen.truth, answer, link) for way, answer in seen.answers.items()}
            row[after.strip() or "ours"] = found["nmf"]["agreement"]
            row[f"{after} permuted".strip()] = found["permuted"]["agreement"]
            row[f"kl{after}"] = found["nmf"]["kl"]
            row |= {way: found[way]["agreement"] for way in ("svd", "mean")}
            row["kl svd"] = found["svd"]["kl"]
        rows.append(row)
    return pd.DataFrame(rows)


def _draw(found: pd.DataFrame, axes: Axes) -> None:
    colours = {"ours": "#4477aa", "faithful": "#228833", "svd": "#777777", "permuted": "#cc6677"}
    for (dataset, own), style in zip(found.groupby("dataset"), ("-", "--"), strict=False):
        for way, colour in colours.items():
            axes.plot(own["k"], own[way], style, color=colour, label=f"{dataset}, {way}")
    axes.set_xscale("log")
    axes.set_xlabel("k")
    axes.set_ylabel("agreement on held-out images")
    axes.legend(fontsize=7)
