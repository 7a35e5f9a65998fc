"""The table ``concept_levels``: what is kept of activations and answers, by number of concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import nmf
from ..store import Bank
from .column import FLOAT, INT, INT32, Column, Table

CONCEPT_LEVELS = Table(
    "concept_levels",
    "a number of concepts at which those of the tree were fitted on",
    (
        Column("n_concepts", INT32, "number of concepts", "concepts"),
        Column("error", FLOAT, "relative error on a sample of the images fitted to", "share"),
        Column("heldout_error", FLOAT, "the same on held-out images; null: none", "share"),
        Column(
            "share",
            FLOAT,
            "median over its concepts of what stands where their parents at the next level do; null"
            " at the last",
            "share",
        ),
        Column(
            "n_of_several",
            INT,
            "concepts of which less than nine tenths do; null at the last",
            "concepts",
        ),
        Column(
            "agreement",
            FLOAT,
            "share of images of which the network says the same on these concepts alone; null: it"
            " has no classes",
            "share",
        ),
        Column("kl", FLOAT, "divergence of its answers on these concepts alone", "nats"),
        Column("n_images", INT, "images that is measured on", "images"),
    ),
    order=("n_concepts",),
    is_later=True,
)


def level_rows(bank: Bank, fidelity: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table ``concept_levels``; `fidelity` are rows of that table, of any k."""
    said = {
        (row["k"], row["metric"]): row
        for row in fidelity
        if row["class_id"] is None and row["level"] is None
    }
    rows = []
    for level in [] if bank.tree is None else bank.tree.levels:
        shares = level.shares[~np.isnan(level.shares)]
        agreement, kl = (said.get((level.n, metric), {}) for metric in ("agreement", "kl"))
        rows.append(
            {
                "n_concepts": level.n,
                "error": level.error,
                "heldout_error": level.heldout_error,
                "share": float(np.median(shares)) if len(shares) else np.nan,
                "n_of_several": int((shares < nmf.SEVERAL).sum()) if len(shares) else None,
                "agreement": agreement.get("value", np.nan),
                "kl": kl.get("value", np.nan),
                "n_images": agreement.get("n"),
            }
        )
    return pd.DataFrame(rows, columns=CONCEPT_LEVELS.column_names)
