"""Where the positions of a layer lie in the input: propagated through strides and paddings.

Coordinates are pixel indices of the network's input: pixel i has its centre at i, the image spans
[−½, size − ½]. Along one axis the centre of cell i of a layer is ``offset + stride · i``. A window
of kernel k, stride s, padding p and dilation d on cells at ``o + a·i`` gives cells at

    o + a·(s·i − p + d·(k − 1)/2)

so a 7 × 7 convolution with stride 2 and padding 3 has its cells at 2·i: not at 2·i + ½, which is
what resizing a map to the image assumes.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from ..images import InputSize, sides

Layout = Literal["NCHW", "NHWC", "tokens"]

MAX_PREFIX = 16
"""Most class and register tokens that may stand before the positions of a token sequence."""

_WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_WINDOW = ("kernel_size", "stride", "padding", "dilation")
_POOLED = ("input", "kernel_size", "stride", "padding")
_CONVOLVED = ("input", "weight", "bias", "stride", "padding", "dilation")
_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_ADAPTIVE_FUNCTIONS = (
    functional.adaptive_avg_pool2d,
    functional.adaptive_max_pool2d,
    torch.ops.aten.adaptive_avg_pool2d.default,
)
_WINDOW_FUNCTIONS: dict[Any, tuple[str, ...]] = {
    functional.max_pool2d: (*_POOLED, "dilation"),
    torch.max_pool2d: (*_POOLED, "dilation"),
    torch.ops.aten.max_pool2d.default: (*_POOLED, "dilation"),
    functional.avg_pool2d: _POOLED,
    torch.ops.aten.avg_pool2d.default: _POOLED,
    functional.conv2d: _CONVOLVED,
    torch.conv2d: _CONVOLVED,
    torch.ops.aten.conv2d.default: _CONVOLVED,
    torch.ops.aten.conv2d.padding: _CONVOLVED,
}
"""Functions that slide a window, and the names of their arguments in order."""


_PADS = (
    functional.pad,
    torch.ops.aten.pad.default,
    torch.ops.aten.constant_pad_nd.default,
)


@dataclass(frozen=True)
class Axis:
    """One axis of a grid: `n` cells, the i-th centred on ``offset + stride · i`` pixels."""

    n: int
    stride: float
    offset: float

    def window(self, n: int, kernel: int, step: int, before: int, dilation: int) -> Axis:
        """Return the axis after a sliding window with `before` cells of padding in front."""
        centre = dilation * (kernel - 1) / 2 - before
        return Axis(n, self.stride * step, self.offset + self.stride * centre)

    def blocks(self, n: int) -> Axis:
        """Return the axis after merging (or dividing) the cells into `n` even blocks."""
        ratio = self.n / n
        return Axis(n, self.stride * ratio, self.offset + self.stride * (ratio - 1) / 2)

    @property
    def centres(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Centres of the cells, float64 (n,), in pixel indices of the input."""
        return self.offset + self.stride * np.arange(self.n, dtype=np.float64)


@dataclass(frozen=True)
class PositionGrid:
    """The cells of a map, vertically and horizontally, and how a tensor holds them.

    `layout` is None where a tensor on the way is not a map (windows, flattened vectors); the
    cells are then those of the last map before it, whose layout is `before`.
    """

    y: Axis
    x: Axis
    layout: Layout | None
    channels: int = 0
    n_prefix: int = 0
    before: Layout | None = None

    @property
    def is_map(self) -> bool:
        """Whether a tensor with this grid is a map of more than one position."""
        return self.layout is not None and self.y.n * self.x.n > 1


def image_grid(size: InputSize) -> PositionGrid:
    """Return the grid of the input: a pixel is a cell."""
    height, width = sides(size)
    return PositionGrid(Axis(height, 1.0, 0.0), Axis(width, 1.0, 0.0), "NCHW", 3)


def follow(
    value: object,
    before: list[PositionGrid],
    module: nn.Module | None,
    node: fx.Node,
    batch: int,
    args: Sequence[Any] | None = None,
) -> PositionGrid | None:
    """Return the grid of an operation's result.

    Parameters
    ----------
    value : object
        What the operation returned for a batch of `batch` images.
    before : list of PositionGrid
        Lattices of its inputs that depend on the image, in order.
    module : Module or None
        The layer that was called, if one was.
    node : Node
        The operation in the graph.
    batch : int
    args : sequence, optional
        What the operation was called with, for the sizes of weights; those of the node by default.

    Returns
    -------
    PositionGrid or None
        None where no input has one, and for sizes read from a tensor.
    """
    if not before or not _holds_tensor(value):
        return None
    finest = max(before, key=lambda grid: grid.y.n)
    moved = _padded(value, finest, module, node) or _sliced(value, finest, node)
    if moved is not None:
        return moved
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
    window = _window(module, node, node.args if args is None else args)
    slides = window is not None or _pools(module, node)
    found = _read_shape(shape, finest, node, batch, slides=slides)
    if found is None:
        return replace(finest, layout=None, before=finest.layout or finest.before)
    layout, height, width, channels, n_prefix = found
    if window is not None:
        y, x = (
            axis.window(n, *each)
            for axis, n, each in zip((finest.y, finest.x), (height, width), window, strict=True)
        )
    else:
        y, x = _meet([each.y for each in before], height), _meet([each.x for each in before], width)
    return PositionGrid(y, x, layout, channels, n_prefix)


def _padded(
    value: object, last: PositionGrid, module: nn.Module | None, node: fx.Node
) -> PositionGrid | None:
    """Return the grid of a map with a border around it; None where nothing is padded."""
    if isinstance(module, nn.modules.padding._ConstantPadNd):
        given: Any = module.padding
    elif node.op == "call_function" and node.target in _PADS:
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
    else:
        return None
    if last.layout not in ("NCHW", "NHWC") or not isinstance(value, torch.Tensor):
        return None
    if not isinstance(given, tuple | list) or not all(isinstance(each, int) for each in given):
        return None
    first = 0 if last.layout == "NCHW" else 2  # of channels, which stand last
    pads = [*given[first:], 0, 0, 0, 0]
    axes = [
        replace(axis, n=axis.n + front + back, offset=axis.offset - front * axis.stride)
        for axis, front, back in ((last.x, *pads[:2]), (last.y, *pads[2:4]))
    ]
    return replace(last, x=axes[0], y=axes[1])


def _sliced(value: object, last: PositionGrid, node: fx.Node) -> PositionGrid | None:
    """Return the grid of some rows or columns of a map; None where nothing is left out."""
    if (
        last.layout not in ("NCHW", "NHWC")
        or not isinstance(value, torch.Tensor)
        or value.ndim != 4
    ):
        return None
    if node.target is torch.ops.aten.slice.Tensor:
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        taken: dict[Any, Any] = {dim: slice(*node.args[2:5])}
    elif node.target is operator.getitem and isinstance(node.args[1], tuple):
        given: Any = node.args[1]
        if not all(isinstance(each, slice) for each in given):
            return None
        taken = dict(enumerate(given))
    else:
        return None
    first = 2 if last.layout == "NCHW" else 1
    axes = [last.y, last.x]
    for number, axis in enumerate(axes):
        part = taken.get(first + number, slice(None))
        if not _is_known(part):
            return None
        start, stop, step = part.indices(axis.n)
        n = len(range(start, stop, step))
        axes[number] = Axis(n, axis.stride * step, axis.offset + axis.stride * start)
    if tuple(value.shape[first : first + 2]) != (axes[0].n, axes[1].n):
        return None
    channels = value.shape[1 if last.layout == "NCHW" else 3]
    return replace(last, y=axes[0], x=axes[1], channels=channels)


def _is_known(part: slice) -> bool:
    return all(each is None or isinstance(each, int) for each in (part.start, part.stop, part.step))


def _holds_tensor(value: object) -> bool:
    values = value if isinstance(value, tuple | list) else (value,)
    return any(isinstance(each, torch.Tensor) for each in values)


def _read_shape(
    shape: tuple[int, ...], last: PositionGrid, node: fx.Node, batch: int, *, slides: bool
) -> tuple[Layout, int, int, int, int] | None:
    """Recognise a map by its shape: (layout, height, width, channels, prefix tokens).

    `slides` says that it is what a window gave, whose channels come first.
    """
    if not shape or shape[0] != batch:
        return None
    if len(shape) == 3:
        n_prefix = shape[1] - last.y.n * last.x.n
        tokens = last.y.n * last.x.n > 1 and 0 <= n_prefix <= MAX_PREFIX
        return ("tokens", last.y.n, last.x.n, shape[2], n_prefix) if tokens else None
    if len(shape) != 4:
        return None
    _, a, b, c = shape
    first, final = _is_of(last, b, c, slides=slides), _is_of(last, a, b, slides=False)
    if first and final:
        first = _channels_first(node, last)
    if first:
        return "NCHW", b, c, a, 0
    return ("NHWC", a, b, c, 0) if final else None


def _is_of(last: PositionGrid, height: int, width: int, *, slides: bool) -> bool:
    """Say whether a map of so many rows and columns can come of the last one.

    None has more cells than the one before it (a matrix of attention between positions would).
    Of square images maps are square; of others they are as long and as wide as the last one, or
    both by the same whole number less. What a window gave can have any size.
    """
    if height > last.y.n or width > last.x.n:
        return False
    if last.y.n == last.x.n:
        return height == width
    if slides:
        return True
    return any(
        abs(height - last.y.n / step) < 1 and abs(width - last.x.n / step) < 1
        for step in {1, round(last.y.n / height), round(last.x.n / width)}
    )


def _pools(module: nn.Module | None, node: fx.Node) -> bool:
    """Say whether an operation pools to a size that was asked for."""
    return isinstance(module, _ADAPTIVE) or (
        node.op == "call_function" and node.target in _ADAPTIVE_FUNCTIONS
    )


def _channels_first(node: fx.Node, last: PositionGrid) -> bool:
    """Decide the layout of a map with as many channels as rows and columns."""
    layout = last.layout or last.before
    if layout == "tokens":  # of which each holds its channels, until axes are swapped
        return last.layout is None
    if "permute" in str(node.target) and last.layout is not None:
        return layout != "NCHW"
    return layout != "NHWC"


def _meet(axes: list[Axis], n: int) -> Axis:
    """Join the axes of several inputs: the mean of those with `n` cells, else the finest one."""
    same = [axis for axis in axes if axis.n == n]
    if not same:
        return max(axes, key=lambda axis: axis.n).blocks(n)
    return Axis(
        n, float(np.mean([a.stride for a in same])), float(np.mean([a.offset for a in same]))
    )


def _window(
    module: nn.Module | None, node: fx.Node, args: Sequence[Any]
) -> list[tuple[int, int, int, int]] | None:
    """Return (kernel, step, padding in front, dilation) for both axes of a sliding window."""
    given: dict[str, Any]
    if isinstance(module, _WINDOWED):
        given = {key: getattr(module, key) for key in _WINDOW if hasattr(module, key)}
    elif node.op == "call_function" and node.target in _WINDOW_FUNCTIONS:
        given = dict(zip(_WINDOW_FUNCTIONS[node.target], args, strict=False)) | node.kwargs
    else:
        return None
    kernel = given["weight"].shape[2:] if "weight" in given else given["kernel_size"]
    kernel, dilation = _pair(kernel), _pair(given.get("dilation", 1))
    padding = given.get("padding", 0)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    front = _pair(0 if padding == "valid" else padding)
    return list(zip(kernel, _pair(given.get("stride") or kernel), front, dilation, strict=True))


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, tuple | list) else (int(value),) * 2
