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

VALUES = 2**22
"""Memberships counted at once, at most: 32 MB."""

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
    told = [at for at in range(len(names)) if _is_split(members[:, at], choose)]
    precision = average_precision(strength[choose], members[choose][:, told])
    rows = []
    for at, concept in zip(told, precision.argmax(0).tolist(), strict=True):
        scored, truth = strength[~choose, concept], members[~choose, at]
        n_strongest = min(N_STRONGEST, int(truth.sum()))  # there cannot be more
        strongest = np.argsort(-scored, kind="stable")[:n_strongest]
        rows.append(
            {
                "of": of,
                "name": names[at],
                "n": int(truth.sum()),
                "concept_id": concept,
                "ap": float(average_precision(scored[:, None], truth[:, None])[0, 0]),
                "purity": float(truth[strongest].mean()),
            }
        )
    return pd.DataFrame(rows, columns=[*COLUMNS])


def _is_split(member: NDArray[np.bool_], choose: NDArray[np.bool_]) -> bool:
    return bool(member[choose].any() and member[~choose].any())


def average_precision(
    strength: NDArray[np.float32], members: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the average precision of ranking by each of several strengths, for each label.

    Parameters
    ----------
    strength : ndarray
        float32 (n, k).
    members : ndarray
        bool (n, labels), with at least one true of each.

    Returns
    -------
    ndarray
        float64 (k, labels): Σ (R_i − R_{i−1}) P_i over distinct strengths, falling.
    """
    found = np.empty((strength.shape[1], members.shape[1]))
    at_once = max(1, VALUES // max(1, len(members)))
    for concept in range(len(found)):
        order = np.argsort(-strength[:, concept], kind="stable")
        ranked = strength[order, concept]
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of equal strengths
        for start in range(0, members.shape[1], at_once):
            part = slice(start, start + at_once)
            hits = np.cumsum(members[order, part], axis=0)[last]
            precision, recall = hits / (last + 1)[:, None], hits / hits[-1]
            steps = np.diff(recall, axis=0, prepend=0)
            found[concept, part] = (precision * steps).sum(0)
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
