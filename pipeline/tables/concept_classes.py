"""The table ``concept_classes``: what the head calls each concept; and what it says of labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from ..models.link import Link
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
        Column(
            "prob", FLOAT, "softmax over all classes, or sigmoid of its own logit", "probability"
        ),
        Column(
            "z",
            FLOAT,
            "logit (of independent classes: prob) standardised by class over the null of real"
            " positions",
            "standard deviations",
        ),
    ),
    order=("concept_id", "source", "rank"),
)


def class_rows(
    found: Classification, names: tuple[str, ...], link: Link = "softmax"
) -> pd.DataFrame:
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
                    "prob": probabilities(logits, link)[concept, flat],
                    "z": z[concept, flat],
                }
            )
        )
    return pd.concat(parts).sort_values(["concept_id", "source", "rank"])


def with_head(
    rows: pd.DataFrame,
    found: Classification,
    class_of_label: Mapping[str, int],
    link: Link = "softmax",
) -> pd.DataFrame:
    """Add to rows of ``concept_labels`` what the head says of the label: head_rank, head_prob."""
    classes = rows["label"].map(class_of_label)
    known = classes.notna().to_numpy()
    concept = rows["concept_id"].to_numpy()[known]
    chosen = classes[known].to_numpy(dtype=np.int64)
    own = found.context[concept, chosen]
    frame = rows.assign(head_rank=np.nan, head_prob=np.nan)
    frame.loc[known, "head_rank"] = 1 + (found.context[concept] > own[:, None]).sum(1)
    frame.loc[known, "head_prob"] = probabilities(found.context, link)[concept, chosen]
    return frame


def probabilities(logits: NDArray[np.float32], link: Link) -> NDArray[np.float64]:
    """Turn logits (n, classes) into probabilities; see `pipeline.models.link`."""
    exact = logits.astype(np.float64)
    if link == "sigmoid" or not exact.size:
        return np.asarray(expit(exact))
    odds = np.exp(exact - exact.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True))
