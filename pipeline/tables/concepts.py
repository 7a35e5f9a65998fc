"""Rows by concept: what the head, the dataset's labels and the other concepts say of each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.store import Bank, Classification

N_CLASSES = 10
"""Classes kept for each concept and vector, the highest logits."""


def concept_rows(
    bank: Bank,
    found: Classification,
    names: tuple[str, ...],
    n_images: NDArray[np.int64],
    coverage: NDArray[np.float64],
    labels: pd.DataFrame,
    errors: pd.DataFrame,
    class_of_label: Mapping[str, int],
) -> pd.DataFrame:
    """Return the table ``concepts``.

    Parameters
    ----------
    names : tuple of str
        The network's classes.
    n_images, coverage : ndarray
        int64 and float64 (k,).
    labels, errors : DataFrame
        k rows each: see `pipeline.tables.labels`.
    class_of_label : mapping
        The network's class of each dataset label that has one.
    """
    top = found.context.argmax(1)
    probabilities = _softmax(found.context)
    frame = pd.DataFrame(
        {
            "concept_id": np.arange(bank.k),
            "layer": bank.layer,
            "n_images": n_images,
            "coverage": coverage,
            "energy": bank.energies,
            "stability": bank.stability,
            "presence_threshold": bank.thresholds,
            "threshold_reason": bank.threshold_reasons,
            "importance": found.importance,
            "sobol_total": found.sobol_total,
            "deletion_effect": found.deletion_effect,
            "insertion_effect": found.insertion_effect,
            "top_class": top,
            "top_label": [names[index] for index in top],
            "top_prob": probabilities.max(1),
            "top_p": found.p,
            "top_significant": found.significant,
            "vector": list(bank.W.T),
            "context_vector": list(bank.context.T),
        }
    )
    agree = [
        _agrees(label, each, class_of_label)
        for label, each in zip(labels["dataset_label"], top, strict=True)
    ]
    frame["labels_agree"] = pd.Series(agree, dtype=object)
    return pd.concat([frame, labels, errors], axis=1)


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
                    "prob": _softmax(logits)[concept, flat],
                    "z": z[concept, flat],
                }
            )
        )
    return pd.concat(parts).sort_values(["concept_id", "source", "rank"])


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
    frame.loc[known, "head_prob"] = _softmax(found.context)[concept, chosen]
    return frame


def _agrees(label: object, top_class: int, class_of_label: Mapping[str, int]) -> bool | None:
    """Say whether head and dataset call a concept the same; None where one of them says nothing."""
    if not isinstance(label, str) or label not in class_of_label:
        return None
    return class_of_label[label] == top_class


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
    return probabilities
