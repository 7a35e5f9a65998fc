"""Lists the layers of a network and chooses the one to factorize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UserError, command, option, suggest
from .answer import path_of
from .network import Network
from .tracing import SCORES, UNREACHED, Layer

ALIKE = 0.65
"""So alike are names of layers that are suggested for one another: head and layer4 are not."""

N_NEAR = 2
"""Layers that are suggested beside one that is none by its number."""


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


def why_auto(network: Network) -> str:
    """Say in a sentence why `choose_layer` takes the layer it does where none is named.

    Returns
    -------
    str
        Such as "layer4: the last map of positions; what follows it has no positions any more".
    """
    layers = network.traced.layers
    chosen = choose_layer(network)
    at = next(index for index, layer in enumerate(layers) if layer.names[0] == chosen)
    after = {layer.reason for layer in layers[at + 1 :]}
    if UNREACHED in after:
        why = "the last one whose positions the head reads; after it only the class token is read"
    elif SCORES in after:
        why = "the last one before maps of class scores, which nothing with parameters follows"
    elif not network.classes:
        why = "the last map of positions of a network without a head"
    elif after:
        why = "the last map of positions that no skip connection leads around"
    else:
        why = "the last map of positions; what follows it has no positions any more"
    return f"{chosen}: {why}"


def find_layer(network: Network, name: str) -> Layer:
    """Return the layer of that name, usable or not; `UserError` where there is none."""
    layer = network.traced.find(name)
    if layer is not None:
        return layer
    lists = f"{command('layers', model=network.name)} lists"
    last = f"{choose_layer(network)!r} is the last layer that can be used"
    modules = {path_of(path) for path, _ in network.module.named_modules()}
    modules = (modules | network.traced.modules) - {""}
    if name in modules:
        raise UserError(
            f"what {name!r} of {network.name} gives is no map of positions: {last}; {lists} all"
        )
    known = [each for layer in network.traced.layers for each in layer.names]
    near = _numbered(name, known) or suggest(name, {*known, *modules}, cutoff=ALIKE)
    meant = near.split("'")[1] if near else ""
    if meant in modules and meant not in known:
        near = f"{meant!r}, if that is meant, gives none, and {last};"
    raise UserError(
        f"{network.name} has no layer {name!r} that is a map of positions:"
        f" {near or last + ';'} {lists} its layers"
    )


def _numbered(name: str, known: Sequence[str]) -> str:
    """Suggest the layers next to one that differs from them by its last number alone."""
    start = name.rstrip("0123456789")
    if start == name or not start:
        return ""
    numbers = {
        int(each.removeprefix(start)): each
        for each in known
        if each.startswith(start) and each.removeprefix(start).isdecimal()
    }
    number = int(name.removeprefix(start))
    nearest = sorted(numbers, key=lambda each: (abs(each - number), -each))[:N_NEAR]
    return suggest(name, [numbers[each] for each in nearest], n=N_NEAR, cutoff=0.0)
