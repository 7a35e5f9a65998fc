"""Finds a network by its name: ``<name>`` of a source of ours, or ``<source>:<name>`` of any."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .. import plugins
from ..errors import UserError, command, option, suggest
from .network import Network
from .source import NetworkSource, Wanted


def list_models() -> list[str]:
    """Return the names that need no source before them: ``sample`` and torchvision's models."""
    known = {kind: _source(kind).names() for kind in plugins.NETWORKS.built_in}
    return [name for kind in sorted(known) for name in known[kind]]


def load_network(
    name: str, weights: Path | None = None, *, image_size: int | None = None, seed: int = 0
) -> Network:
    """Load a classification network for inference.

    Parameters
    ----------
    name : str
        A name from `list_models`, or ``<source>:<name>`` where a plug-in is the source.
    weights : Path, optional
        A ``.safetensors``, ``.pt`` or ``.pth`` file; the number of classes is read from it.
        ``Path("random")`` draws them instead (for benchmarks). By default torchvision's own
        weights are downloaded, or the shipped ones taken for ``sample``.
    image_size : int, optional
        Side of the square input, pixels; by default what torchvision's preset says.
    seed : int
        Seed of random weights.

    Returns
    -------
    Network
        In `eval` mode, float32, without gradients.

    Raises
    ------
    UserError
        The name is unknown, the weights are missing or do not fit, or the network cannot be made
        for images of that size.

    Examples
    --------
    >>> load_network("squeezenet1_1", Path("random")).classes[0]
    'tench'
    """
    if image_size is not None and image_size < 1:
        raise UserError(
            f"images of {image_size} pixels are not possible: see {option('image_size')}"
        )
    kind, rest = _find(name)
    network = _source(kind).load(rest, Wanted(weights, image_size, seed))
    if kind not in plugins.NETWORKS.built_in:
        network = dataclasses.replace(network, name=name)
    network.module.eval().requires_grad_(False)
    return network


def _find(name: str) -> tuple[str, str]:
    """Return the source of a network and what the source calls it."""
    kind, colon, rest = name.partition(":")
    if colon:
        return kind, rest
    for kind in plugins.NETWORKS.built_in:
        if name in _source(kind).names():
            return kind, name
    near = suggest(name, list_models())
    raise UserError(
        f"there is no model {name!r}{': ' + near if near else ';'} {command('layers')} lists all"
        f" models; those of {' and '.join(plugins.names(plugins.NETWORKS))} are called"
        " <source>:<name>"
    )


def _source(kind: str) -> NetworkSource:
    source: NetworkSource = plugins.load(plugins.NETWORKS, kind)
    return source
