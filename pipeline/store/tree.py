"""A tree of concepts among a bank's arrays: what `nmf.Tree` holds, flat.

Levels above the leaves lie one after another, from the finest; the leaves' W is the bank's own.
"""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from ..nmf import Level, Tree, nodes_at

GROUP = "tree"


def write_tree(file: h5py.File, tree: Tree) -> None:
    """Write a tree to an open file."""
    levels = tree.levels
    W = [each.W.numpy() for each in levels[1:]]
    arrays = {
        "pairs": tree.pairs,
        "losses": tree.losses,
        "joined": tree.joined.numpy(),
        "sizes": np.array([each.n for each in levels], dtype=np.int64),
        "errors": np.array([each.error for each in levels]),
        "heldout_errors": np.array([each.heldout_error for each in levels]),
        "shares": np.concatenate([each.shares for each in levels]),
        "nodes": np.concatenate([each.nodes for each in levels]),
        "W": np.concatenate(W, axis=1) if W else np.empty((len(tree.joined), 0), np.float32),
    }
    for name, array in arrays.items():
        # By create_dataset: groups made by assignment keep the time.
        file.create_dataset(f"{GROUP}/{name}", data=array)


def read_tree(file: h5py.File, W: NDArray[np.float32]) -> Tree | None:
    """Read a tree over the leaves W (channels, k); None: a bank of an earlier version.

    Raises
    ------
    ValueError
        It is no tree over so many leaves.
    """
    if GROUP not in file:
        return None
    found = {name: array[()] for name, array in file[GROUP].items()}
    pairs, sizes, k = found["pairs"], found["sizes"].tolist(), W.shape[1]
    _check(pairs, sizes, found["nodes"], k)
    starts = list(itertools.accumulate(sizes, initial=0))
    above = torch.from_numpy(found["W"])
    levels = []
    for i, (start, end) in enumerate(itertools.pairwise(starts)):
        levels.append(
            Level(
                W=above[:, start - k : end - k] if i else torch.from_numpy(W),
                nodes=found["nodes"][start:end],
                shares=found["shares"][start:end],
                error=float(found["errors"][i]),
                heldout_error=float(found["heldout_errors"][i]),
            )
        )
    return Tree(pairs, found["losses"], torch.from_numpy(found["joined"]), tuple(levels))


def _check(pairs: NDArray[np.int64], sizes: list[int], nodes: NDArray[np.int64], k: int) -> None:
    if len(pairs) != k - 1 or not sizes or sizes[0] != k or sum(sizes) != len(nodes):
        raise ValueError(f"its tree is of {len(pairs) + 1} concepts, its levels {sizes}, k {k}")
    made = np.arange(k, 2 * k - 1)
    ends = pairs.ravel()
    if (pairs >= made[:, None]).any() or (pairs < 0).any() or len(set(ends.tolist())) < len(ends):
        raise ValueError("its tree merges concepts that are not there")
    start = 0
    for size in sizes:
        if (
            not 1 <= size <= k
            or (np.sort(nodes[start : start + size]) != nodes_at(pairs, size)).any()
        ):
            raise ValueError(f"its tree has other concepts at {size} than its mergers leave")
        start += size
    if any(b >= a for a, b in itertools.pairwise(sizes)):
        raise ValueError(f"its levels are {sizes}")
