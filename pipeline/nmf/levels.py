"""Grow the tree of concepts above a fit: levels of fewer concepts, and all mergers between them.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0.

From level to level concepts are merged, the two that lose least by it first (`merge`), and the few
that are left descend on; a concept's parent is the one whose part of V lies nearest to its own.
Between levels concepts are merged within their parents.

With few concepts a position the leaves' codes waver: a concept that is weak somewhere is taken up
or is not. Leaves and the level above them therefore descend together, leaves from codes in which
only children of a position's parents are taken up, and from positions shortened as they were
(`sparse.power_of`); the levels above, which are few, from positions as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .apart import kept_apart
from .both import Both, both_of, sum_of
from .hals import hals
from .initialise import unit_columns
from .merge import merge, mergers
from .stats import Stats, gauge, relative_error
from .tree import Level, Tree, level_parents, level_sizes

STEPS = 8  # of descent at each level, on the sample
STEPS_TOGETHER = 3  # where leaves and the level above descend together
PASSES = 1  # over everything, where leaves and the level above descend together
INHERITED = 0.4  # what of a parent's descent is for what its children explain, not for what it does
SAMPLE = 24_576  # positions, at most


@dataclass(frozen=True, eq=False)
class Above:
    """A level above another, as it is found.

    Attributes
    ----------
    W : Tensor
        float32 (channels, n), unit columns.
    parents : ndarray
        int64, in which of them each concept of the level below has its parent; none is without.
    """

    W: Tensor
    parents: NDArray[np.int64]


def grow(
    blocks: Iterable[Tensor],
    sample: Tensor,
    W: Tensor,
    active: int | None,
    *,
    sizes: Sequence[int] | None = None,
    fixed: bool = False,
) -> tuple[Tensor, tuple[Above, ...]]:
    """Find the levels above concepts.

    Parameters
    ----------
    blocks : iterable of Tensor
        (rows, channels) float32 or float16 each: all positions, read once, where leaves move.
    sample : Tensor
        (positions, channels) float32, non-negative, of them; of more than `SAMPLE` the first ones.
    W : Tensor
        (channels, k) float32, the leaves, on the device to compute on.
    active : int or None
        Concepts that a position has at most, at every level; None: as many as explain most.
    sizes : sequence of int, optional
        Numbers of concepts at the levels, falling; `level_sizes` by default.
    fixed : bool
        Whether the leaves stay as they are.

    Returns
    -------
    W : Tensor
        The leaves; where positions have few of them, they moved a little.
    levels : tuple of Above
        From the finest.
    """
    sample = sample[:SAMPLE].to(W.device).float()
    fine, found = W, []
    for depth, n in enumerate(level_sizes(W.shape[1]) if sizes is None else sizes):
        moves = active is not None and depth == 0 and not fixed
        coarse = merge(fine, both_of(sample, fine, None, active).fine, n)
        above = _nearest(fine, coarse, both_of(sample, fine, coarse, active))
        on_sample: list[Iterable[Tensor]] = [[sample]] * (STEPS_TOGETHER if moves else STEPS)
        for step in [*on_sample, *([blocks] * PASSES if moves else [])]:
            both = sum_of(step, fine, coarse, active, above if moves else None)
            coarse = _descended(
                coarse, _mixed(both.coarse, _of_children(fine, coarse, both.fine, above))
            )
            if moves:
                fine = _descended(fine, both.leaves)
            else:
                above = _nearest(fine, coarse, both)
        if depth == 0:
            W = fine
        above = _nearest(fine, coarse, both_of(sample, fine, coarse, active))
        found.append(Above(coarse, above))
        fine = coarse
    return W, tuple(found)


def make_tree(sample: Tensor, W: Tensor, active: int | None, levels: Sequence[Above]) -> Tree:
    """Order all mergers from the leaves to one concept.

    Parameters
    ----------
    sample, active
        As for `grow`.
    W : Tensor
        (channels, k) float32, the leaves, gauge-fixed, in the order of their numbers.
    levels : sequence of Above
        As `grow` gives them, for leaves in this order.
    """
    sample = sample[:SAMPLE].to(W.device).float()
    k, fine = W.shape[1], W
    nodes = order = np.arange(k)
    stats = both_of(sample, fine, None, active).fine
    pairs: list[tuple[int, int]] = []
    losses: list[float] = []
    joined: list[Tensor] = []
    done: list[Level] = []
    for each in (*levels, None):
        at, error = nodes.copy(), relative_error(fine, stats)
        n_left = 1 if each is None else each.W.shape[1]
        groups = None if each is None else each.parents[order]
        for merger in mergers(fine, stats, len(nodes) - n_left, groups):
            pairs.append((int(at[merger.a]), int(at[merger.b])))
            losses.append(min(1.0, merger.loss / stats.v_sq) if stats.v_sq > 0 else 0.0)
            joined.append(torch.from_numpy(merger.w).float())
            at[merger.a], at[merger.b] = k + len(pairs) - 1, -1
        if each is None or groups is None:
            done.append(Level(fine.cpu(), nodes, np.full(len(nodes), np.nan), error))
            break
        both = both_of(sample, fine, each.W, active)
        done.append(Level(fine.cpu(), nodes, _shares(both, groups), error))
        nodes = np.empty(n_left, dtype=np.int64)
        nodes[groups[at >= 0]] = at[at >= 0]
        order = np.argsort(nodes)  # as a cut has them
        nodes = nodes[order]
        fine, stats, _ = gauge(each.W[:, order], both.coarse.of(torch.from_numpy(order)))
    W_joined = torch.stack(joined, 1) if joined else torch.empty(len(W), 0)
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Tree(ends, np.array(losses, dtype=np.float64), W_joined, tuple(done))


def measured(tree: Tree, blocks: Iterable[Tensor], active: int | None, device: str = "cpu") -> Tree:
    """Measure a tree on other positions: where concepts stand beside their parents, and errors.

    Parameters
    ----------
    tree : Tree
    blocks : iterable of Tensor
        (rows, channels) each; without any the tree is left as it is.
    active : int or None
        As for `grow`.
    device : str
        What computes.
    """
    levels = [level.W.to(device) for level in tree.levels]
    above = [*levels[1:], None]
    totals: list[Both] = []
    for block in blocks:
        v = block.to(device).float()
        part = [both_of(v, *both, active) for both in zip(levels, above, strict=True)]
        totals = [a + b for a, b in zip(totals, part, strict=True)] if totals else part
    if not totals:
        return tree
    done = []
    for depth, (level, both) in enumerate(zip(tree.levels, totals, strict=True)):
        is_last = depth == len(totals) - 1
        shares = level.shares if is_last else _shares(both, level_parents(tree, depth))
        error = relative_error(level.W, both.fine)
        done.append(replace(level, shares=shares, heldout_error=error))
    return replace(tree, levels=tuple(done))


def _nearest(fine: Tensor, coarse: Tensor, both: Both) -> NDArray[np.int64]:
    """Give the parent of each concept: the coarse one whose part of V is most like its own.

    Parts are h wᵀ; their cosine is that of strengths times that of directions. No coarse concept is
    without a child.
    """
    S = (fine.T @ coarse).double().cpu().numpy()
    length = [
        np.sqrt(stats.h_sq.numpy() * W.double().square().sum(0).cpu().numpy())
        for stats, W in ((both.fine, fine), (both.coarse, coarse))
    ]
    alike = both.cross * S / np.maximum(np.outer(*length), 1e-300)
    above: NDArray[np.int64] = alike.argmax(1)
    counts = np.bincount(above, minlength=alike.shape[1])
    for lone in np.flatnonzero(counts == 0):
        child = int(np.where(counts[above] > 1, alike[:, lone], -1).argmax())
        counts[above[child]] -= 1
        counts[lone] += 1
        above[child] = lone
    return above


def _of_children(fine: Tensor, coarse: Tensor, stats: Stats, above: NDArray[np.int64]) -> Stats:
    """Give the statistics of parents that are as strong as their children along them."""
    parent = torch.from_numpy(above)
    along = (fine * coarse[:, parent.to(coarse.device)]).sum(0).double().cpu()
    along /= coarse.double().square().sum(0).cpu().clamp_min(1e-300)[parent]
    A = torch.zeros(len(above), coarse.shape[1], dtype=torch.float64)
    A[torch.arange(len(above)), parent] = along
    return replace(stats, HHt=A.T @ stats.HHt @ A, VHt=stats.VHt @ A, h_sum=A.T @ stats.h_sum)


def _shares(both: Both, above: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give what of a fine concept's Σ h² stands where its parent does; NaN: it stands nowhere."""
    own = both.fine.h_sq.numpy()
    beside = np.minimum(both.beside[np.arange(len(above)), above], own)
    return np.where(own > 0, beside / np.maximum(own, 1e-300), np.nan)


def _mixed(own: Stats, inherited: Stats) -> Stats:
    a, b = 1 - INHERITED, INHERITED
    return replace(own, HHt=a * own.HHt + b * inherited.HHt, VHt=a * own.VHt + b * inherited.VHt)


def _descended(W: Tensor, stats: Stats) -> Tensor:
    rows = W.T.cpu().clone(memory_format=torch.contiguous_format)  # `hals` works in place
    moved = unit_columns(hals(rows, stats.HHt.float(), stats.VHt.T.float(), 1).T)
    return kept_apart(moved, unit_columns(W.cpu()), stats.h_sq).contiguous().to(W.device)
