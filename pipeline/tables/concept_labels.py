"""What the dataset's labels say of concepts: which hold each, and where the network fails with it.

Notation, for one label: n1 images hold the concept and n0 do not, a and c of them are errors of the
network, m = a + c, n = n1 + n0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ..classify.statistics import benjamini_hochberg, fisher, mantel_haenszel, newcombe
from .column import CONCEPT_ID, FLOAT, INT, INT32, TEXT, Column, Table

LEVEL = 0.05
"""False discovery rate at which a label is said to go with a concept."""

LEAST_PHI = 0.1
"""Correlation from which on a label is counted: among many images any is better than chance."""

CONCEPT_LABELS = Table(
    "concept_labels",
    "a concept and a label of the dataset",
    (
        CONCEPT_ID,
        Column("label", TEXT, "the dataset's label"),
        Column("n", INT, "images with that label that hold the concept", "images"),
        Column("precision", FLOAT, "share of the images that hold it that have the label", "share"),
        Column("recall", FLOAT, "share of the images of the label that hold it", "share"),
        Column("lift", FLOAT, "precision over the label's share of all images", "ratio"),
        Column("phi", FLOAT, "correlation of holding it and having the label", "correlation"),
        Column(
            "association_q",
            FLOAT,
            "p of holding it that often (hypergeometric), after Benjamini-Hochberg",
            "probability",
        ),
        Column("head_rank", INT32, "rank the head gives the label's class; null: it has none"),
        Column("head_prob", FLOAT, "probability the head gives it", "probability"),
        Column(
            "error_rate_with",
            FLOAT,
            "network's error rate on the label's images that hold it",
            "share",
        ),
        Column("error_rate_without", FLOAT, "and on those that do not", "share"),
        Column(
            "ci_low",
            FLOAT,
            "difference of the two, lower end of the 95 % interval (Newcombe)",
            "difference of shares",
        ),
        Column("ci_high", FLOAT, "upper end", "difference of shares"),
        Column(
            "q_value",
            FLOAT,
            "Fisher's exact p of the difference, after Benjamini-Hochberg",
            "probability",
        ),
    ),
    order=("concept_id", "label"),
)

Labels: TypeAlias = Sequence[tuple[str, ...]]
Counts = NDArray[np.int64]
Sparse: TypeAlias = csr_array
Floats = NDArray[np.float64]


def label_rows(holds: NDArray[np.bool_], labels: Labels, wrong: Floats) -> pd.DataFrame:
    """Return the table ``concept_labels``, without what the head says.

    Of an image with several labels each counts.

    Parameters
    ----------
    holds : ndarray
        bool (images, k), which image holds which concept.
    labels : sequence of tuple of str
        The dataset's labels of each image.
    wrong : ndarray
        float64 (images,), 1 where the network erred, 0 where not, NaN where nobody knows.
    """
    names, member, held = _members(holds, labels)
    both, of_label = _count(held, member)
    concept, label = np.nonzero(both)
    n = both[concept, label]
    size, total = of_label[label], max(1, held.shape[0])
    carriers = held.sum(0)[concept]
    from scipy.stats import hypergeom  # takes half a second

    chance = hypergeom.sf(n - 1, total, size, carriers)
    spread = np.sqrt(carriers * (total - carriers) * (size * (total - size)).astype(np.float64))
    frame = pd.DataFrame(
        {
            "concept_id": concept,
            "label": np.array(names, dtype=object)[label],
            "n": n,
            "precision": n / carriers,
            "recall": n / size,
            "lift": n / carriers / (size / total),
            "phi": (n * total - carriers * size) / np.maximum(spread, 1),
            "association_q": benjamini_hochberg(np.asarray(chance, dtype=np.float64)),
        }
    )
    tables = _error_tables(held, member, wrong[_are_known(labels)])
    rates = [
        _rates(*(int(part[j, each]) for part in tables))
        for j, each in zip(concept, label, strict=True)
    ]
    columns = ["error_rate_with", "error_rate_without", "ci_low", "ci_high", "q_value"]
    frame[columns] = np.array(rates, dtype=np.float64).reshape(-1, len(columns))
    frame["q_value"] = benjamini_hochberg(frame["q_value"].to_numpy())
    return frame


def best_labels(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return by concept the label that goes with it most, if any goes better than chance.

    Parameters
    ----------
    rows : DataFrame
        As `label_rows` gives them.
    k : int
        Number of concepts.

    Returns
    -------
    DataFrame
        k rows: dataset_label, dataset_precision, dataset_lift; null without such a label.
    """
    telling = rows[rows["association_q"] <= LEVEL]
    best = telling.sort_values(["concept_id", "phi"], ascending=[True, False], kind="stable")
    best = best.drop_duplicates("concept_id").set_index("concept_id")
    names = {"label": "dataset_label", "precision": "dataset_precision", "lift": "dataset_lift"}
    return best[list(names)].rename(columns=names).reindex(range(k))


def telling_labels(rows: pd.DataFrame, k: int) -> list[list[str]]:
    """Return by concept the labels that go with it, better than chance and not by a trace.

    Parameters
    ----------
    rows : DataFrame
        As `label_rows` gives them.
    k : int
        Number of concepts.
    """
    telling = rows[(rows["association_q"] <= LEVEL) & (rows["phi"] >= LEAST_PHI)]
    found: list[list[str]] = [[] for _ in range(k)]
    for concept, label in zip(telling["concept_id"], telling["label"], strict=True):
        found[concept].append(label)
    return found


def error_rows(holds: NDArray[np.bool_], labels: Labels, wrong: Floats) -> pd.DataFrame:
    """Say by concept how much more often the network errs where it is, label for label.

    Labels differ in difficulty, and concepts in the labels they go with: the difference of the
    error rates is taken within labels (Mantel and Haenszel), so that a concept is not blamed for
    standing in a hard class. Images with several labels are of their combination.

    Returns
    -------
    DataFrame
        k rows: error_excess (pooled difference), error_ci_low, error_ci_high (95 %),
        error_q (Cochran-Mantel-Haenszel test after Benjamini-Hochberg); null where no label has
        images both with and without the concept.

    References
    ----------
    Mantel, N. & Haenszel, W. (1959). Statistical aspects of the analysis of data.
    Sato, T., Greenland, S. & Robins, J. M. (1989). On the variance estimator for the
    Mantel-Haenszel risk difference.
    """
    _, member, held = _members(holds, [(repr(each),) if each else () for each in labels])
    tables = _error_tables(held, member, wrong[_are_known(labels)])
    found = [
        mantel_haenszel(*(part[concept] for part in tables)) for concept in range(holds.shape[1])
    ]
    columns = ["error_excess", "error_ci_low", "error_ci_high", "error_q"]
    frame = pd.DataFrame(found, columns=columns, dtype=np.float64)
    frame["error_q"] = benjamini_hochberg(frame["error_q"].to_numpy())
    return frame


def _are_known(labels: Labels) -> NDArray[np.bool_]:
    return np.fromiter(map(bool, labels), np.bool_, len(labels))


def _members(holds: NDArray[np.bool_], labels: Labels) -> tuple[list[str], Sparse, Sparse]:
    """Return labels by name, and of labelled images int64 (n, labels) and (n, k) of 0 and 1.

    Sparse, for there may be as many labels as images.
    """
    known = [each for each in labels if each]
    names = sorted({label for each in known for label in each})
    code_of = {name: code for code, name in enumerate(names)}
    codes = [code_of[label] for each in known for label in each]
    ends = np.cumsum([0, *map(len, known)])
    ones, shape = np.ones(len(codes), dtype=np.int64), (len(known), len(names))
    member = csr_array((ones, codes, ends), shape=shape)
    return names, member, csr_array(holds[_are_known(labels)]).astype(np.int64)


def _count(held: Sparse, member: Sparse) -> tuple[Counts, Counts]:
    """Return how many images hold a concept and have a label, int64 (k, labels); have it at all."""
    return (held.T @ member).toarray(), member.sum(0)


def _error_tables(
    held: Sparse, member: Sparse, wrong: Floats
) -> tuple[Counts, Counts, Counts, Counts]:
    """Return a, n1, c, n0, each int64 (k, labels), of the images whose errors are known."""
    known, erred = np.flatnonzero(~np.isnan(wrong)), np.flatnonzero(wrong == 1)
    n1, n = _count(held[known], member[known])
    a, m = _count(held[erred], member[erred])
    return a, n1, m - a, n - n1


def _rates(a: int, n1: int, c: int, n0: int) -> tuple[float, float, float, float, float]:
    """Return both error rates, the interval of their difference, and the raw p."""
    with_, without = (x / n if n else np.nan for x, n in ((a, n1), (c, n0)))
    if not n1 or not n0:
        return with_, without, np.nan, np.nan, np.nan
    return with_, without, *newcombe(a, n1, c, n0), fisher(a, n1, c, n0)
