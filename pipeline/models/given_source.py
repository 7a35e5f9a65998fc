"""Networks that a program holds and hands over: known by a name while the process lives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import UserError, option
from .answer import of
from .code_source import copied, describe, plain
from .link import said_by
from .network import Network
from .source import Wanted
from .weights import digest

GIVEN = "given"
"""Name of the source."""

_HELD: dict[str, nn.Module] = {}


class GivenSource:
    """Modules that were given; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List none."""
        return ()

    def load(self, name: str, wanted: Wanted) -> Network:
        """Copy a module that was given; the copy is filled where weights are wanted."""
        if name not in _HELD:
            raise UserError(
                f"the network {name} was given as an object, which ended with the program that held"
                " it: give it again (network=model), or put a function that makes it into a file"
                " (model='file.py:function')"
            )
        return describe(copied(_HELD[name]), f"{GIVEN}:{name}", wanted)


SOURCE = GivenSource()


def give(
    options: Mapping[str, Any],
    network: nn.Module,
    head: nn.Module | None = None,
    reshape_transform: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:
    """Keep a module, and return the options by which it is found again.

    Parameters
    ----------
    options : mapping
        Others that were given; ``layer``, and each of ``layers``, may be the module of a layer.
    network : Module
        It stays as it is. It is called by its class and its weights, so that a run is known again
        when the same network is given to it.
    head : Module, optional
        What makes logits of the network's answer; one that is part of the network, as
        pytorch-grad-cam's habit is, changes nothing.
    reshape_transform : callable, optional
        pytorch-grad-cam's, from a layer's answer to (batch, channels, height, width). Where
        positions lie is found without it; it is taken for the sake of programs that have one.

    Returns
    -------
    dict
        `options` with ``model``, and layers by their names.

    Raises
    ------
    UserError
        They are no modules, the layer is no part of the network, or ``model`` was given too.
    """
    for what, value in (("network", network), ("head", head)):
        if not isinstance(value, nn.Module) and (what == "network" or value is not None):
            raise UserError(f"{what} is a torch.nn.Module, this is a {type(value).__name__}")
    if reshape_transform is not None and not callable(reshape_transform):
        kind = type(reshape_transform).__name__
        raise UserError(f"reshape_transform is a function, this is a {kind}")
    if options.get("model"):
        raise UserError(f"{option('model')} and network are two networks: leave one out")
    network = plain(network)
    kept, within = copied(network), ""
    if head is not None and all(each is not head for each in network.modules()):
        kept, within = Headed(kept, copied(head)), "trunk."
    found = dict(options)
    if options.get("layer"):
        found["layer"] = _name_of(network, options["layer"], within)
    if layers := options.get("layers"):
        layers = layers.split(",") if isinstance(layers, str) else layers
        found["layers"] = [_name_of(network, each, within) for each in layers]
    name = f"{type(network).__name__}-{digest(kept.state_dict())[:8]}"
    _HELD[name] = kept
    return found | {"model": f"{GIVEN}:{name}"}


class Headed(nn.Module):
    """A network with a head of one's own upon its answer."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.multi_label = said_by(head) == "sigmoid"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits for images (batch, 3, height, width)."""
        logits: torch.Tensor = self.head(of(self.trunk(images)))
        return logits


def _name_of(network: nn.Module, layer: nn.Module | str, within: str) -> str:
    """Return the name of a layer, of which its module or its name in the network was given."""
    if isinstance(layer, str):
        return layer if layer == "auto" else within + layer.strip()
    for path, each in network.named_modules():
        if each is plain(layer):
            return within + str(path)
    raise UserError(f"the layer, a {type(layer).__name__}, is no part of the network")
