"""The table ``concept_pairs``: how alike concepts are, and how often they stand together."""

from __future__ import annotations

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
    a, b = np.triu_indices(bank.k, 1)
    n_both, n_each = both[a, b], both.diagonal()
    either = n_each[a] + n_each[b] - n_both
    return pd.DataFrame(
        {
            "concept_a": a,
            "concept_b": b,
            "cosine": cosine[a, b].astype(np.float64),
            "cooccurrence": n_both / max(1, len(holds)),
            "jaccard": np.where(either > 0, n_both / np.maximum(either, 1), 0.0),
        }
    )
