"""Networks that answer with one number, of a yes or no: as two classes, to the same probabilities.

A logit z says yes with the probability 1 / (1 + exp(−z)), which is the softmax of (−z/2, z/2). The
last linear layer w·x + b becomes two, ∓(w·x + b)/2, so that heads stay as simple as they were.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from ..errors import UserError
from ..images import sides
from . import architecture
from .network import Network

NAMES = ("no", "yes")


def two_sided(network: Network) -> Network:
    """Return a network of two classes for one of a single logit; any other as it is.

    Raises
    ------
    UserError
        What makes the logit is no linear layer.
    """
    if len(network.classes) != 1:
        return network
    last = architecture.last_layer(network.module)
    if last.weight.shape[0] != 1:
        raise UserError(
            f"{network.name} answers with one number that no linear layer makes: what it stands for"
            " cannot be said"
        )
    signs = torch.tensor([-0.5, 0.5])
    with torch.no_grad():
        weight = signs.reshape(2, *[1] * (last.weight.ndim - 1)) * last.weight
        last.weight = nn.Parameter(weight)
        if last.bias is not None:
            last.bias = nn.Parameter(signs * last.bias)
    if isinstance(last, nn.Linear):
        last.out_features = 2
    else:
        last.out_channels = 2
    with torch.no_grad():
        answer = network.module.eval()(torch.zeros(2, 3, *sides(network.image_size)))
    if tuple(answer.shape) != (2, 2):
        raise UserError(
            f"{network.name} answers with one number, and with {tuple(answer.shape)} for two images"
            " of two: let it return the last layer's answer as it is"
        )
    name = network.classes[0]
    names = NAMES if name == "class 0" else (f"not {name}", name)
    note = "the network answers with one number: its classes are no and yes"
    # One of the two holds, whatever the network says of its only class.
    return dataclasses.replace(network, classes=names, link="softmax", notes=(*network.notes, note))
