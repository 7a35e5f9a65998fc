"""Statistics that several parts need: intervals, exact and pooled tests, false discovery rates.

Notation, for one label: n1 images hold the concept and n0 do not, a and c of them are errors of the
network, m = a + c, n = n1 + n0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, gammaln, ndtri

N_DRAWS = 2_000

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def interval(values: Floats, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Return mean, lower and upper end of the 95 % interval (percentile bootstrap).

    Parameters
    ----------
    values : ndarray
        float64 (n, ...), a row per image; whole rows are drawn.
    seed : int
        Of the draws.

    References
    ----------
    Efron, B. (1979). Bootstrap methods: another look at the jackknife.
    """
    n = len(values)
    rows = values.reshape(n, -1)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_DRAWS) / n
    low, high = np.percentile(weights @ rows, [2.5, 97.5], axis=0)
    shape = values.shape[1:]
    return rows.mean(0).reshape(shape), low.reshape(shape), high.reshape(shape)


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values for the false discovery rate; NaN stays NaN and counts for nothing."""
    adjusted = np.full_like(p, np.nan)
    known = ~np.isnan(p)
    if known.any():
        from scipy.stats import false_discovery_control  # takes half a second

        adjusted[known] = false_discovery_control(p[known])
    return adjusted


def mantel_haenszel(
    a: Counts | Floats, n1: Counts | Floats, c: Counts | Floats, n0: Counts | Floats
) -> tuple[float, float, float, float]:
    """Pool the difference a/n1 − c/n0 over strata: value, 95 % interval, p; all counts (strata,).

    The p-value is of the Cochran-Mantel-Haenszel test with continuity correction. NaN without a
    stratum that has both groups.
    """
    kept = (n1 > 0) & (n0 > 0)
    # In floating point: products of four counts pass what integers hold.
    a, n1, c, n0 = (part[kept].astype(np.float64) for part in (a, n1, c, n0))
    n, m = n1 + n0, a + c
    weight = float((n1 * n0 / n).sum())
    if not weight:
        return (np.nan,) * 4
    value = float((a * n0 / n - c * n1 / n).sum()) / weight
    first = (c * (n1 / n) ** 2 - a * (n0 / n) ** 2 + n1 * n0 * (n0 - n1) / (2 * n**2)).sum()
    second = (a * (n0 - c) / n + c * (n1 - a) / n).sum() / 2
    half = float(ndtri(0.975) * np.sqrt(max(0.0, value * first + second)) / weight)
    spread = float((n1 * n0 * m * (n - m) / (n**2 * np.maximum(n - 1, 1))).sum())
    off = max(0.0, abs(float((a - n1 * m / n).sum())) - 0.5)
    p = float(chdtrc(1, off**2 / spread)) if spread else 1.0
    return value, max(-1.0, value - half), min(1.0, value + half), p


def newcombe(x1: int, n1: int, x2: int, n2: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the difference x1/n1 − x2/n2 of two proportions.

    References
    ----------
    Newcombe, R. G. (1998). Interval estimation for the difference between independent
    proportions, method 10.
    """
    z = float(ndtri(0.5 + level / 2))
    (low1, high1), (low2, high2) = _wilson(x1, n1, z), _wilson(x2, n2, z)
    p1, p2 = x1 / n1, x2 / n2
    below = np.hypot(p1 - low1, high2 - p2)
    above = np.hypot(high1 - p1, p2 - low2)
    return float(p1 - p2 - below), float(p1 - p2 + above)


def fisher(a: int, n1: int, c: int, n0: int) -> float:
    """Fisher's exact two-sided p of a errors of n1 against c of n0; scipy's takes a millisecond."""
    least, pmf = _of_margins(n1, n0, a + c)
    return float(min(1.0, pmf[pmf <= pmf[a - least] * (1 + 1e-7)].sum()))


def zelen(a: Counts, n1: Counts, c: Counts, n0: Counts) -> float:
    """Exact p, one-sided, of as many errors Σ a with a concept, given the margins of all strata.

    The distribution of a sum of independent hypergeometric counts, by convolution.

    Parameters
    ----------
    a, n1, c, n0 : ndarray
        int64 (strata,).

    References
    ----------
    Zelen, M. (1971). The analysis of several 2 × 2 contingency tables. Biometrika 58.
    """
    over, total = 0, np.ones(1)
    for of_stratum in zip(a.tolist(), n1.tolist(), c.tolist(), n0.tolist(), strict=True):
        wrong, with_it, others_wrong, without = of_stratum
        least, pmf = _of_margins(with_it, without, wrong + others_wrong)
        over += wrong - least
        if len(pmf) > 1:
            total = np.convolve(total, pmf)
    return float(min(1.0, total[over:].sum()))


def _of_margins(n1: int, n0: int, m: int) -> tuple[int, Floats]:
    """Return the least possible a, and the probabilities of it and of those above it."""
    each = np.arange(max(0, m - n0), min(m, n1) + 1)
    log = _choose(n1, each) + _choose(n0, m - each) - _choose(n1 + n0, np.array([m]))
    return int(each[0]), np.exp(log)


def _wilson(x: int, n: int, z: float) -> tuple[float, float]:
    p = x / n
    centre = p + z * z / (2 * n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((centre - spread) / (1 + z * z / n)), float((centre + spread) / (1 + z * z / n))


def _choose(n: int, k: Counts) -> Floats:
    logs: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logs
