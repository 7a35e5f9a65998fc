"""The tree of concepts: all numbers of them at once, each concept made of those below it.

Notation: W (channels × k) concepts.

Nodes 0 to k − 1 are the leaves, the concepts of a fit, and k + i is what merger i makes of two. At
some numbers, the levels, concepts have descended on their own; `levels` finds them. Every number of
concepts from k to 1 is a cut through one tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIRST, FACTOR = 8, 4  # concepts of the coarsest level, and how many times more the next one has
LEAST = 3  # times as many leaves as the finest level above them has, at least
SEVERAL = 0.9  # a concept of which less stands where its parent does is of several


@dataclass(frozen=True, eq=False)
class Level:
    """A number of concepts that descended on their own.

    Attributes
    ----------
    W : Tensor
        float32 (channels, n), gauge-fixed.
    nodes : ndarray
        int64 (n,), the node of each.
    shares : ndarray
        float64 (n,): of each concept's Σ h², what stands where its parent at the next level does,
        on held-out images where there are any; NaN at the coarsest level, and where it stands
        nowhere.
    error, heldout_error : float
        Relative errors of the sample and of held-out images, NaN without any.
    """

    W: Tensor
    nodes: NDArray[np.int64]
    shares: NDArray[np.float64]
    error: float
    heldout_error: float = math.nan

    @property
    def n(self) -> int:
        """Number of concepts."""
        return len(self.nodes)


@dataclass(frozen=True, eq=False)
class Tree:
    """All numbers of concepts, from k to 1.

    Nodes 0 to k − 1 are the leaves, k + i is what merger i makes.

    Attributes
    ----------
    pairs : ndarray
        int64 (k − 1, 2): the nodes that each merger makes one.
    losses : ndarray
        float64 (k − 1,): share of ‖V‖² that is lost by it.
    joined : Tensor
        float32 (channels, k − 1): what it makes, where no level has its own.
    levels : tuple of Level
        From the leaves to the coarsest.
    """

    pairs: NDArray[np.int64]
    losses: NDArray[np.float64]
    joined: Tensor
    levels: tuple[Level, ...]

    @property
    def k(self) -> int:
        """Number of leaves."""
        return self.levels[0].n


@dataclass(frozen=True, eq=False)
class TreeCut:
    """The n concepts that the tree has at one number.

    Attributes
    ----------
    W : Tensor
        float32 (channels, n).
    nodes : ndarray
        int64 (n,).
    of_leaf : ndarray
        int64 (k,): in which of them each leaf is.
    """

    W: Tensor
    nodes: NDArray[np.int64]
    of_leaf: NDArray[np.int64]


def level_sizes(k: int) -> tuple[int, ...]:
    """Give the numbers of concepts at the levels above k leaves, the finest first."""
    sizes = []
    size = FIRST
    while LEAST * size <= k:
        sizes.append(size)
        size *= FACTOR
    return tuple(reversed(sizes))


def parents(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each node's parent, int64 (2 k − 1,); −1 for the last, which has none."""
    k = len(pairs) + 1
    above = np.full(2 * k - 1, -1, dtype=np.int64)
    above[pairs[:, 0]] = above[pairs[:, 1]] = np.arange(k, 2 * k - 1)
    return above


def nodes_at(pairs: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Give the nodes that there are at n concepts, by number."""
    k = len(pairs) + 1
    there = np.arange(2 * k - n)
    return there[~np.isin(there, pairs[: k - n])]


def cut_tree(tree: Tree, n: int) -> TreeCut:
    """Give the n concepts that the tree has at this number, 1 to k.

    At a level they are its own; between levels those of the finer one, merged as far.
    """
    k = tree.k
    nodes = nodes_at(tree.pairs, n)
    above = parents(tree.pairs)
    at = np.full(2 * k - 1, -1, dtype=np.int64)
    at[nodes] = np.arange(n)
    for node in range(2 * k - n - 1, -1, -1):
        if at[node] < 0:
            at[node] = at[above[node]]
    level = min((each for each in tree.levels if each.n >= n), key=lambda each: each.n)
    column = dict(zip(level.nodes.tolist(), range(level.n), strict=True))
    columns = [
        level.W[:, column[node]] if node in column else tree.joined[:, node - k].to(level.W)
        for node in nodes.tolist()
    ]
    return TreeCut(torch.stack(columns, 1), nodes, at[:k])


def level_parents(tree: Tree, depth: int) -> NDArray[np.int64]:
    """Give the column that each concept of a level has its parent in at the next one."""
    fine, coarse = tree.levels[depth], tree.levels[depth + 1]
    above = parents(tree.pairs)
    column = {int(node): i for i, node in enumerate(coarse.nodes)}
    found = []
    for node in fine.nodes.tolist():
        while node not in column:
            node = int(above[node])
        found.append(column[node])
    return np.array(found, dtype=np.int64)
