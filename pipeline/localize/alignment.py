"""How well single concepts tell labels or parts apart: mAP, purity, coverage.

For each label one concept is chosen, that of the largest average precision on one half of what
there is; what is reported is of the other half. Average precision is of ranking by the concept's
strength; Purity@n is the share of the n strongest that bear the label, or of as many as bear it
where those are fewer; Coverage@τ the share of labels whose average precision is τ or more.

References
----------
Stevens, S. et al. (2025). Towards open-ended visual scientific discovery with sparse autoencoders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_STRONGEST, LEAST_AP = 16, 0.3
"""n of purity, and τ of coverage, as in the literature."""

COLUMNS = ("of", "name", "n", "concept_id", "ap", "purity")


def align(
    strength: NDArray[np.float32],
    members: NDArray[np.bool_],
    names: Sequence[str],
    choose: NDArray[np.bool_],
    of: str,
) -> pd.DataFrame:
    """Choose a concept for each label, and score it.

    Parameters
    ----------
    strength : ndarray
        float32 (n, k), of each concept in each image, or at each position.
    members : ndarray
        bool (n, labels).
    names : sequence of str
        Of the labels.
    choose : ndarray
        bool (n,), on which concepts are chosen; the others are scored.
    of : str
        What the labels are: "label" or "part".

    Returns
    -------
    DataFrame
        `COLUMNS`: a row per label with at least one member in each half; n counts those scored.
    """
    rows = []
    for column, name in enumerate(names):
        member = members[:, column]
        if not (member[choose].any() and member[~choose].any()):
            continue
        concept = int(np.argmax(average_precision(strength[choose], member[choose])))
        scored, truth = strength[~choose, concept], member[~choose]
        n_strongest = min(N_STRONGEST, int(truth.sum()))  # there cannot be more
        strongest = np.argsort(-scored, kind="stable")[:n_strongest]
        rows.append(
            {
                "of": of,
                "name": name,
                "n": int(truth.sum()),
                "concept_id": concept,
                "ap": float(average_precision(scored[:, None], truth)[0]),
                "purity": float(truth[strongest].mean()),
            }
        )
    return pd.DataFrame(rows, columns=[*COLUMNS])


def average_precision(
    strength: NDArray[np.float32], member: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the average precision of ranking by each of several strengths.

    Parameters
    ----------
    strength : ndarray
        float32 (n, k).
    member : ndarray
        bool (n,), with at least one true.

    Returns
    -------
    ndarray
        float64 (k,): Σ (R_i − R_{i−1}) P_i over distinct strengths, falling.
    """
    found = np.empty(strength.shape[1])
    for concept in range(strength.shape[1]):
        order = np.argsort(-strength[:, concept], kind="stable")
        ranked = strength[order, concept]
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of equal strengths
        hits = np.cumsum(member[order])[last]
        precision, recall = hits / (last + 1), hits / hits[-1]
        found[concept] = (precision * np.diff(recall, prepend=0)).sum()
    return found


def summary(aligned: pd.DataFrame) -> dict[str, float]:
    """Return mAP, mean purity and coverage."""
    if aligned.empty:
        return {}
    return {
        "mAP": float(aligned["ap"].mean()),
        f"purity@{N_STRONGEST}": float(aligned["purity"].mean()),
        f"coverage@{LEAST_AP}": float((aligned["ap"] >= LEAST_AP).mean()),
    }
