"""Rows by concept: what the head, the dataset's labels and the other concepts say of each."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import fisher_exact, norm

from pipeline.classify import benjamini_hochberg
from pipeline.store import Bank, Classification

N_CLASSES = 10
"""Classes kept for each concept and vector, the highest logits."""


def concept_rows(
    bank: Bank,
    found: Classification,
    names: tuple[str, ...],
    n_images: NDArray[np.int64],
    coverage: NDArray[np.float64],
) -> pd.DataFrame:
    """Return the table ``concepts``; `names` are the network's classes."""
    top = found.context.argmax(1)
    probabilities = _softmax(found.context)
    return pd.DataFrame(
        {
            "concept_id": np.arange(bank.k),
            "layer": bank.layer,
            "n_images": n_images,
            "coverage": coverage,
            "energy": bank.energies,
            "stability": bank.stability,
            "presence_threshold": bank.thresholds,
            "importance": found.importance,
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


def label_rows(
    holds: NDArray[np.bool_], labels: pd.Series, wrong: NDArray[np.float64]
) -> pd.DataFrame:
    """Return the table ``concept_labels``.

    Parameters
    ----------
    holds : ndarray
        bool (images, k), which image holds which concept.
    labels : Series
        The dataset's label of each image, null where there is none.
    wrong : ndarray
        float64 (images,), 1 where the network erred, 0 where not, NaN where nobody knows.
    """
    known = labels.notna().to_numpy()
    rows = []
    for concept in range(holds.shape[1]):
        held = holds[known, concept]
        for label in sorted(labels[known].unique()):
            of_label = (labels[known] == label).to_numpy()
            n = int((held & of_label).sum())
            if n:
                share = of_label.mean()
                row = {"concept_id": concept, "label": label, "n": n}
                row |= {"precision": n / held.sum(), "recall": n / of_label.sum()}
                row |= {"lift": n / held.sum() / share}
                rows.append(row | _error_rates(wrong[known][of_label], held[of_label]))
    columns = ["concept_id", "label", "n", "precision", "recall", "lift"]
    columns += ["error_rate_with", "error_rate_without", "ci_low", "ci_high", "q_value"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["q_value"] = benjamini_hochberg(frame["q_value"].to_numpy(dtype=np.float64))
    return frame


def _error_rates(wrong: NDArray[np.float64], held: NDArray[np.bool_]) -> dict[str, float]:
    """Compare error rates with and without the concept; ``q_value`` is still the raw p here."""
    known = ~np.isnan(wrong)
    with_, without = wrong[known & held], wrong[known & ~held]
    names = ("error_rate_with", "error_rate_without", "ci_low", "ci_high", "q_value")
    if not len(with_) or not len(without):
        rates = [float(part.mean()) if len(part) else np.nan for part in (with_, without)]
        return dict(zip(names, (*rates, np.nan, np.nan, np.nan), strict=True))
    table = [[int(part.sum()), len(part) - int(part.sum())] for part in (with_, without)]
    low, high = newcombe(table[0][0], len(with_), table[1][0], len(without))
    p = float(fisher_exact(table).pvalue)
    return dict(zip(names, (float(with_.mean()), float(without.mean()), low, high, p), strict=True))


def newcombe(x1: int, n1: int, x2: int, n2: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the difference x1/n1 − x2/n2 of two proportions.

    References
    ----------
    Newcombe, R. G. (1998). Interval estimation for the difference between independent
    proportions, method 10.
    """
    z = float(norm.ppf(0.5 + level / 2))
    (low1, high1), (low2, high2) = _wilson(x1, n1, z), _wilson(x2, n2, z)
    p1, p2 = x1 / n1, x2 / n2
    below = np.hypot(p1 - low1, high2 - p2)
    above = np.hypot(high1 - p1, p2 - low2)
    return float(p1 - p2 - below), float(p1 - p2 + above)


def _wilson(x: int, n: int, z: float) -> tuple[float, float]:
    p = x / n
    centre = p + z * z / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((centre - spread) / (1 + z * z / n)), float((centre + spread) / (1 + z * z / n))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    odds = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
    return probabilities
