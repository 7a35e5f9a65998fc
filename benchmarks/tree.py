"""What the levels of a tree of concepts explain, beside fits of as many that are free.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import show
from pipeline import nmf
from pipeline.nmf.draw import thin

LEAVES = 512


@dataclass(frozen=True)
class TreeFigures:
    """How good a tree is.

    Attributes
    ----------
    over_free : float
        Energy explained of other images over that of a free fit of as many, the least of all
        levels above the leaves.
    beside_parents : float
        Of the concepts' energy, what stands where their parents do, the least of all levels.
    time_over_fit : float
        Of growing the tree, over the fit of its leaves.
    """

    over_free: float
    beside_parents: float
    time_over_fit: float


def measure_tree(
    title: str, V: Tensor, others: Tensor, active: int, k: int = LEAVES
) -> TreeFigures:
    """Fit leaves, grow a tree on them, and compare its levels with free fits of their numbers.

    Leaves are fitted as in a run, to positions that are shortened; free fits are the better of two,
    to positions as they are and shortened.
    """
    start = time.perf_counter()
    leaves = _fit(nmf.shortened(V, nmf.power_of(active)), k, active)
    fitted = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    sample = V[torch.randperm(len(V), generator=generator)[: nmf.TREE_SAMPLE]]
    W, above = nmf.grow(nmf.ArrayBlocks(V), sample, leaves, active)
    tree = nmf.measured(nmf.make_tree(sample, W, active, above), nmf.ArrayBlocks(others), active)
    grown = time.perf_counter()
    before = _explained(others, leaves, active)
    rows: list[list[object]] = [[k, *_level(tree, 0, others, active), before, "", ""]]
    ratios, beside = [], [_beside(tree, 0, others, active)]
    for depth, level in enumerate(tree.levels[1:], start=1):
        free = max(
            _explained(others, _fit(nmf.shortened(V, power), level.n, active), active)
            for power in (0.0, nmf.power_of(active))
        )
        explained = 1 - level.heldout_error**2
        ratios.append(explained / free)
        if depth < len(tree.levels) - 1:
            beside.append(_beside(tree, depth, others, active))
        dense = _explained(others, _fit(V, level.n, None), None)
        inherited = _inherited(tree, level, others, active)
        rows.append([level.n, *_level(tree, depth, others, active), free, dense, inherited])
    show(
        title,
        ["concepts", "beside parents", "explained", "free", "free, any number", "inherited"],
        rows,
    )
    return TreeFigures(min(ratios), min(beside), (grown - fitted) / (fitted - start))


def _fit(V: Tensor, k: int, active: int | None) -> Tensor:
    n = nmf.sample_size(k) if active is None else nmf.sparse_sample_size(k)
    return nmf.fit(nmf.ArrayBlocks(V), thin(V, n, 0), k, active=active, max_passes=3).W


def _explained(V: Tensor, W: Tensor, active: int | None) -> float:
    return 1 - nmf.relative_error(W, nmf.sweep([V], W, active=active)) ** 2


def _level(tree: nmf.Tree, depth: int, others: Tensor, active: int) -> list[object]:
    last = depth == len(tree.levels) - 1
    share = "" if last else round(_beside(tree, depth, others, active), 4)
    return [share, round(1 - tree.levels[depth].heldout_error ** 2, 4)]


def _beside(tree: nmf.Tree, depth: int, others: Tensor, active: int) -> float:
    """Weigh the shares of a level's concepts by the energy of their parts h wᵀ."""
    level = tree.levels[depth]
    h_sq = nmf.sweep([others], level.W, active=active).h_sq
    energy = (h_sq * level.W.double().square().sum(0)).numpy()
    known = ~np.isnan(level.shares)
    return float((level.shares * energy)[known].sum() / energy[known].sum())


def _inherited(tree: nmf.Tree, level: nmf.Level, others: Tensor, active: int) -> float:
    """Give what a level explains if each concept is as strong as its leaves are along it."""
    cut = nmf.cut_tree(tree, level.n)
    stats = nmf.sweep([others], tree.levels[0].W, active=active)
    parent = torch.from_numpy(cut.of_leaf)
    along = (tree.levels[0].W * cut.W[:, parent]).sum(0) / cut.W.square().sum(0)[parent]
    A = torch.zeros(len(parent), level.n, dtype=torch.float64)
    A[torch.arange(len(parent)), parent] = along.double()
    inherited = nmf.Stats(A.T @ stats.HHt @ A, stats.VHt @ A, A.T @ stats.h_sum, stats.v_sq, 1)
    return 1 - nmf.relative_error(cut.W, inherited) ** 2
