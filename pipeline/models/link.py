"""How logits become probabilities: of one class among all, or of each class by itself.

Notation: z (n, classes) logits. softmax: one class holds, p_c = exp z_c / Σ exp z. sigmoid: classes
are independent yes or no, p_c = 1 / (1 + exp −z_c), which need not sum to one.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.nn.functional import logsigmoid

Link = Literal["softmax", "sigmoid"]

MULTI_LABEL = ("multi_label_classification", "multi_label")
"""What transformers, and others after it, call the problem of independent classes."""


def probabilities(logits: torch.Tensor, link: Link) -> torch.Tensor:
    """Turn logits (n, classes) into probabilities, of the same type."""
    return logits.softmax(1) if link == "softmax" else logits.sigmoid()


def divergence(truth: torch.Tensor, answer: torch.Tensor, link: Link) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of an answer from the truth, by image.

    Parameters
    ----------
    truth, answer : Tensor
        (n, classes), logits.
    link : {'softmax', 'sigmoid'}

    Returns
    -------
    Tensor
        float64 (n,), nats; of independent classes the mean over them.
    """
    truth, answer = truth.double(), answer.double()
    if link == "softmax":
        log_p, log_q = truth.log_softmax(1), answer.log_softmax(1)
        return (log_p.exp() * (log_p - log_q)).sum(1)
    sides = [
        logsigmoid(sign * truth).exp() * (logsigmoid(sign * truth) - logsigmoid(sign * answer))
        for sign in (1, -1)
    ]
    mean: torch.Tensor = (sides[0] + sides[1]).mean(1)
    return mean


def top(logits: torch.Tensor, link: Link, n: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the classes of the n highest logits (rows, n), int64, and their probabilities."""
    classes = logits.topk(n, dim=1).indices
    return classes, probabilities(logits, link).gather(1, classes)


def said_by(module: Any) -> Link:
    """Return what a network says of its classes by an attribute; softmax where it says nothing.

    Parameters
    ----------
    module : Module
        It may have ``problem_type`` (``multi_label_classification``, as transformers writes it in
        a ``config``, or ``multi_label``), or ``multi_label``, true or false.
    """
    config = getattr(module, "config", None)
    said = [getattr(each, "problem_type", None) for each in (module, config)]
    is_multi_label = getattr(module, "multi_label", False) is True
    return "sigmoid" if is_multi_label or any(each in MULTI_LABEL for each in said) else "softmax"
