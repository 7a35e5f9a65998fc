"""How much of the network's behaviour the concepts keep, and what each concept does to it.

Notation: V (n, h, w, channels) activations, D(W H) their reconstruction; p the head's softmax on V,
q on something put in its place. Agreement is the share of images with the same top class; KL is
mean Σ_c p_c log(p_c / q_c) in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.store import Bank

Head = Callable[[torch.Tensor], torch.Tensor]
"""From activations float32 (n, h, w, channels) to logits (n, classes)."""


@dataclass(frozen=True)
class Effects:
    """By concept, float64 (k,): see `effects`."""

    importance: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]


@torch.inference_mode()
def fidelity(
    head: Head,
    V: torch.Tensor,
    stand_ins: dict[str, torch.Tensor],
    classes: NDArray[np.int64] | None,
) -> list[dict[str, Any]]:
    """Measure what is left of the head's answers when something stands in for V.

    Parameters
    ----------
    head : callable
        The network after the layer.
    V : Tensor
        float32 (n, h, w, channels).
    stand_ins : dict
        Name to float32 (n, h, w, channels). ``nmf`` is the concepts' own, ``mean`` the mean
        activation, which serves as the baseline of every row.
    classes : ndarray or None
        int64 (n,), true classes, -1 where unknown; None where none is known.

    Returns
    -------
    list of dict
        Rows of the table ``fidelity``, without split and k: metric (``agreement``, ``kl``,
        ``accuracy``; of another stand-in than the concepts as ``agreement_svd``), class_id (the
        network's top class, None: all), value, baseline, n.
    """
    truth = head(V)
    answers = {name: head(maps) for name, maps in stand_ins.items()}
    top = truth.argmax(1)
    rows = []
    for class_id in [None, *sorted(set(top.tolist()))]:
        chosen = torch.ones_like(top, dtype=torch.bool) if class_id is None else top == class_id
        measured = {
            name: _compare(truth[chosen], answer[chosen]) for name, answer in answers.items()
        }
        for name, values in measured.items():
            for metric, value in values.items():
                title = metric if name == "nmf" else f"{metric}_{name}"
                rows.append(
                    {
                        "metric": title,
                        "class_id": class_id,
                        "value": value,
                        "baseline": measured["mean"][metric],
                        "n": int(chosen.sum()),
                    }
                )
    return rows + _accuracies(truth, answers, classes)


@torch.inference_mode()
def effects(head: Head, bank: Bank, H: torch.Tensor, present: NDArray[np.bool_]) -> Effects:
    """Ablate each concept in the activations and see what becomes of the predicted class.

    Parameters
    ----------
    head : callable
        The network after the layer.
    bank : Bank
        The concepts.
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
    whole = head(bank.decode(H))
    top = whole.argmax(1, keepdim=True)
    nothing = head(bank.decode(torch.zeros_like(H)))
    importance, deletion, insertion = np.full((3, bank.k), np.nan)
    for concept in range(bank.k):
        without = H.clone()
        without[..., concept] = 0
        alone = torch.zeros_like(H)
        alone[..., concept] = H[..., concept]
        less = head(bank.decode(without))
        importance[concept] = float((whole - less).gather(1, top).mean())
        held = torch.from_numpy(present[:, concept])
        if held.any():
            deletion[concept] = _mean_drop(whole[held], less[held], top[held])
            only = head(bank.decode(alone[held]))
            insertion[concept] = _mean_drop(only, nothing[held], top[held])
    return Effects(importance, deletion, insertion)


def _mean_drop(before: torch.Tensor, after: torch.Tensor, top: torch.Tensor) -> float:
    drop = before.softmax(1).gather(1, top) - after.softmax(1).gather(1, top)
    return float(drop.mean())


def _compare(truth: torch.Tensor, answer: torch.Tensor) -> dict[str, float]:
    log_p, log_q = truth.double().log_softmax(1), answer.double().log_softmax(1)
    return {
        "agreement": float((truth.argmax(1) == answer.argmax(1)).double().mean()),
        "kl": float((log_p.exp() * (log_p - log_q)).sum(1).mean()),
    }


def _accuracies(
    truth: torch.Tensor, answers: dict[str, torch.Tensor], classes: NDArray[np.int64] | None
) -> list[dict[str, Any]]:
    if classes is None or not (classes >= 0).any():
        return []
    known = torch.from_numpy(classes >= 0)
    right = torch.from_numpy(classes)[known]
    share = {
        name: float((answer[known].argmax(1) == right).double().mean())
        for name, answer in ({"network": truth} | answers).items()
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
