"""The table ``concept_pairs``: how alike concepts are, and how often they stand together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..store import Bank
from .column import FLOAT, INT32, Column, Table

CONCEPT_PAIRS = Table(
    "concept_pairs",
    "two concepts, the lower number first",
    (
        Column("concept_a", INT32, "a concept"),
        Column("concept_b", INT32, "another concept"),
        Column("cosine", FLOAT, "of their directions", "cosine"),
        Column("cooccurrence", FLOAT, "share of the images that hold both", "share"),
        Column("jaccard", FLOAT, "images that hold both over images that hold either", "share"),
    ),
    order=("concept_a", "concept_b"),
)


def pair_rows(bank: Bank, holds: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the table ``concept_pairs``; `holds` is bool (images, k)."""
    unit = bank.W / np.maximum(np.linalg.norm(bank.W, axis=0), 1e-12)
    cosine = unit.T @ unit
    both = holds.T.astype(np.int64) @ holds.astype(np.int64)
    rows = []
    for a, b in combinations(range(bank.k), 2):
        either = both[a, a] + both[b, b] - both[a, b]
        rows.append(
            {
                "concept_a": a,
                "concept_b": b,
                "cosine": float(cosine[a, b]),
                "cooccurrence": both[a, b] / max(1, len(holds)),
                "jaccard": both[a, b] / either if either else 0.0,
            }
        )
    columns = ["concept_a", "concept_b", "cosine", "cooccurrence", "jaccard"]
    return pd.DataFrame(rows, columns=columns)
