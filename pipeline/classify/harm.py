"""Which concepts move the network's answers away from the labels: what is more than chance of it.

Of an image that holds concept j, the gain g is by how much the probability of its own class is
higher without j; its mean is the accuracy that is given back, were answers drawn by their
probabilities. p is that of the paired one-sided t-test of mean g ≤ 0, and at least 2⁻ⁿ, the least
that n signs can give. b images are wrong as they are and right without j, c the other way round:
McNemar's counts, told beside it. Their own test has less power: a mark in 40 of 200 images, of
which 11 are lost by it, had 5 and 0 (p = 0.03, no q below 0.9 among 32 concepts), its gain t = 3.8;
the next concept's 1.6.

A concept is beyond chance in two steps. The first asks of all concepts whether the log odds of the
own class mostly rise without it (Wilcoxon's signed-rank test), or images that hold it are more
often wrong than others of their labels (exact test over labels): twice the smaller p, after
Benjamini-Hochberg. The second asks of those that pass whether the gain is more than chance: p,
after Benjamini-Hochberg over them. q is the larger of the two. By the gain alone a mark in 39 of
200 images, 44 % of them wrong and 12 % of the others, was q = 0.09 (t = 2.9); one in 38, which by
chance were easier ones, 0.37 (t = 2.4, 4 repaired and none broken, odds up in 71 %).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from .removals import Removals
from .statistics import benjamini_hochberg, zelen

LEVEL = 0.05
"""False discovery rate of either step."""

FEWEST = 5
"""Images of a label that are compared among themselves; labels of fewer are compared together."""

Z_LOW = 1.645
"""Normal quantile of the lower bound of what is given back: 95 %, one-sided."""


@dataclass(frozen=True)
class Harm:
    """What each of k concepts does to the answers; see the module.

    Attributes
    ----------
    n : ndarray
        int64 (k,): images that hold it.
    repaired, broken : ndarray
        int64 (k,): b and c.
    p, q : ndarray
        float64 (k,): p of the gain, 1 where fewer than two images hold it; q as in the module.
    p_rise, p_errors : ndarray
        float64 (k,): p of the log odds not rising, and of images with it being wrong no more often
        than others of their labels.
    gain : ndarray
        float64 (k,): mean g over the images that hold it; NaN where none does.
    at_least : ndarray
        float64 (k,): Σ g over *all* images, the lower end of its interval (95 %, one-sided): the
        share of them that taking it out gives back; 0 where that is negative.
    accuracy_with, accuracy_without, accuracy_ablated : ndarray
        float64 (k,): share right of the images that hold it, as they are and with it taken out; and
        of images without it, the labels in the same proportions: see `expected`.
    """

    n: NDArray[np.int64]
    repaired: NDArray[np.int64]
    broken: NDArray[np.int64]
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    p_rise: NDArray[np.float64]
    p_errors: NDArray[np.float64]
    gain: NDArray[np.float64]
    at_least: NDArray[np.float64]
    accuracy_with: NDArray[np.float64]
    accuracy_without: NDArray[np.float64]
    accuracy_ablated: NDArray[np.float64]


def harm(
    found: Removals, held: NDArray[np.bool_], right: NDArray[np.bool_], label: NDArray[np.int64]
) -> Harm:
    """Judge what the removals did, concept by concept.

    Parameters
    ----------
    found : Removals
    held : ndarray
        bool (n, k), of the images asked about.
    right : ndarray
        bool (n,), whether the network is right about them as they are.
    label : ndarray
        int64 (n,), a number for each label, or combination of labels.

    References
    ----------
    McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions.
    """
    n_images, k = held.shape
    was = right[found.image]
    repaired, broken, after = (
        np.bincount(found.concept[chosen], minlength=k)
        for chosen in (found.right & ~was, was & ~found.right, found.right)
    )
    n = held.sum(0)
    total, squares = (
        np.bincount(found.concept, weights=each, minlength=k)
        for each in (found.gain, found.gain**2)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        with_it, ablated, gain = right.astype(np.float64) @ held / n, after / n, total / n
        error = np.sqrt(np.maximum(squares / n - gain**2, 0) / (n - 1))
        p = _p_of_gain(n, gain, error)
        low = n * np.nan_to_num(gain - Z_LOW * error, nan=0.0, posinf=0.0, neginf=0.0)
    p_rise = np.array([_signed_rank(found.rise[found.concept == j]) for j in range(k)])
    p_errors = errors_by_chance(held, right, label)
    return Harm(
        n=n,
        repaired=repaired,
        broken=broken,
        p=p,
        q=_in_two_steps(np.where(n > 0, p, np.nan), p_rise, p_errors),
        p_rise=p_rise,
        p_errors=p_errors,
        gain=gain,
        at_least=np.maximum(low / max(1, n_images), 0.0),
        accuracy_with=with_it,
        accuracy_without=expected(held, right, label),
        accuracy_ablated=ablated,
    )


def expected(
    held: NDArray[np.bool_], right: NDArray[np.bool_], label: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how many of the holders would be right, were they as images without the concept.

    Of each label the share right of its images without the concept, weighted by its images with
    it; a label that has none without it counts as all images without the concept do.

    Returns
    -------
    ndarray
        float64 (k,); NaN where all images hold the concept, or none does.
    """
    n_labels = int(label.max(initial=-1)) + 1
    found = np.full(held.shape[1], np.nan)
    for concept, mine in enumerate(held.T):
        if mine.any() and not mine.all():
            n_with, n_without, n_right = (
                np.bincount(label[chosen], minlength=n_labels)
                for chosen in (mine, ~mine, ~mine & right)
            )
            share = np.where(n_without > 0, n_right / np.maximum(n_without, 1), right[~mine].mean())
            found[concept] = (n_with * share).sum() / n_with.sum()
    return found


def errors_by_chance(
    held: NDArray[np.bool_], right: NDArray[np.bool_], label: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the chance of as many errors among a concept's images, labels being as they are.

    Returns
    -------
    ndarray
        float64 (k,), of `zelen`'s test; labels of fewer than `FEWEST` images count as one.
    """
    sizes = np.bincount(label)
    stratum = np.where(sizes[label] < FEWEST, len(sizes), label)
    n, wrong = (
        np.bincount(stratum[chosen], minlength=len(sizes) + 1)
        for chosen in (np.ones(len(label), np.bool_), ~right)
    )
    found = np.ones(held.shape[1])
    for concept, mine in enumerate(held.T):
        n1 = np.bincount(stratum[mine], minlength=len(n))
        a = np.bincount(stratum[mine & ~right], minlength=len(n))
        found[concept] = zelen(a, n1, wrong - a, n - n1)
    return found


def _signed_rank(rise: NDArray[np.float64]) -> float:
    """Return p, one-sided, of values that lie about 0 as often above it; 1 without any."""
    from scipy.stats import wilcoxon  # takes half a second

    told = rise[rise != 0]
    return float(wilcoxon(told, alternative="greater").pvalue) if len(told) else 1.0


def _in_two_steps(
    p: NDArray[np.float64], p_rise: NDArray[np.float64], p_errors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return q of each concept by both steps of the module; NaN where no image holds it."""
    either = np.minimum(1.0, 2 * np.minimum(p_rise, p_errors))
    first = benjamini_hochberg(np.where(np.isnan(p), np.nan, either))
    second = benjamini_hochberg(np.where(first <= LEVEL, p, np.nan))
    q: NDArray[np.float64] = np.maximum(first, np.where(np.isnan(second), 1.0, second))
    return q


def _p_of_gain(
    n: NDArray[np.int64], gain: NDArray[np.float64], error: NDArray[np.float64]
) -> NDArray[np.float64]:
    t = np.where(error > 0, gain / error, np.copysign(np.inf, gain))
    upper = stdtr(np.maximum(n - 1, 1), -t)
    p: NDArray[np.float64] = np.where((n > 1) & (gain != 0), np.maximum(upper, 0.5**n), 1.0)
    return p
