"""A network reduced to one tensor of what it returns: its logits, or the features of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from ..errors import UserError, option

LOGITS = ("logits", "out")
"""Under which names networks return them: transformers' classifiers; torchvision's segmentation."""

FEATURES = ("last_hidden_state", "feature_maps", "x_norm_patchtokens")
"""Under which names backbones return theirs."""


WHOLE = "network"
"""Name of the network within `Answer`."""


class Answer(nn.Module):
    """A network whose answer is one tensor.

    Its modules are `network` and below; layers are called without that. `options` are given to it
    with every batch.
    """

    def __init__(self, network: nn.Module, **options: bool) -> None:
        super().__init__()
        self.network = network
        self._options = options

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits for images (batch, 3, height, width), or the features."""
        return of(self.network(images, **self._options))


def of(returned: Any) -> torch.Tensor:
    """Return the one tensor that counts among what a network returns.

    Parameters
    ----------
    returned : Tensor, mapping, object with attributes, or sequence
        Of several the logits, else the features, else the first.

    Raises
    ------
    UserError
        There is none.
    """
    if isinstance(returned, torch.Tensor | fx.Proxy):
        return returned  # type: ignore[return-value]
    for name in (*LOGITS, *FEATURES):
        value = (
            returned.get(name) if isinstance(returned, Mapping) else getattr(returned, name, None)
        )
        if value is not None:
            return of(value)
    values = list(returned.values()) if isinstance(returned, Mapping) else returned
    if isinstance(values, list | tuple) and values:
        return of(values[0])
    raise UserError(f"the network returns a {type(returned).__name__}, which holds no tensor")


def answer_to(module: nn.Module, images: torch.Tensor, name: str) -> torch.Tensor:
    """Run a network as it is on images of a size.

    Raises
    ------
    UserError
        It does not take such images, whatever its code says of them.
    """
    height, width = images.shape[-2:]
    try:
        with torch.no_grad():
            return of(module(images))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # networks are anyone's code
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{name} does not take images of {width} × {height} pixels ({reason}):"
            f" pass another {option('image_size')}"
        ) from error


def path_of(name: str) -> str:
    """Return the name of a layer without that of the module around the network."""
    return name.removeprefix(f"{WHOLE}.")
