"""Insertion and deletion curves: does the order of contributions find what the network relies on?

Concepts are put into D(0), or taken out of D(W H), one share after the other, and the probability
of the class the network gives the image is watched. Control: the same in random orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.link import probabilities
from .answers import Answers

N_LEVELS = 11
N_RANDOM = 4
"""Random orders per image; the interval is over images, which differ far more than orders do."""


@dataclass(frozen=True)
class Curves:
    """Probabilities of each image's class with a share of the concepts in place.

    Attributes
    ----------
    levels : ndarray
        float64 (levels,), share of the concepts in place, 0 to 1, rising.
    deletion, insertion, random : ndarray
        float64 (n, levels): the strongest taken out first, put in first, and the mean over random
        orders, which is the control of both.
    """

    levels: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random: NDArray[np.float64]

    def gain(self, name: str) -> NDArray[np.float64]:
        """Return by image how much area the order gains over random ones, float64 (n,).

        Positive is better for both: the area below ``deletion`` that is missing, or the area below
        ``insertion`` that is more.
        """
        sign = {"deletion": -1.0, "insertion": 1.0}[name]
        area = np.trapezoid(getattr(self, name) - self.random, self.levels, axis=1)
        return sign * np.asarray(area)


def curves(
    answers: Answers,
    H: torch.Tensor,
    classes: torch.Tensor,
    contributions: torch.Tensor,
    seed: int = 0,
) -> Curves:
    """Put concepts in and take them out, in the order of their contributions and at random.

    Parameters
    ----------
    answers : Answers
        Of the network to the concepts.
    H : Tensor
        float32 (n, h, w, k).
    classes : Tensor
        int64 (n,), the class whose probability is watched.
    contributions : Tensor
        float32 (n, k); the largest goes first.
    seed : int
        Of the random orders.

    References
    ----------
    Petsiuk, V., Das, A. & Saenko, K. (2018). RISE, section 4.2: insertion and deletion.
    """
    n, k = contributions.shape
    levels = np.linspace(0, 1, min(N_LEVELS, k + 1))
    ranks = contributions.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rng = np.random.default_rng(seed)
    shuffled = [
        torch.from_numpy(rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1))
        for _ in range(N_RANDOM)
    ]
    orders = {"deletion": [k - 1 - ranks], "insertion": [ranks], "random": shuffled}
    found = {name: np.zeros((n, len(levels))) for name in orders}
    for column, level in enumerate(levels):
        m = round(level * k)
        for name, each in orders.items():
            drawn = each if 0 < m < k else each[:1]  # with none or all in place, no order matters
            values = [_probability(answers, H, order < m, classes) for order in drawn]
            found[name][:, column] = np.mean(values, axis=0)
    return Curves(levels, **found)


def _probability(
    answers: Answers, H: torch.Tensor, in_place: torch.Tensor, classes: torch.Tensor
) -> NDArray[np.float64]:
    logits = answers.logits(H * in_place[:, None, None, :])
    chosen = probabilities(logits.double(), answers.link).gather(1, classes[:, None])[:, 0]
    return np.asarray(chosen.numpy())
