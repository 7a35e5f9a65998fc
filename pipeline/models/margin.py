"""A mirrored margin around the image, so that a layer's cells do not see the network's padding.

The network's input is larger by the margin on every side, where the image goes on as in mirrors.
Cells of the margin are dropped right after the layer: left are the cells that there are without a
margin, at the same places, and the head is asked about these. Padding still acts on them from
beyond the margin, the less the farther away it is.
"""

from __future__ import annotations

from dataclasses import replace
from math import isclose

from ..errors import UserError, option
from ..images import sides
from .layers import choose_layer
from .network import Network
from .position_grid import Axis, PositionGrid
from .tracing import Layer

STEPS = 2
"""Distances between cells that ``MARGIN=auto`` is wide."""

OFF = 1e-6
"""Most that cells may be off the places they have without a margin, in pixels."""

Window = tuple[slice, slice]
"""Rows and columns of a map."""


def with_margin(network: Network, layer: str, margin: int | str) -> Network:
    """Return a network whose images get a margin.

    Parameters
    ----------
    network : Network
        Without one.
    layer : str
        Any name of the layer whose cells are to be kept from the padding.
    margin : int or 'auto'
        Pixels on every side, a multiple of the distance between the layer's cells; ``auto`` is
        `STEPS` of these.

    Raises
    ------
    UserError
        The network takes no larger images, the layer is no grid of cells, or its cells would lie
        elsewhere.
    """
    if not margin:
        return network
    chosen = _layer(network, choose_layer(network, layer))
    pixels = STEPS * _distance(chosen.grid) if margin == "auto" else int(margin)
    if pixels >= min(sides(network.image_size)):
        raise _refusal(
            pixels, f"it is mirrored from images of {min(sides(network.image_size))} pixels"
        )
    wider = replace(network, margin=pixels)
    wider.__dict__["traced"] = network.traced  # the same without a margin, and it takes a second
    window(wider, chosen)
    return wider


def window(network: Network, layer: Layer) -> Window:
    """Return which cells of a layer's map of an image with its margin it has without one.

    Parameters
    ----------
    network : Network
        With a margin.
    layer : Layer
        Of its images without a margin.

    Raises
    ------
    UserError
        There are no such cells.
    """
    wide = widened(network, layer)
    grids = layer.grid, wide.grid
    if any(grid.layout not in ("NCHW", "NHWC") for grid in grids):
        raise _refusal(network.margin, f"layer {layer.names[0]} has tokens, whose places are fixed")
    found = [
        _kept(axis, wider, network.margin)
        for axis, wider in ((grids[0].y, grids[1].y), (grids[0].x, grids[1].x))
    ]
    if found[0] is None or found[1] is None:
        step = _distance(layer.grid)
        raise _refusal(
            network.margin,
            f"cells of layer {layer.names[0]} are {step} pixels apart, and would lie elsewhere; it"
            f" takes multiples of that, as {step} or {2 * step}",
        )
    return found[0], found[1]


def widened(network: Network, layer: Layer) -> Layer:
    """Return a layer as it is for images with their margin."""
    try:
        found = network.traced_wide.find(layer.names[0])
    except UserError as error:
        raise _refusal(
            network.margin, f"{network.name} takes no larger images ({error})"
        ) from error
    if found is None:
        raise _refusal(network.margin, f"layer {layer.names[0]} is no map of larger images")
    return found


def _layer(network: Network, name: str) -> Layer:
    found = network.traced.find(name)
    assert found is not None  # it was chosen among them
    return found


def _distance(grid: PositionGrid) -> int:
    """Return the distance between cells, whole pixels, along the axis where it is larger."""
    return max(1, round(max(grid.y.stride, grid.x.stride)))


def _kept(axis: Axis, wider: Axis, margin: int) -> slice | None:
    """Return the cells of a wider axis that are those of an axis; None where they are not there."""
    first = round((axis.offset + margin - wider.offset) / wider.stride)
    at = wider.offset + first * wider.stride - margin
    same = isclose(at, axis.offset, abs_tol=OFF) and isclose(wider.stride, axis.stride, abs_tol=OFF)
    is_there = first >= 0 and first + axis.n <= wider.n
    return slice(first, first + axis.n) if same and is_there else None


def _refusal(margin: int, reason: str) -> UserError:
    return UserError(f"{option('margin', margin)} is not possible: {reason}")
