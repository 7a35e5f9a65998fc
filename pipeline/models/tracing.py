"""Traces a network into a graph and finds every layer in it that is a map of positions.

The graph decides what can be cut: a layer has a head of its own if every path from the image to
the logits passes through it, and its positions matter if the logits have a gradient there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn

from ..errors import UserError
from ..images import InputSize, sides
from . import exported
from .answer import WHOLE, answer_to, path_of
from .graph import bottlenecks, forbid_in_place, head_graph
from .position_grid import PositionGrid, follow, image_grid
from .trace import Trace
from .translation import Translated

PROBE_IMAGES = 2
PROBE_SEED = 0

SKIPPED = "the head is not a function of this layer alone (skip connections lead around it)"
UNREACHED = "its positions cannot reach the logits (only the class token is read after it)"
SCORES = "nothing with parameters follows it: these are already class scores"


@dataclass(frozen=True)
class Layer:
    """One map of positions in the graph, under all names that mean it.

    Attributes
    ----------
    node : Node
        The first operation that returns these numbers.
    names : tuple of str
        Module paths and operation names, shortest first; the first one is canonical.
    kind : str
        What computes it: the class of the module or the name of the function.
    grid : PositionGrid
        Its cells, channels, prefix tokens and memory layout.
    signed : bool
        Whether it has negative values, on noise.
    reason : str
        Why it cannot be cut at; empty where it can.
    """

    node: fx.Node
    names: tuple[str, ...]
    kind: str
    grid: PositionGrid
    signed: bool
    reason: str


@dataclass(frozen=True)
class TracedNetwork:
    """A traced network: its graph, free of in-place operations, and its layers in order."""

    graph: fx.GraphModule
    layers: tuple[Layer, ...]
    modules: frozenset[str] = frozenset()
    """Paths of the modules that were called."""

    def find(self, name: str) -> Layer | None:
        """Return the layer that `name` means, if any."""
        return next((layer for layer in self.layers if name in layer.names), None)


def trace_network(
    module: nn.Module,
    name: str,
    size: InputSize,
    *,
    has_classes: bool = True,
    has_spare_head: bool = False,
) -> TracedNetwork:
    """Trace a network and look at what each of its operations returns for two noise images.

    Parameters
    ----------
    module : Module
        In `eval` mode.
    name : str
        What the network is called, for messages.
    size : int or (int, int)
        Side of the square input, or height and width, pixels.
    has_classes : bool
        Whether the answer is logits; of a backbone every map of its modules can be taken, for
        there is no head that would have to be a function of it.
    has_spare_head : bool
        Whether the answer of a backbone is logits all the same, which are left aside: maps of
        scores are no layers of it.

    Returns
    -------
    TracedNetwork

    Raises
    ------
    UserError
        The network cannot be traced, or does not take images of that size.
    """
    noise = _noise(size)
    expected = answer_to(module, noise, name)
    if isinstance(module, Translated):
        trace = module.trace
        _prepare(trace.graph)
    else:
        trace = _symbolic(module, noise, expected) or _exported(module, noise, expected, name)
    probe = _Probe(trace.graph, size)
    with torch.no_grad():
        probe.run(noise)
    if has_classes:
        reasons = _reasons(trace.graph, probe)
    else:
        reasons = _reasons_of_a_backbone(trace, probe, has_spare_head)
    modules = frozenset(map(path_of, trace.types))
    return TracedNetwork(trace.graph, tuple(_layers(trace, probe, reasons)), modules)


def _symbolic(module: nn.Module, noise: torch.Tensor, expected: torch.Tensor) -> Trace | None:
    """Trace a network by torch.fx; None where that fails, or computes something else."""
    from . import symbolic  # loads torchvision, which takes a second and more

    try:
        trace = symbolic.trace(module)
        _prepare(trace.graph)
        with torch.no_grad():
            found = trace.graph(noise)
    except Exception:  # code that torch.fx does not understand fails in any way; so it is no loss
        return None
    return trace if _same(found, expected) else None


def _exported(module: nn.Module, noise: torch.Tensor, expected: torch.Tensor, name: str) -> Trace:
    """Trace a network by torch.export."""
    try:
        trace = exported.trace(module, noise)
    except exported.ExportError as error:
        raise UserError(
            f"the layers of {name} cannot be found, since neither torch.fx nor torch.export can"
            f" trace it ({error})"
        ) from error
    _prepare(trace.graph)
    with torch.no_grad():
        found = trace.graph(noise)
    if not _same(found, expected):
        raise UserError(
            f"the layers of {name} cannot be found: as torch.export traces it, it answers otherwise"
            f" than it does (by {(found - expected).abs().max():.2g})"
        )
    return trace


def _prepare(graph: fx.GraphModule) -> None:
    graph.eval()
    forbid_in_place(graph)


def _same(found: object, expected: torch.Tensor) -> bool:
    if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
        return False
    scale = float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * scale, equal_nan=True)


def as_rows(value: torch.Tensor, grid: PositionGrid) -> torch.Tensor:
    """Return a layer's output as (batch, prefix + positions, channels), positions row by row."""
    if grid.layout == "NCHW":
        value = value.permute(0, 2, 3, 1)
    return value.flatten(1, 2) if value.ndim == 4 else value


class _Probe(fx.Interpreter):
    """Runs the graph once and notes the grid, the sign and the originality of each result."""

    def __init__(self, graph: fx.GraphModule, size: InputSize) -> None:
        super().__init__(graph)
        self.grids: dict[fx.Node, PositionGrid] = {}
        self.signed: dict[fx.Node, bool] = {}
        self.original: dict[fx.Node, fx.Node] = {}
        self.shapes: dict[fx.Node, torch.Size] = {}
        self._size = size

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        grid = self._grid(n, value)
        if grid is not None:
            self.grids[n] = grid
            made = n.op not in ("placeholder", "output")
            if made and grid.is_map and isinstance(value, torch.Tensor):
                self.shapes[n] = value.shape
                self.signed[n] = bool((value < 0).any())
                self.original[n] = self._first_with(n, as_rows(value, grid))
        return value

    def _grid(self, n: fx.Node, value: object) -> PositionGrid | None:
        if n.op == "placeholder":
            return image_grid(self._size)
        before = [self.grids[each] for each in n.all_input_nodes if each in self.grids]
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        args, _ = self.fetch_args_kwargs_from_env(n)
        return follow(value, before, module, n, PROBE_IMAGES, args)

    def _first_with(self, n: fx.Node, rows: torch.Tensor) -> fx.Node:
        """Return the first operation that returned these very numbers.

        Dropout at inference, a permutation of axes, or a ReLU after a ReLU make no new layer.
        """
        for each in n.all_input_nodes:
            if each in self.original and torch.equal(
                as_rows(self.env[each], self.grids[each]), rows
            ):
                return self.original[each]
        return n


def _names(trace: Trace, probe: _Probe) -> dict[fx.Node, list[str]]:
    """Return the names of every map, by the operation that made its numbers first."""
    names: dict[fx.Node, list[str]] = {}
    for node, original in probe.original.items():
        names.setdefault(original, []).extend(map(path_of, trace.names(node)))
    for called in names.values():
        if len(called) > 1 and WHOLE in called:
            called.remove(WHOLE)  # the whole network is no layer of its own
    return names


def _types(trace: Trace) -> dict[str, str]:
    return {path_of(path): kind for path, kind in trace.types.items()}


def _layers(trace: Trace, probe: _Probe, reasons: Mapping[fx.Node, str]) -> Iterator[Layer]:
    types = _types(trace)
    for node, called in _names(trace, probe).items():
        reason = reasons[node]
        kind = types.get(called[0])
        # Unnamed sums and products inside a block are of use only where a network can be cut.
        if kind or not reason:
            yield Layer(
                node=node,
                names=tuple(called),
                kind=kind or str(getattr(node.target, "__name__", node.target)).partition(".")[0],
                grid=probe.grids[node],
                signed=probe.signed[node],
                reason=reason,
            )


def _reasons_of_a_backbone(trace: Trace, probe: _Probe, has_spare_head: bool) -> dict[fx.Node, str]:
    """Say the same where no head has to be a function of a map: every module's will do."""
    types, on_the_way = _types(trace), bottlenecks(trace.graph)
    reasons = {
        node: "" if node in on_the_way or called[0] in types else SKIPPED
        for node, called in _names(trace, probe).items()
    }
    for node in on_the_way if has_spare_head else ():
        if node in reasons and not any(True for _ in head_graph(trace.graph, node).parameters()):
            reasons[node] = SCORES
    return reasons


def _reasons(graph: fx.GraphModule, probe: _Probe) -> dict[fx.Node, str]:
    """Say of every map why the network cannot be cut there, with an empty text where it can."""
    reasons = dict.fromkeys(probe.original, SKIPPED)
    reached = False
    for node in reversed(bottlenecks(graph)):
        if node not in probe.original:
            continue
        head = head_graph(graph, node)
        if not any(True for _ in head.parameters()):
            reasons[node] = SCORES
            continue
        # What is read of a later layer's positions depends on all layers before it.
        reached = reached or _reaches(head, probe.shapes[node], probe.grids[node].n_prefix)
        reasons[node] = "" if reached else UNREACHED
    return reasons


def _reaches(head: nn.Module, shape: torch.Size, n_prefix: int) -> bool:
    """Whether the logits have a gradient at any position."""
    generator = torch.Generator().manual_seed(PROBE_SEED)
    value = torch.randn(shape, generator=generator).requires_grad_()
    # Untrained networks may hold weights of zero (the last layer of a vision transformer), through
    # which nothing would be seen to pass.
    weights = {
        key: each if each.any() else torch.randn(each.shape, generator=generator)
        for key, each in head.named_parameters()
    }
    with torch.enable_grad():
        logits = torch.func.functional_call(head, weights, (value,))
        mixture = (logits * torch.randn(logits.shape, generator=generator)).sum()
        (gradient,) = torch.autograd.grad(mixture, value)
    positions = gradient[:, n_prefix:] if n_prefix else gradient
    return bool(positions.any())


def _noise(size: InputSize) -> torch.Tensor:
    generator = torch.Generator().manual_seed(PROBE_SEED)
    return torch.randn(PROBE_IMAGES, 3, *sides(size), generator=generator)
