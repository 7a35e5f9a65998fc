"""Cuts a network at a layer: one forward pass to activations and logits, and the head alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from ..errors import UserError, option
from .graph import full_graph, head_graph
from .head import HeadKind, Linear, pool_linear, recognise
from .layers import choose_layer, find_layer
from .link import Link
from .margin import Window, widened, window
from .network import Network, Normalize
from .position_grid import PositionGrid
from .tracing import as_rows

Centres = tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]

SMALL, LARGE = 2.0**-8, 2.0**13
"""Between these a layer's largest activation may lie: float16 then holds what is a hundred
thousandth of it, and eight times it."""


@dataclass(frozen=True)
class Forward:
    """What one forward pass of a batch gives.

    Attributes
    ----------
    V : Tensor (batch, h, w, channels)
        Activations of the layer, one row per position, positions row by row.
    prefix : Tensor (batch, tokens, channels) or None
        Class and register tokens beside the positions.
    logits : Tensor (batch, classes), float32
    aux : dict of str to Tensor (batch, h, w, channels)
        Activations of the auxiliary layers, by canonical name.
    """

    V: torch.Tensor
    prefix: torch.Tensor | None
    logits: torch.Tensor
    aux: dict[str, torch.Tensor] = field(default_factory=dict)


class Cut:
    """A network cut at a layer.

    Attributes
    ----------
    layer : str
        Canonical name.
    channels, height, width : int
        Of the layer's map.
    n_prefix : int
        Tokens that stand before the positions: 0 for maps, 1 for a class token.
    n_classes : int
    centres : (float64 (height,), float64 (width,))
        Where the positions lie: pixel indices of the network's input, whose pixel i has its centre
        at i. See `pipeline.models.position_grid`.
    stride : (float, float)
        Distance between neighbouring centres, input pixels (vertical, horizontal).
    aux_layers : tuple of str
        Canonical names of the auxiliary layers, each once and without the layer itself.
    aux_centres : dict of str to (float64 (h,), float64 (w,))
    head_kind : str
        ``pool_linear``, ``linear_relu_pool`` or ``general``: see `pipeline.models.head`.
    linear : (weight (classes, channels), bias (classes,)) or None
        The head's only linear map; None for ``general``.
    link : {'softmax', 'sigmoid'}
        How logits become probabilities: see `pipeline.models.link`.
    is_probed : bool
        Whether the head is another than the network's own; see `with_head`.
    exponents : dict of str to int
        Layers whose activations are given divided by two to that power; see `rescale`.
    nodes : tuple of fx.Node
        Of the network's graph: the layer, then the auxiliary ones.
    body : GraphModule
        The whole network from uint8 images to the values of `nodes` and the logits, for
        `pipeline.models.runtime`.
    """

    def __init__(self, network: Network, layer: str, aux_layers: Sequence[str] = ()) -> None:
        self.network = network
        self.layer = choose_layer(network, layer)
        asked = [find_layer(network, each) for each in (self.layer, *aux_layers)]
        found = list({each.names[0]: each for each in asked}.values())
        self._grids: list[PositionGrid] = [each.grid for each in found]
        self.aux_layers = tuple(each.names[0] for each in found[1:])
        self._windows: list[Window] = []
        if network.margin:
            self._windows = [window(network, each) for each in found]
        seen = [widened(network, each) for each in found] if network.margin else found
        self.nodes = tuple(each.node for each in seen)
        self.body = body_of(network, self.nodes)
        graph = network.traced.graph
        self._head = head_graph(graph, found[0].node).eval() if network.classes else None
        grid = found[0].grid
        self.channels, self.height, self.width = grid.channels, grid.y.n, grid.x.n
        self.n_prefix, self.n_classes = grid.n_prefix, len(network.classes)
        self.centres: Centres = (grid.y.centres, grid.x.centres)
        self.stride = (grid.y.stride, grid.x.stride)
        self.aux_centres: dict[str, Centres] = {
            each.names[0]: (each.grid.y.centres, each.grid.x.centres) for each in found[1:]
        }
        self.exponents: dict[str, int] = {}
        self.head_kind: HeadKind = "general"
        self.linear: Linear | None = None
        self.is_probed = False
        self.link: Link = network.link
        if self._head is not None and not self.n_prefix:
            self.head_kind, self.linear = recognise(self._head, self.head, self._probe())

    def with_head(self, linear: Linear, link: Link = "softmax") -> Cut:
        """Return the same cut with another head: the mean over positions, and a linear map.

        Parameters
        ----------
        linear : (weight (classes, channels), bias (classes,))
            float32, for activations as this cut gives them. Class and register tokens have no part.
        link : {'softmax', 'sigmoid'}
            How its logits become probabilities.
        """
        made = copy.copy(self)
        made.linear, made.n_classes = linear, len(linear[1])
        made.head_kind, made.is_probed, made._head = "pool_linear", True, None
        made.link = link
        return made

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what one image gives, by the names under which it is stored."""
        first, *others = self._grids
        shapes: dict[str, tuple[int, ...]] = {"V": _shape(first)}
        for name, grid in zip(self.aux_layers, others, strict=True):
            shapes[f"aux/{name}"] = _shape(grid)
        if self.n_prefix:
            shapes["prefix"] = (self.n_prefix, self.channels)
        return shapes

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> Forward:
        """Run the network once, exactly, in float32.

        Parameters
        ----------
        images : Tensor (batch, 3, size, size), uint8
            RGB.

        Returns
        -------
        Forward
            float32 throughout.
        """
        return self.arrange(self.body(images))

    def arrange(self, outputs: Sequence[torch.Tensor]) -> Forward:
        """Turn what `body` returns into maps with channels last and a row for every position."""
        values, logits = outputs[: len(self.nodes)], outputs[len(self.nodes) :]
        if self._windows:
            values = [
                _within(*each) for each in zip(values, self._grids, self._windows, strict=True)
            ]
        names = (self.layer, *self.aux_layers)
        scaled = [self._times(each, name, -1) for each, name in zip(values, names, strict=True)]
        maps = [_split(*each) for each in zip(scaled, self._grids, strict=True)]
        V, prefix = maps[0]
        aux = {name: each[0] for name, each in zip(self.aux_layers, maps[1:], strict=True)}
        is_given = self._head is not None and len(logits) > 0
        answer = logits[0].float() if is_given else self._answer(V.float(), prefix)
        return Forward(V, prefix, answer, aux)

    def _answer(self, V: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        """Run `head` where its weights are."""
        weights = () if self._head is None else self._head.parameters()
        return self.head(V.to(next((each.device for each in weights), V.device)), prefix)

    def head(self, V: torch.Tensor, prefix: torch.Tensor | None = None) -> torch.Tensor:
        """Run the part of the network after the layer; nothing before it runs. Differentiable.

        Parameters
        ----------
        V : Tensor (batch, h, w, channels), float32
        prefix : Tensor (batch, tokens, channels), optional
            Needed where `n_prefix` is not 0.

        Returns
        -------
        Tensor (batch, classes)
            Logits; no column for a backbone.

        Raises
        ------
        ValueError
            The shapes are not those of the layer.
        """
        if tuple(V.shape[1:]) != (self.height, self.width, self.channels):
            raise ValueError(
                f"the head after {self.layer} takes (batch, {self.height}, {self.width},"
                f" {self.channels}), not {tuple(V.shape)}"
            )
        n_given = 0 if prefix is None else prefix.shape[1]
        if n_given != self.n_prefix:
            raise ValueError(
                f"the head after {self.layer} takes {self.n_prefix} prefix tokens, not {n_given}"
            )
        if self._head is None:
            return V.new_zeros((len(V), 0)) if self.linear is None else pool_linear(V, self.linear)
        layout = self._grids[0].layout
        if layout == "NCHW":
            value = V.permute(0, 3, 1, 2).contiguous()
        elif layout == "NHWC":
            value = V
        else:
            rows = V.flatten(1, 2)
            value = rows if prefix is None else torch.cat([prefix, rows], dim=1)
        logits: torch.Tensor = self._head(self._times(value, self.layer, 1))
        return logits

    def check_has_classes(self) -> None:
        """Refuse to ask a network without classes what it makes of anything.

        Raises
        ------
        UserError
            It is a backbone.
        """
        if not self.n_classes:
            raise UserError(
                f"{self.network.name} has no classes: nothing can be asked of its head; what the"
                " dataset's labels say of a concept is in the table concept_labels, and"
                f" {option('head', 'probe')} fits a head on them"
            )

    def rescale(self, exponents: Mapping[str, int]) -> None:
        """Give activations divided by a power of two from now on, and let the head take them so.

        Powers of two lose nothing. Layers whose activations are far from 1 would be lost in
        float16, and their squares in float32; see `find_exponents`.

        Parameters
        ----------
        exponents : mapping of str to int
            By canonical name of the layer; 0 where it is not named.
        """
        change = exponents.get(self.layer, 0) - self.exponents.get(self.layer, 0)
        if self.linear is not None:
            weight, bias = self.linear
            self.linear = weight * 2.0**change, bias
        self.exponents = {name: exponent for name, exponent in exponents.items() if exponent}

    def find_exponents(self, forward: Forward) -> dict[str, int]:
        """Return what brings activations near 1, where they are far from it.

        Parameters
        ----------
        forward : Forward
            Of some images, by this cut.
        """
        maps = {self.layer: [forward.V, *([] if forward.prefix is None else [forward.prefix])]}
        maps |= {name: [each] for name, each in forward.aux.items()}
        found = {}
        for name, parts in maps.items():
            largest = max(float(part.abs().amax()) for part in parts)
            if math.isfinite(largest) and largest > 0 and not SMALL <= largest <= LARGE:
                found[name] = math.floor(math.log2(largest)) + self.exponents.get(name, 0)
        return found

    def _times(self, values: torch.Tensor, layer: str, sign: int) -> torch.Tensor:
        exponent = sign * self.exponents.get(layer, 0)
        return values * 2.0**exponent if exponent else values

    def to(self, device: torch.device | str) -> Cut:
        """Move the network, and with it `forward` and `head`, to a device; returns itself."""
        self.body.to(device)
        if self._head is not None:
            self._head.to(device)
        if self.linear is not None:
            self.linear = (self.linear[0].to(device), self.linear[1].to(device))
        return self

    def _probe(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (2, self.height, self.width, self.channels)
        return torch.randn(shape, generator=generator)


def cut(network: Network, layer: str, *, aux_layers: Sequence[str] = ()) -> Cut:
    """Cut a network at a layer.

    Parameters
    ----------
    network : Network
    layer : str
        Any name of a usable layer, or ``auto``.
    aux_layers : sequence of str
        Further layers whose maps each forward pass should give; they need not be usable.

    Returns
    -------
    Cut

    Raises
    ------
    UserError
        There is no such layer, or the network cannot be cut there.
    """
    return Cut(network, layer, aux_layers)


def body_of(network: Network, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    """Return the network as a module from uint8 images to the values of `nodes`, then the logits.

    With a margin there are no logits: they are the head's answer to the cells that are kept.
    """
    graph, preprocess = network.traced_wide.graph, Normalize(network)
    return full_graph(graph, nodes, preprocess, with_logits=not network.margin).eval()


def _within(value: torch.Tensor, grid: PositionGrid, kept: Window) -> torch.Tensor:
    """Return the cells of a map that are kept of it."""
    rows, columns = kept
    return value[:, rows, columns] if grid.layout == "NHWC" else value[:, :, rows, columns]


def _shape(grid: PositionGrid) -> tuple[int, int, int]:
    return grid.y.n, grid.x.n, grid.channels


def _split(value: torch.Tensor, grid: PositionGrid) -> tuple[torch.Tensor, torch.Tensor | None]:
    rows = as_rows(value, grid)
    n_prefix = grid.n_prefix
    V = rows[:, n_prefix:].reshape(len(rows), grid.y.n, grid.x.n, grid.channels)
    return V.contiguous(), rows[:, :n_prefix] if n_prefix else None
