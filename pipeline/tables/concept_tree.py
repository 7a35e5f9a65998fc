"""The table ``concept_tree``: the concepts there are at every number of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import nmf
from ..store import Bank
from .column import FLAG, FLOAT, INT32, TEXT, Column, Table

CONCEPT_TREE = Table(
    "concept_tree",
    "a concept of the run, or what some of them are as one",
    (
        Column("concept_id", INT32, "a concept of the run; from their number on what mergers make"),
        Column(
            "level",
            INT32,
            "finest level, by its number of concepts, that it is of; null: there between levels"
            " only",
        ),
        Column(
            "parent_id",
            INT32,
            "what it is part of at the next level at which it is none by itself; null: there is no"
            " such level",
        ),
        Column("merged_into", INT32, "what the merger that ends it makes; null: the last"),
        Column("n_most", INT32, "most concepts of which it is one"),
        Column("n_least", INT32, "fewest concepts of which it is one"),
        Column("n_leaves", INT32, "concepts of the run that it is made of"),
        Column("energy", FLOAT, "share of the activations' energy these explain", "share"),
        Column("loss", FLOAT, "share of the energy lost by the merger; 0: none made it", "share"),
        Column(
            "share",
            FLOAT,
            "of its strength (squared) at its level, what stands where its parent at the next one"
            " does, on held-out images where there are any; null: no level has it, or none is"
            " above",
            "share",
        ),
        Column("of_several", FLAG, "less than nine tenths of it stand where its parent does"),
        Column("name", TEXT, "what it is called, or the strongest of what it is made of"),
    ),
    order=("concept_id",),
    is_later=True,
)

_QUALIFIED = re.compile(r" · |: | \(")
"""What comes before how one concept of a name differs from others of it, and further classes."""

N_NAMES = 3
"""Concepts after which a merged one is called."""


def tree_rows(bank: Bank, names: Sequence[str | None]) -> pd.DataFrame:
    """Return the table ``concept_tree``; `names` (k) are those of the run's concepts."""
    tree = bank.tree
    if tree is None:
        return pd.DataFrame([], columns=CONCEPT_TREE.column_names).astype(object)
    k, n_nodes = tree.k, 2 * tree.k - 1
    above = nmf.parents(tree.pairs)
    level, share = np.full(n_nodes, 0), np.full(n_nodes, np.nan)
    for each in reversed(tree.levels):
        level[each.nodes], share[each.nodes] = each.n, each.shares
    leaves: list[list[int]] = [[leaf] for leaf in range(k)]
    for a, b in tree.pairs.tolist():
        leaves.append(leaves[a] + leaves[b])
    node, least = np.arange(n_nodes), np.where(above >= 0, 2 * k - above, 1)
    return pd.DataFrame(
        {
            "concept_id": node,
            "level": _or_none(level, level > 0),
            "parent_id": _or_none(*_next_level(tree, above, least)),
            "merged_into": _or_none(above, above >= 0),
            "n_most": np.where(node < k, k, 2 * k - 1 - node),
            "n_least": least,
            "n_leaves": [len(each) for each in leaves],
            "energy": [float(bank.energies[each].sum()) for each in leaves],
            "loss": np.concatenate([np.zeros(k), tree.losses]),
            "share": share,
            "of_several": _or_none(share < nmf.SEVERAL, ~np.isnan(share)),
            "name": [_name(each, bank, names) for each in leaves],
        }
    )


def _next_level(
    tree: nmf.Tree, above: NDArray[np.int64], least: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return what each node is part of at the next level that has it not, and if there is such."""
    there = {each.n: set(each.nodes.tolist()) for each in tree.levels}
    found, has = np.zeros(len(above), dtype=np.int64), np.zeros(len(above), dtype=np.bool_)
    for node in range(len(above)):
        finest = max((n for n in there if n < least[node]), default=None)
        if finest is None:
            continue
        at = node
        while at >= 0 and at not in there[finest]:
            at = int(above[at])
        found[node], has[node] = at, at >= 0
    return found, has


def _name(leaves: list[int], bank: Bank, names: Sequence[str | None]) -> str | None:
    """Name after the strongest concepts that have a name, each name once."""
    order = sorted(leaves, key=lambda leaf: -bank.energies[leaf])
    whole = [name for leaf in order if (name := names[leaf]) is not None]
    if len(leaves) == 1:
        return whole[0] if whole else None
    told = dict.fromkeys(_QUALIFIED.split(name)[0] for name in whole)
    return " · ".join([*told][:N_NAMES]) or None


def _or_none(values: NDArray[np.generic], known: NDArray[np.bool_]) -> list[object]:
    return [value if there else None for value, there in zip(values.tolist(), known, strict=True)]
