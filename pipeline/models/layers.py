"""Lists the layers of a network and chooses the one to factorize."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError, command, option, suggest
from .answer import path_of
from .network import Network
from .tracing import Layer


@dataclass(frozen=True)
class LayerInfo:
    """What a user needs to know of a layer to choose it.

    Attributes
    ----------
    name : str
        Its canonical name: the shortest module path whose output it is.
    kind : str
        What computes it: the class of the module or the name of the function.
    channels, height, width : int
        Its size for the network's input size.
    signed : bool
        Whether it has negative values, measured on noise.
    usable : bool
        Whether it can be the concept layer. Every layer can be auxiliary.
    reason : str
        Why it is not usable; empty where it is.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int
    signed: bool
    usable: bool
    reason: str


def list_layers(network: Network) -> list[LayerInfo]:
    """Return every layer whose output is a map of positions, from the image to the logits.

    Modules are listed whether usable or not, operations without a module (such as DenseNet's last
    ``relu``) where usable. Layers with equal outputs (a block and the container it ends, dropout)
    are one layer.
    """
    return [
        LayerInfo(
            name=layer.names[0],
            kind=layer.kind,
            channels=layer.grid.channels,
            height=layer.grid.y.n,
            width=layer.grid.x.n,
            signed=layer.signed,
            usable=not layer.reason,
            reason=layer.reason,
        )
        for layer in network.traced.layers
    ]


def choose_layer(network: Network, name: str = "auto") -> str:
    """Return the canonical name of the layer to factorize.

    Parameters
    ----------
    network : Network
    name : str
        Any name of a layer: a module path, or an operation's name as in torchvision's
        ``get_graph_node_names``. ``auto`` takes the last usable layer.

    Returns
    -------
    str
        The shortest module path whose output it is: ``layer4`` for ResNet's ``layer4.2``,
        ``features`` for MobileNetV2's ``features.18``.

    Raises
    ------
    UserError
        There is no such layer, or the network cannot be cut there; it says why.
    """
    if name == "auto":
        usable = [layer for layer in network.traced.layers if not layer.reason]
        if not usable:
            raise UserError(
                f"{network.name} has no layer of positions to cut at for images of"
                f" {network.image_size} pixels: pass another {option('model')} or a larger"
                f" {option('image_size')}"
            )
        return usable[-1].names[0]
    layer = find_layer(network, name)
    if layer.reason:
        raise UserError(
            f"layer {name!r} of {network.name} cannot be used, since {layer.reason}:"
            f" {command('layers', model=network.name)} lists the ones that can"
        )
    return layer.names[0]


def find_layer(network: Network, name: str) -> Layer:
    """Return the layer of that name, usable or not; `UserError` where there is none."""
    layer = network.traced.find(name)
    if layer is None:
        if name in {path_of(path) for path, _ in network.module.named_modules()}:
            raise UserError(
                f"what {name!r} of {network.name} gives is no map of positions:"
                f" {choose_layer(network)!r} is the last layer that can be used;"
                f" {command('layers', model=network.name)} lists all"
            )
        known = [each for layer in network.traced.layers for each in layer.names]
        near = suggest(name, known)
        raise UserError(
            f"{network.name} has no layer {name!r} that is a map of positions"
            f"{': ' + near if near else ';'}"
            f" {command('layers', model=network.name)} lists its layers"
        )
    return layer
