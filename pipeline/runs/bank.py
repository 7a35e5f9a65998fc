"""A run's bank: concepts fitted to its activations, and all that is kept of them.

The one way it is made: for runs, analysis and benchmarks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import nmf
from ..errors import UserError, option
from ..localize import presence_thresholds
from ..store import Bank, PositionBlocks, Probe, UnfinishedFit, read_bank
from ..system import checksums
from .balance import image_weights
from .fit import N_SAMPLE, Concepts, FitData, fit_concepts, measure, measure_reappearance
from .readout import readout
from .workspace import Workspace


@dataclass(frozen=True, eq=False)
class RunFit:
    """A run's bank, and how it was found."""

    bank: Bank
    concepts: Concepts


def fit_run(
    workspace: Workspace,
    ks: Sequence[int] | None = None,
    unfinished: UnfinishedFit | None = None,
    probe: Probe | None = None,
) -> RunFit:
    """Fit concepts to a run's activations and gather what a bank keeps of them.

    Parameters
    ----------
    workspace : Workspace
        A run with activations.
    ks : sequence of int, optional
        Numbers of concepts to choose from; those of the run's options by default. The run's own
        number by itself gives the run's own bank.
    unfinished : UnfinishedFit, optional
        Keeps what was found so far, and goes on from there.
    probe : Probe, optional
        Of ``HEAD=probe``, where it is not written yet.

    Raises
    ------
    UserError
        Negative activations under ``TRANSFORM=none``, a k that the data cannot hold, or
        ``OBJECTIVE=faithful`` without classes.
    """
    workspace = workspace.fitted
    config = workspace.config
    data = FitData(
        workspace.activations,
        workspace.ids("fit"),
        config.seed,
        config.transform,
        image_weights(workspace),
        workspace.device,
        partial(workspace.sample, "fit") if len(workspace.listing.starts) > 1 else None,
        readout(workspace, probe),
        active=config.active,
    )
    taken = taken_of(workspace) if ks is None or ks == config.k else None
    found = fit_concepts(data, ks or config.k, unfinished, taken)
    bank = replace(_make_bank(workspace, found), reappearance=measure_reappearance(data, found))
    return RunFit(bank, found)


def taken_of(workspace: Workspace) -> nmf.TreeCut | None:
    """Return the concepts that a run takes from the tree of another in place of a fit, if it does.

    Raises
    ------
    UserError
        That run is gone, or its concepts are others by now.
    """
    at, of = workspace.config.at, workspace.record.tree_of
    if at is None or of is None:
        return None
    source = Path(os.path.normpath(workspace.folder / of.run))
    path = source / "bank" / "bank.h5"
    if not path.is_file() or checksums.sha256(path) != of.bank:
        now = "has other concepts now" if path.is_file() else "is not there"
        raise UserError(
            f"the {at} concepts of {workspace.folder} are of the tree of {source}, which {now};"
            f" make them anew in another folder by {option('from_run')} and {option('at', at)}"
        )
    tree = read_bank(path).tree
    assert tree is not None
    return nmf.cut_tree(tree, at)


def _make_bank(workspace: Workspace, found: Concepts) -> Bank:
    """Gather what the bank keeps of the concepts, and measure them on held-out images."""
    others = workspace.ids("heldout")
    blocks = PositionBlocks(workspace.activations, others, found.transform)
    heldout = measure(blocks, found.W.to(workspace.device), found.active)
    strengths = nmf.encode(found.sample[:N_SAMPLE], found.W, active=found.active)
    thresholds = presence_thresholds(strengths.numpy())
    return Bank(
        layer=workspace.config.layer,
        seed=workspace.config.seed,
        transform=found.transform,
        W=found.W.numpy(),
        context=found.context.numpy(),
        thresholds=thresholds.values,
        threshold_reasons=thresholds.reasons,
        energies=found.energies.numpy(),
        stability=found.choice.stability(found.W),
        error=found.error,
        heldout_error=float(nmf.relative_error(found.W, heldout)) if heldout.n else math.nan,
        svd_error=nmf.svd_error(found.sample, found.W.shape[1]),
        k_is_stable=not found.choice.flagged,
        prefix=_mean_prefix(workspace),
        exponent=workspace.trunk.exponents.get(workspace.trunk.layer, 0),
        active=found.active,
        tree=nmf.measured(found.tree, blocks, found.active, workspace.device),
        taken_nodes=found.nodes,
    )


def _mean_prefix(workspace: Workspace) -> NDArray[np.float32] | None:
    """Return the mean of the class and register tokens over the images; None without any."""
    if not workspace.trunk.n_prefix:
        return None
    total, n = 0.0, 0
    for arrays in workspace.activations.iterate(["prefix"], workspace.distinct_ids):
        total = total + arrays["prefix"].astype(np.float64).sum(0)
        n += len(arrays["prefix"])
    return np.asarray(total / n, dtype=np.float32)
