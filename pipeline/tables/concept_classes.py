"""The table ``concept_classes``: what the head calls each concept; and what it says of labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..store import Classification
from .column import CONCEPT_ID, FLOAT, INT32, TEXT, Column, Table

N_CLASSES = 10
"""Classes kept for each concept and vector, the highest logits."""


CONCEPT_CLASSES = Table(
    "concept_classes",
    "a concept and one of the classes the head gives it, the best ones",
    (
        CONCEPT_ID,
        Column("source", TEXT, "context or direction: the vector the head was run on"),
        Column("rank", INT32, "1 is the highest logit"),
        Column("class_id", INT32, "the network's class"),
        Column("label", TEXT, "name of the class"),
        Column("logit", FLOAT, "the head's logit", "logits"),
        Column("prob", FLOAT, "softmax over all classes", "probability"),
        Column(
            "z",
            FLOAT,
            "logit standardised by class over the null of real positions",
            "standard deviations",
        ),
    ),
    order=("concept_id", "source", "rank"),
)


def class_rows(found: Classification, names: tuple[str, ...]) -> pd.DataFrame:
    """Return the table ``concept_classes``."""
    parts = []
    sources = {
        "context": (found.context, found.z_context),
        "direction": (found.direction, found.z_direction),
    }
    for source, (logits, z) in sources.items():
        n = min(N_CLASSES, logits.shape[1])
        best = np.argsort(-logits, axis=1, kind="stable")[:, :n]
        concept = np.repeat(np.arange(len(logits)), n)
        flat = best.ravel()
        parts.append(
            pd.DataFrame(
                {
                    "concept_id": concept,
                    "source": source,
                    "rank": np.tile(np.arange(1, n + 1), len(logits)),
                    "class_id": flat,
                    "label": [names[index] for index in flat],
                    "logit": logits[concept, flat],
                    "prob": softmax(logits)[concept, flat],
                    "z": z[concept, flat],
                }
            )
        )
    return pd.concat(parts).sort_values(["concept_id", "source", "rank"])


def with_head(
    rows: pd.DataFrame, found: Classification, class_of_label: Mapping[str, int]
) -> pd.DataFrame:
    """Add to rows of ``concept_labels`` what the head says of the label: head_rank, head_prob."""
    classes = rows["label"].map(class_of_label)
    known = classes.notna().to_numpy()
    concept = rows["concept_id"].to_numpy()[known]
    chosen = classes[known].to_numpy(dtype=np.int64)
    own = found.context[concept, chosen]
    frame = rows.assign(head_rank=np.nan, head_prob=np.nan)
    frame.loc[known, "head_rank"] = 1 + (found.context[concept] > own[:, None]).sum(1)
    frame.loc[known, "head_prob"] = softmax(found.context)[concept, chosen]
    return frame


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Turn logits (n, classes) into probabilities."""
    if logits.shape[1] == 0:
        return logits.astype(np.float64)
    odds = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
    return probabilities
