"""Is a concept's top class better than chance? A null of norm-matched real positions.

For a vector x, its null are the real positions whose norm is nearest to its own, without those at
which the concept itself is present. Let z_c(x) be the logit of class c, standardised by mean and
deviation over that null, and T(x) = max_c z_c(x). A concept's p is the share of its null whose T
reaches its own; Benjamini-Hochberg over concepts follows.

A position of the null is standardised by those of other images, as x is: where few images show a
class, its own image would stretch the deviation by which it is judged, and new ones would pass.

Where classes are independent, z is of probabilities instead, and deviations are 1 % at least: among
logits the largest of many classes would count that the network says no to.

Channels permuted at random would be no null: every concept passes there. Neither would means of
random positions be one: they are all alike, and every concept passes again. Nor may positions be
scaled to the vector's norm: a mean is shorter than what it is the mean of, so that positions on
objects, which are the long ones, would stand for chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.link import Link, probabilities
from ..system.threads import check_stop, each_alone
from .statistics import benjamini_hochberg

LEVEL = 0.05
"""False discovery rate at which a label counts as better than chance."""

N_NULL = 2_000
"""Positions in the null of a vector; half of them at the ends of the norms, where there are only
shorter or only longer ones. At least 1,000 keep the smallest p below a thousandth."""


LEAST: dict[Link, float] = {"softmax": 1e-6, "sigmoid": 0.01}
"""Least deviation of a class's logits, or of its probability where classes are independent: classes
without any say nothing."""


@dataclass(frozen=True)
class NullTest:
    """Outcome for m vectors: z float32 (m, classes), p float64 (m,), significant bool (m,)."""

    z: NDArray[np.float32]
    p: NDArray[np.float64]
    significant: NDArray[np.bool_]


@dataclass
class Null:
    """Real positions by rising norm; the head is asked of one when a test first needs it.

    Parameters
    ----------
    score : callable
        From float32 (n, channels), in transformed space, to logits float32 (n, classes).
    order : Tensor
        int64 (n,), the positions that are not zero, by rising norm.
    norms : Tensor
        float32 (n,), rising.
    positions : Tensor
        float32 (n, channels), in that order.
    image : Tensor
        int64 (n,), the image of each.
    link : {'softmax', 'sigmoid'}
        How logits become probabilities.
    answers : Tensor, optional
        float32 (n, classes), logits, or probabilities of independent classes: of those positions
        that the head was `asked` about, bool (n,).
    """

    score: Callable[[torch.Tensor], torch.Tensor]
    order: torch.Tensor
    norms: torch.Tensor
    positions: torch.Tensor
    image: torch.Tensor
    link: Link = "softmax"
    answers: torch.Tensor = field(init=False, default_factory=lambda: torch.zeros(0, 0))
    asked: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.asked = torch.zeros(len(self.order), dtype=torch.bool)

    @staticmethod
    def of(
        score: Callable[[torch.Tensor], torch.Tensor],
        positions: torch.Tensor,
        image: torch.Tensor,
        link: Link = "softmax",
    ) -> Null:
        """Take real positions, float32 (n, channels), of images (n,)."""
        norms, order = positions.norm(dim=1).sort(stable=True)
        order, norms = order[norms > 0], norms[norms > 0]
        return Null(score, order, norms, positions[order], image[order], link)

    def test(
        self, vectors: torch.Tensor, present: torch.Tensor | None = None, *, is_tested: bool = True
    ) -> NullTest:
        """Compare the head's answers to vectors with its answers to real positions.

        Parameters
        ----------
        vectors : Tensor
            float32 (m, channels), in transformed space: the concepts' context vectors.
        present : Tensor, optional
            bool (positions, m): where each concept itself is, which is left out of its null.
        is_tested : bool
            Whether p is wanted; without it p is 1.

        Returns
        -------
        NullTest
            p is (1 + how many positions reach the vector's T) / (1 + how many there are); a zero
            vector has p = 1.

        References
        ----------
        Phipson, B. & Smyth, G. (2010). Permutation p-values should never be zero.
        Benjamini, Y. & Hochberg, Y. (1995). Controlling the false discovery rate.
        """
        answers, least = _answers(self.score(vectors), self.link), LEAST[self.link]
        z, p = torch.zeros_like(answers), np.ones(len(vectors))
        norms = vectors.norm(dim=1)
        compared = [
            self._compared(float(norm), None if present is None else present[:, index])
            for index, norm in enumerate(norms)
        ]
        self._ask(torch.cat(compared) if compared else self.order[:0])

        def compare(index: int) -> None:
            check_stop()
            rows = compared[index]
            image, null = self.image[rows], self.answers[rows]
            if len(null) < 2 or bool((image == image[0]).all()):
                return  # it is everywhere, or in all images but one: nothing to compare with
            mean, deviation = null.mean(0), null.std(0).clamp_min(least)
            z[index] = (answers[index] - mean) / deviation
            if is_tested and norms[index] > 0:
                reached = among_others(null, image, least).amax(1) >= z[index].max()
                p[index] = (1 + int(reached.sum())) / (1 + len(null))

        each_alone(compare, range(len(vectors)))
        return NullTest(z.numpy(), p, benjamini_hochberg(p) <= LEVEL)

    def _compared(self, norm: float, present: torch.Tensor | None) -> torch.Tensor:
        """Return the rows that a vector of a norm is compared with."""
        rows = torch.arange(len(self.norms))
        if present is not None:
            rows = rows[~present[self.order]]
        return rows[nearest(self.norms[rows], norm)]

    def _ask(self, rows: torch.Tensor) -> None:
        """Ask the head of the rows that it was not asked of yet."""
        new = rows.unique()
        new = new[~self.asked[new]]
        if not len(new):
            return
        answers = _answers(self.score(self.positions[new]), self.link)
        if not self.answers.numel():
            self.answers = answers.new_zeros((len(self.order), answers.shape[1]))
        self.answers[new], self.asked[new] = answers, True


def _answers(logits: torch.Tensor, link: Link) -> torch.Tensor:
    return logits if link == "softmax" else probabilities(logits, link)


def among_others(
    logits: torch.Tensor, image: torch.Tensor, least: float = LEAST["softmax"]
) -> torch.Tensor:
    """Standardise each row by mean and deviation of the rows of other images.

    Parameters
    ----------
    logits : Tensor
        float32 (n, classes).
    image : Tensor
        int64 (n,), of at least two images.
    least : float
        What deviations are at least.

    Returns
    -------
    Tensor
        float32 (n, classes).
    """
    logits = logits - logits.mean(0)
    _, own, count = image.unique(return_inverse=True, return_counts=True)
    sums, squares = (
        each.new_zeros(len(count), each.shape[1]).index_add_(0, own, each)
        for each in (logits, logits.square())
    )
    n = (len(logits) - count)[:, None]
    mean = (sums.sum(0) - sums) / n
    square = (squares.sum(0) - squares) / n - mean.square()
    deviation = (square * n / (n - 1).clamp_min(1)).clamp_min(least**2).sqrt()
    standardised: torch.Tensor = (logits - mean[own]) / deviation[own]
    return standardised


def nearest(norms: torch.Tensor, norm: float, n: int = N_NULL) -> slice:
    """Find the entries of rising `norms` around a norm: as many shorter as longer ones, n in all.

    Near the ends there are fewer of one kind, and then of the other too, down to n / 2 in all.
    """
    at = int(torch.searchsorted(norms, norm))
    half = min(max(min(at, len(norms) - at), n // 4), n // 2)
    start = min(max(at - half, 0), max(len(norms) - 2 * half, 0))
    return slice(start, start + 2 * half)
