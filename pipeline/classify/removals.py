"""What the network answers to images of which concepts are taken out, one by one.

Notation: V (n, h, w, channels) activations, H (n, h, w, k) strengths, w_j directions, L the linear
part of the bank's decoder. Taking concept j out of an image that holds it, with the concepts T_j
that go with it (j among them), leaves all else of the real activations:

    v − Σ_{i in T_j} h_i L w_i

Whether what then happens is more than chance is for `pipeline.classify.harm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.link import probabilities
from .answers import Answers

ROWS = {"pool_linear": 4_096, "linear_relu_pool": 32, "general": 32}
"""Pairs of image and concept answered at once, by kind of head."""

ROUNDING = 1e-6
"""Probabilities that are so near to 0 or 1 are not told apart."""


@dataclass(frozen=True)
class Removals:
    """What became of images without concepts; a row per image and concept that it holds.

    Attributes
    ----------
    image, concept : ndarray
        int64 (m,): which image, by its place among those asked about, and which concept.
    right : ndarray
        bool (m,): whether the top class is then one of the image's own.
    gain : ndarray
        float64 (m,): by how much the probability of the image's own class is then higher.
    rise : ndarray
        float64 (m,): by how much the log odds of that are then higher.
    drops : ndarray
        float64 (k, classes): sum over rows of what each class's probability loses, leaving out
        the images' own classes.
    """

    image: NDArray[np.int64]
    concept: NDArray[np.int64]
    right: NDArray[np.bool_]
    gain: NDArray[np.float64]
    rise: NDArray[np.float64]
    drops: NDArray[np.float64]

    def but(self, others: Removals, concepts: NDArray[np.bool_]) -> Removals:
        """Return the same, but of some concepts, bool (k,), what `others` say."""
        rows = [~concepts[self.concept], concepts[others.concept]]
        kept = {
            name: np.concatenate([getattr(self, name)[rows[0]], getattr(others, name)[rows[1]]])
            for name in ("image", "concept", "right", "gain", "rise")
        }
        drops = np.where(concepts[:, None], others.drops, self.drops)
        return Removals(**kept, drops=drops)

    @staticmethod
    def join(parts: list[Removals], n_images: list[int]) -> Removals:
        """Put batches of so many images each together."""
        starts = np.cumsum([0, *n_images[:-1]])
        return Removals(
            np.concatenate([part.image + at for part, at in zip(parts, starts, strict=True)]),
            np.concatenate([part.concept for part in parts]),
            np.concatenate([part.right for part in parts]),
            np.concatenate([part.gain for part in parts]),
            np.concatenate([part.rise for part in parts]),
            np.sum([part.drops for part in parts], axis=0),
        )


@torch.inference_mode()
def remove_each(
    answers: Answers,
    V: torch.Tensor,
    H: torch.Tensor,
    held: NDArray[np.bool_],
    classes: NDArray[np.int64],
    together: NDArray[np.bool_],
) -> Removals:
    """Take every concept out of every image that holds it, and ask the network again.

    Parameters
    ----------
    answers : Answers
        Of the network cut at the layer.
    V : Tensor
        float32 (n, h, w, channels).
    H : Tensor
        float32 (n, h, w, k), their concepts.
    held : ndarray
        bool (n, k), which image holds which concept.
    classes : ndarray
        int64 (n, most), the images' own classes, -1 where there are no more. Images without any are
        not asked about.
    together : ndarray
        bool (k, k), row j marks T_j: what is taken out with concept j, itself among it.
    """
    images, concepts = np.nonzero(held & np.asarray((classes >= 0).any(1))[:, None])
    own = _members(classes, answers.cut.n_classes)
    before = answers.head(V)
    then = probabilities(before, answers.link)
    right, gain, rise = np.zeros(len(images), np.bool_), *np.zeros((2, len(images)))
    drops = torch.zeros(held.shape[1], before.shape[1], dtype=torch.float64)
    member = torch.from_numpy(together).float()
    rows = ROWS[answers.cut.head_kind]
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        at, which = torch.from_numpy(images[part]), torch.from_numpy(concepts[part])
        logits = torch.cat([*_without(answers, V, H, at, member[which], before)])
        after, mine = probabilities(logits, answers.link), own[at]
        right[part] = mine.gather(1, logits.argmax(1, keepdim=True))[:, 0].numpy()
        fall = then[at] - after
        was, now = (_largest(each, mine).double() for each in (then[at], after))
        gain[part] = (now - was).numpy()
        rise[part] = (now.logit(ROUNDING) - was.logit(ROUNDING)).numpy()
        drops.index_add_(0, which, fall.masked_fill(mine, 0.0).double())
    return Removals(images, concepts, right, gain, rise, drops.numpy())


def _without(
    answers: Answers,
    V: torch.Tensor,
    H: torch.Tensor,
    at: torch.Tensor,
    taken: torch.Tensor,
    before: torch.Tensor,
) -> Iterator[torch.Tensor]:
    """Give the logits of images `at` (m,) without the concepts `taken`, float32 (m, k), 1 or 0."""
    cut, bank = answers.cut, answers.bank
    if cut.linear is None:
        parts = H[at] * taken[:, None, None, :]
        W = torch.from_numpy(bank.W)
        yield answers.of(at).head(V[at] - bank.transform.linear(parts @ W.T))
        return
    weight, bias = cut.linear
    unit = answers.units
    if cut.head_kind == "pool_linear":
        mean = H.mean((1, 2))[at]
        if (taken.sum(1) == 1).all():  # each goes alone
            which = taken.argmax(1, keepdim=True)
            yield before[at] - mean.gather(1, which) * unit.T[which[:, 0]]
        else:
            yield before[at] - (mean * taken) @ unit.T
        return
    maps, place = at.unique(return_inverse=True)
    raw = V[maps].flatten(1, 2) @ weight.T + bias
    for row, image, own in zip(place, at, taken, strict=True):
        chosen = own > 0
        less = H[image].flatten(0, 1)[:, chosen] @ unit[:, chosen].T
        yield (raw[row] - less).relu_().mean(0, keepdim=True)


def _members(classes: NDArray[np.int64], n_classes: int) -> torch.Tensor:
    """Mark the images' own classes, bool (n, classes)."""
    own = torch.zeros(len(classes), n_classes + 1, dtype=torch.bool)
    own.scatter_(1, torch.from_numpy(np.where(classes < 0, n_classes, classes)), True)
    return own[:, :n_classes]


def _largest(values: torch.Tensor, mine: torch.Tensor) -> torch.Tensor:
    return values.masked_fill(~mine, 0.0).amax(1)
