"""Which classes are related: a tree over them, of which groups are nodes.

Notation: A (classes × features), a row per class: the weights of the network's last linear map, or
where there is none the classes' logits over images. Rows are centred, for what all classes share
tells none apart; likeness is the cosine, and the tree joins by average linkage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

MOST_CLASSES = 60
"""Classes in a group, at most: larger ones are no longer about one kind of thing."""

MOST_ROWS = 2_000
"""Classes in a tree, at most: memory grows with their square."""


@dataclass(frozen=True)
class ClassTree:
    """Groups of related classes, single classes first.

    Parameters
    ----------
    n_classes : int
        Of the network.
    groups : tuple of ndarray
        int64, rising: the classes of each group; the first are of one class each.
    """

    n_classes: int
    groups: tuple[NDArray[np.int64], ...]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many classes each group has, int64 (groups,)."""
        return np.array([len(each) for each in self.groups], dtype=np.int64)

    def masses(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return how probable each group is, the sum over its classes.

        Parameters
        ----------
        probabilities : Tensor
            float32 (n, classes).

        Returns
        -------
        Tensor
            float32 (n, groups); 1 at most, also where classes are independent.
        """
        sums = self._members @ probabilities.numpy().T
        return torch.from_numpy(sums.clip(max=1)).T

    @cached_property
    def _members(self) -> csr_array:
        """Which classes each group has: ones, float32 (groups, classes)."""
        ends = np.cumsum([0, *map(len, self.groups)])
        classes = np.concatenate(self.groups)
        ones = np.ones(len(classes), np.float32)
        return csr_array((ones, classes, ends), shape=(len(self.groups), self.n_classes))


def class_tree(rows: NDArray[np.float32], kept: Sequence[int] | None = None) -> ClassTree:
    """Join classes that are alike, two groups at a time.

    Parameters
    ----------
    rows : ndarray
        float32 (classes, features), A.
    kept : sequence of int, optional
        The classes that may be in a group, all by default; at most `MOST_ROWS`.

    Returns
    -------
    ClassTree
        Every class by itself, and every group of 2 to `MOST_CLASSES` classes that the linkage
        joins, in its order.

    References
    ----------
    Sokal, R. R. & Michener, C. D. (1958). A statistical method for evaluating systematic
    relationships. (Average linkage.)
    """
    classes = np.arange(len(rows)) if kept is None else np.sort(np.asarray(kept, dtype=np.int64))
    if len(classes) > MOST_ROWS:
        raise ValueError(f"{len(classes)} classes are more than the {MOST_ROWS} of a tree")
    groups = [np.array([each]) for each in classes]
    if len(classes) > 1:
        groups += _joined(rows, classes)
    return ClassTree(len(rows), tuple(groups))


def _joined(rows: NDArray[np.float32], classes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the groups of several classes, those joined first first."""
    from scipy.cluster.hierarchy import linkage  # takes half a second
    from scipy.spatial.distance import squareform

    A = rows[classes].astype(np.float64) - rows.mean(0, dtype=np.float64)
    A /= np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-12)
    distance = np.clip(1 - A @ A.T, 0, None)
    np.fill_diagonal(distance, 0)
    members = [np.array([each]) for each in classes]
    for left, right, *_ in linkage(squareform(distance, checks=False), "average"):
        members.append(np.sort(np.concatenate([members[int(left)], members[int(right)]])))
    return [each for each in members[len(classes) :] if len(each) <= MOST_CLASSES]
