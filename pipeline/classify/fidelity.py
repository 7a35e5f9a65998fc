"""How much of the network's behaviour the concepts keep, and what each concept does to it.

Notation: V (n, h, w, channels) activations, D(W H) their reconstruction; p the head's probabilities
on V, q on something put in its place. Agreement is the share of images with the same top class; KL
is mean Σ_c p_c log(p_c / q_c) in nats.

Where classes are independent (`models.link`), agreement is the share of the decisions at ½, image
by class, that are the same, and KL the mean over images and classes of p log(p / q) +
(1 − p) log((1 − p) / (1 − q)). Most decisions are no: beside it stands what one answer for all of
them gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.link import Link, divergence, probabilities
from .answers import Answers
from .splits import without


@dataclass(frozen=True)
class Effects:
    """By concept, float64 (k,): see `effects`."""

    importance: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]


def fidelity(
    truth: torch.Tensor,
    answers: Mapping[str, torch.Tensor],
    classes: NDArray[np.int64] | None = None,
    *,
    by_class: bool = True,
    link: Link = "softmax",
) -> list[dict[str, Any]]:
    """Measure what is left of the network's answers when something stands in for V.

    Parameters
    ----------
    truth : Tensor
        float32 (n, classes), logits on V.
    answers : mapping
        Name of what stands in to its logits, float32 (n, classes). ``nmf`` are the concepts'
        own, ``mean`` those of the mean activation, the baseline of every row.
    classes : ndarray or None
        int64 (n, most), true classes of each image, -1 where there are no more; None where none
        is known.
    by_class : bool
        Whether to measure every class the network gives by itself as well.
    link : {'softmax', 'sigmoid'}
        How logits become probabilities.

    Returns
    -------
    list of dict
        Rows of the table ``fidelity``, without split and k: metric (``agreement``, ``kl``,
        ``accuracy``; of another stand-in than the concepts as ``agreement_svd``, of independent
        classes ``agreement_blind``, the same answer to every image and class), class_id (the
        network's top class, None: all), value, baseline, n.
    """
    top = truth.argmax(1)
    rows = []
    for class_id in [None, *(sorted(set(top.tolist())) if by_class else [])]:
        chosen = torch.ones_like(top, dtype=torch.bool) if class_id is None else top == class_id
        measured = {
            name: compare(truth[chosen], each[chosen], link) for name, each in answers.items()
        }
        if link == "sigmoid":
            yes = float((truth[chosen] > 0).double().mean())
            measured["blind"] = {"agreement": max(yes, 1 - yes)}
        for name, values in measured.items():
            for metric, value in values.items():
                rows.append(
                    {
                        "metric": metric if name == "nmf" else f"{metric}_{name}",
                        "class_id": class_id,
                        "value": value,
                        "baseline": measured["mean"][metric],
                        "n": int(chosen.sum()),
                    }
                )
    return rows + _accuracies(truth, answers, classes)


def compare(truth: torch.Tensor, answer: torch.Tensor, link: Link = "softmax") -> dict[str, float]:
    """Return ``agreement`` and ``kl`` (nats) of logits (n, classes) with those of the network."""
    if link == "softmax":
        same = truth.argmax(1) == answer.argmax(1)
    else:
        same = (truth > 0) == (answer > 0)
    return {
        "agreement": float(same.double().mean()),
        "kl": float(divergence(truth, answer, link).mean()),
    }


def effects(answers: Answers, H: torch.Tensor, present: NDArray[np.bool_]) -> Effects:
    """Ablate each concept in the activations and see what becomes of the predicted class.

    Parameters
    ----------
    answers : Answers
        Of the network to the concepts.
    H : Tensor
        float32 (n, h, w, k).
    present : ndarray
        bool (n, k), which image holds which concept.

    Returns
    -------
    Effects
        ``importance``: mean drop of the predicted class's logit over all images when the concept
        is taken out of D(W H). ``deletion``, over the images that hold it: the drop of that
        class's probability; ``insertion``: its rise when the concept alone is put into D(0).
        NaN where no image holds the concept.
    """
    k = H.shape[-1]
    whole, nothing = answers.logits(H), answers.logits(torch.zeros_like(H))
    top = whole.argmax(1, keepdim=True)
    importance, deletion, insertion = np.full((3, k), np.nan)
    for concept in range(k):
        less = answers.logits(without(H, concept))
        importance[concept] = float((whole - less).gather(1, top).mean())
        held = torch.from_numpy(np.flatnonzero(present[:, concept]))
        if len(held):
            alone = torch.zeros_like(H[held])
            alone[..., concept] = H[held][..., concept]
            only = answers.of(held).logits(alone)
            deletion[concept] = _mean_drop(whole[held], less[held], top[held], answers.link)
            insertion[concept] = _mean_drop(only, nothing[held], top[held], answers.link)
    return Effects(importance, deletion, insertion)


def _mean_drop(before: torch.Tensor, after: torch.Tensor, top: torch.Tensor, link: Link) -> float:
    sides = [probabilities(each, link).gather(1, top) for each in (before, after)]
    return float((sides[0] - sides[1]).mean())


def _accuracies(
    truth: torch.Tensor, answers: Mapping[str, torch.Tensor], classes: NDArray[np.int64] | None
) -> list[dict[str, Any]]:
    if classes is None or not (classes >= 0).any():
        return []
    known = torch.from_numpy((classes >= 0).any(1))
    right = torch.from_numpy(classes)[known]
    share = {
        name: float((answer[known].argmax(1, keepdim=True) == right).any(1).double().mean())
        for name, answer in ({"network": truth} | dict(answers)).items()
    }
    return [
        {
            "metric": "accuracy" if name == "nmf" else f"accuracy_{name}",
            "class_id": None,
            "value": value,
            "baseline": share["mean"],
            "n": int(known.sum()),
        }
        for name, value in share.items()
    ]
