"""Recognises the heads whose logits split exactly into contributions of positions.

Notation: V positions × channels of one image, P positions, A and b the weight (classes × channels)
and bias of the head's only linear map.

    pool_linear        logits = A · mean_p V_p + b
    linear_relu_pool   logits = mean_p relu(A V_p + b)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

HeadKind = Literal["pool_linear", "linear_relu_pool", "general"]
Linear = tuple[torch.Tensor, torch.Tensor]

TOLERANCE = 1e-4
"""Largest error of the formula against the head, relative to the largest logit."""


def pool_linear(V: torch.Tensor, linear: Linear) -> torch.Tensor:
    """Return A · mean_p V_p + b for V (batch, h, w, channels): logits (batch, classes)."""
    weight, bias = linear
    return V.mean(dim=(1, 2)) @ weight.T + bias


def linear_relu_pool(V: torch.Tensor, linear: Linear) -> torch.Tensor:
    """Return mean_p relu(A V_p + b) for V (batch, h, w, channels): logits (batch, classes)."""
    weight, bias = linear
    return torch.relu(V @ weight.T + bias).mean(dim=(1, 2))


def recognise(
    head: nn.Module, call: Callable[[torch.Tensor], torch.Tensor], probe: torch.Tensor
) -> tuple[HeadKind, Linear | None]:
    """Find which formula a head follows, and check it in numbers.

    Parameters
    ----------
    head : Module
        The part of the network after a layer.
    call : callable
        The head on V (batch, h, w, channels).
    probe : Tensor
        V to check on, float32, of both signs.

    Returns
    -------
    kind : str
        ``general`` where neither formula holds.
    linear : (weight (classes, channels), bias (classes)) or None
        float32; None for ``general``.
    """
    linear = _only_linear(head, probe.shape[-1])
    if linear is None:
        return "general", None
    with torch.no_grad():
        logits = call(probe)
        if _agree(pool_linear(probe, linear), logits):
            return "pool_linear", linear
        if _agree(linear_relu_pool(probe, linear), logits):
            return "linear_relu_pool", linear
    return "general", None


def _only_linear(head: nn.Module, channels: int) -> Linear | None:
    """Return the head's linear map if nothing else in it has parameters."""
    parts = [part for part in head.modules() if any(True for _ in part.parameters(recurse=False))]
    if len(parts) != 1 or not isinstance(parts[0], nn.Linear | nn.Conv2d):
        return None
    weight, bias = parts[0].weight.detach(), parts[0].bias
    if weight.numel() != len(weight) * channels:
        return None
    if bias is None:
        bias = torch.zeros(len(weight), device=weight.device)
    return weight.reshape(len(weight), channels), bias.detach()


def _agree(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= TOLERANCE * b.abs().max())
