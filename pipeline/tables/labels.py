"""What the dataset's labels say of concepts: which hold each, and where the network fails with it.

Notation, for one label: n1 images hold the concept and n0 do not, a and c of them are errors of the
network, m = a + c, n = n1 + n0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import chi2, hypergeom, norm

from pipeline.classify import benjamini_hochberg

LEVEL = 0.05
"""False discovery rate at which a label is said to go with a concept."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def label_rows(holds: NDArray[np.bool_], labels: pd.Series, wrong: Floats) -> pd.DataFrame:
    """Return the table ``concept_labels``, without what the head says.

    Parameters
    ----------
    holds : ndarray
        bool (images, k), which image holds which concept.
    labels : Series
        The dataset's label of each image, null where there is none.
    wrong : ndarray
        float64 (images,), 1 where the network erred, 0 where not, NaN where nobody knows.
    """
    names, member, held = _members(holds, labels)
    n_held = held.sum(0)  # (k,)
    of_label = member.sum(0)  # (labels,)
    both = held.T @ member  # (k, labels)
    concept, label = np.nonzero(both)
    n = both[concept, label]
    size, total = of_label[label], max(1, len(held))
    carriers = n_held[concept]
    chance = hypergeom.sf(n - 1, total, size, carriers)
    spread = np.sqrt(carriers * (total - carriers) * size * (total - size).astype(np.float64))
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
    tables = _error_tables(held, member, wrong[labels.notna().to_numpy()])
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


def error_rows(holds: NDArray[np.bool_], labels: pd.Series, wrong: Floats) -> pd.DataFrame:
    """Say by concept how much oftener the network errs where it is, label for label.

    Labels differ in difficulty, and concepts in the labels they go with: the difference of the
    error rates is taken within labels (Mantel and Haenszel), so that a concept is not blamed for
    standing in a hard class.

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
    _, member, held = _members(holds, labels)
    tables = _error_tables(held, member, wrong[labels.notna().to_numpy()])
    found = [
        mantel_haenszel(*(part[concept] for part in tables)) for concept in range(holds.shape[1])
    ]
    columns = ["error_excess", "error_ci_low", "error_ci_high", "error_q"]
    frame = pd.DataFrame(found, columns=columns, dtype=np.float64)
    frame["error_q"] = benjamini_hochberg(frame["error_q"].to_numpy())
    return frame


def mantel_haenszel(
    a: Counts, n1: Counts, c: Counts, n0: Counts
) -> tuple[float, float, float, float]:
    """Pool the difference a/n1 − c/n0 over strata: value, 95 % interval, p; all int64 (strata,).

    The p-value is of the Cochran-Mantel-Haenszel test with continuity correction. NaN without a
    stratum that has both groups.
    """
    kept = (n1 > 0) & (n0 > 0)
    a, n1, c, n0 = (part[kept] for part in (a, n1, c, n0))
    n, m = n1 + n0, a + c
    weight = float((n1 * n0 / n).sum())
    if not weight:
        return (np.nan,) * 4
    value = float((a * n0 / n - c * n1 / n).sum()) / weight
    first = (c * (n1 / n) ** 2 - a * (n0 / n) ** 2 + n1 * n0 * (n0 - n1) / (2 * n**2)).sum()
    second = (a * (n0 - c) / n + c * (n1 - a) / n).sum() / 2
    half = float(norm.ppf(0.975) * np.sqrt(max(0.0, value * first + second)) / weight)
    spread = float((n1 * n0 * m * (n - m) / (n**2 * np.maximum(n - 1, 1))).sum())
    off = max(0.0, abs(float((a - n1 * m / n).sum())) - 0.5)
    p = float(chi2.sf(off**2 / spread, 1)) if spread else 1.0
    return value, max(-1.0, value - half), min(1.0, value + half), p


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


def fisher(a: int, n1: int, c: int, n0: int) -> float:
    """Fisher's exact two-sided p of a errors of n1 against c of n0; scipy's takes a millisecond."""
    m, n = a + c, n1 + n0
    each = np.arange(max(0, m - n0), min(m, n1) + 1)
    log = _choose(n1, each) + _choose(n0, m - each) - _choose(n, np.array([m]))
    pmf = np.exp(log)
    return float(min(1.0, pmf[pmf <= pmf[a - each[0]] * (1 + 1e-7)].sum()))


def _members(holds: NDArray[np.bool_], labels: pd.Series) -> tuple[list[str], Counts, Counts]:
    """Return labels by name, and of labelled images int64 (n, labels) and (n, k) of 0 and 1."""
    known = labels.notna().to_numpy()
    codes, names = pd.factorize(labels[known], sort=True)
    member = np.zeros((len(codes), len(names)), dtype=np.int64)
    member[np.arange(len(codes)), codes] = 1
    return [str(name) for name in names], member, holds[known].astype(np.int64)


def _error_tables(
    held: Counts, member: Counts, wrong: Floats
) -> tuple[Counts, Counts, Counts, Counts]:
    """Return a, n1, c, n0, each int64 (k, labels), of the images whose errors are known."""
    known = ~np.isnan(wrong)
    held, member, erred = held[known], member[known], wrong[known].astype(np.int64)
    n1, a = held.T @ member, held.T @ (member * erred[:, None])
    n, m = member.sum(0), erred @ member
    return a, n1, m - a, n - n1


def _rates(a: int, n1: int, c: int, n0: int) -> tuple[float, float, float, float, float]:
    """Return both error rates, the interval of their difference, and the raw p."""
    with_, without = (x / n if n else np.nan for x, n in ((a, n1), (c, n0)))
    if not n1 or not n0:
        return with_, without, np.nan, np.nan, np.nan
    return with_, without, *newcombe(a, n1, c, n0), fisher(a, n1, c, n0)


def _choose(n: int, k: Counts) -> Floats:
    logs: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logs


def _wilson(x: int, n: int, z: float) -> tuple[float, float]:
    p = x / n
    centre = p + z * z / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((centre - spread) / (1 + z * z / n)), float((centre + spread) / (1 + z * z / n))
