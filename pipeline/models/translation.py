"""Rewrites a graph of ATen's operations in the words of those that torch.fx traces.

Operations with weights become modules again, nothing is done in place, and results are called by
the modules that return them: the rest knows a convolution by its class, a layer by its path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from .answer import WHOLE
from .graph import batch_size
from .trace import Trace, by_depth

aten = torch.ops.aten


def translate(graph: fx.GraphModule) -> Trace:
    """Rewrite a graph.

    Parameters
    ----------
    graph : GraphModule
        Of operations of ATen, as torch.export gives it: one placeholder, weights as attributes,
        ``nn_module_stack`` with paths below `WHOLE` and ``val`` among each node's ``meta``.
    """
    return _Translation(graph, _Stacks(graph)).trace()


class Translated(nn.Module):
    """A network that was a graph to begin with, and so needs no tracing."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.graph = trace.graph
        self.trace = trace

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits for images (batch, 3, height, width), or the features."""
        answer: torch.Tensor = self.graph(images)
        return answer


class _Stacks:
    """In which modules each operation is, and which operations give what a module returns."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.types: dict[str, str] = {}
        self.innermost: dict[fx.Node, str] = {}
        inside: dict[str, tuple[str, list[fx.Node]]] = {}
        for node in graph.graph.nodes:
            for call, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
                # Called again, a module has the same path and another key.
                path = path.removeprefix(WHOLE).removeprefix(".")
                if node.op == "call_function" and not call.startswith("_"):
                    self.types[path] = getattr(kind, "__name__", str(kind).rpartition(".")[2])
                    self.innermost[node] = path
                    inside.setdefault(call, (path, []))[1].append(node)
        self.returned_by: dict[fx.Node, list[str]] = {}
        calls: Counter[str] = Counter()
        for path, nodes in inside.values():
            name = f"{path}_{calls[path]}" if calls[path] else path
            calls[path] += 1
            within = set(nodes)
            out = [node for node in nodes if any(user not in within for user in node.users)]
            if out and path:
                self.returned_by.setdefault(out[-1], []).append(name)
                self.types.setdefault(name, self.types[path])


class _Translation:
    """Rewrites a graph of ATen: modules for operations with weights, nothing in place."""

    def __init__(self, graph: fx.GraphModule, stacks: _Stacks) -> None:
        self._from, self._stacks = graph, stacks
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._copied: dict[fx.Node, fx.Node] = {}
        self._names: dict[fx.Node, list[str]] = {}
        self._counts: Counter[str] = Counter()
        self._given: dict[fx.Node, Any] = {}

    def trace(self) -> Trace:
        """Rewrite it all."""
        for node in self._from.graph.nodes:
            made = self._translate(node)
            if made is not None:
                self._copied[node] = made
                self._names[made] = self._called(node)
        graph = fx.GraphModule(self._root, self._graph, "Exported")
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return Trace(graph, self._names.__getitem__, self._stacks.types)

    def _called(self, node: fx.Node) -> list[str]:
        operation = getattr(node.target, "__name__", str(node.target)).partition(".")[0].rstrip("_")
        path = self._stacks.innermost.get(node, "")
        name = f"{path}.{operation}" if path else operation
        number = self._counts[name]
        self._counts[name] += 1
        own = f"{name}_{number}" if number else name
        return by_depth([*self._stacks.returned_by.get(node, []), own])

    def _translate(self, node: fx.Node) -> fx.Node | None:
        if node.op == "placeholder":
            return self._graph.placeholder("images")
        if node.op == "get_attr":
            self._given[node] = _attribute(self._from, str(node.target))
            return None  # copied where a use of it remains
        if node.op == "output":
            (result,) = node.all_input_nodes
            self._graph.output(self._use(result))
            return None
        if node.op == "call_module":
            return None  # guards of torch.export
        size = self._batch(node)
        if size is not None:
            return size
        module = _as_module(node, self._given)
        if module is None:
            made = self._function(node)
        else:
            self._root.add_module(node.name, module)
            inputs = node.args[0]
            assert isinstance(inputs, fx.Node)
            made = self._graph.call_module(node.name, (self._use(inputs),))
        made.meta["val"] = node.meta.get("val")
        return made

    def _function(self, node: fx.Node) -> fx.Node:
        args = fx.map_arg(node.args, self._use)
        kwargs = fx.map_arg(node.kwargs, self._use)
        target, is_in_place = _out_of_place(node.target)
        made = self._graph.call_function(target, args, kwargs)
        if is_in_place:
            # Whoever reads the tensor later reads what was written.
            written = node.args[0]
            assert isinstance(written, fx.Node)
            self._copied[written] = made
        return made

    def _batch(self, node: fx.Node) -> fx.Node | None:
        """Return a multiple of the batch's size where that is what a node is."""
        value = node.meta.get("val")
        if not isinstance(value, torch.SymInt):
            return None
        expression = value.node.expr
        symbols = sorted(expression.free_symbols, key=str)
        if len(symbols) != 1 or not (expression / symbols[0]).is_Integer:
            return None
        (images,) = self._graph.find_nodes(op="placeholder")
        size = self._graph.call_function(batch_size, (images,))
        n = int(expression / symbols[0])
        return size if n == 1 else self._graph.call_function(times, (size, n))

    def _use(self, node: fx.Node) -> fx.Node:
        if node in self._copied:
            return self._copied[node]
        value = self._given[node]
        name = f"given_{node.name}"
        if isinstance(value, nn.Parameter):
            self._root.register_parameter(name, value)
        else:
            self._root.register_buffer(name, value)
        self._copied[node] = self._graph.get_attr(name)
        self._copied[node].meta["val"] = value
        self._names[self._copied[node]] = [name]
        return self._copied[node]


def times(a: int, b: int) -> int:
    """Return a multiple of the number of images."""
    return a * b


def _attribute(root: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(root.get_submodule(owner), name)


def _out_of_place(target: Any) -> tuple[Any, bool]:
    """Return the operation that gives what another one writes over its first argument."""
    if not isinstance(target, torch._ops.OpOverload):
        return target, False
    name = target._schema.name.removeprefix("aten::")
    if not name.endswith("_") or name.startswith("_"):
        return target, False
    packet = getattr(aten, name[:-1], None)
    overload = getattr(packet, target._overloadname, None)
    return (target, False) if overload is None else (overload, True)


Given = dict[fx.Node, Any]


def _as_module(node: fx.Node, given: Given) -> nn.Module | None:
    """Return the module that does what an operation with stored weights does."""
    make = _MODULES.get(node.target)
    if make is None:
        return None
    names = [each.name for each in node.target._schema.arguments]  # type: ignore[union-attr]
    defaults = {each.name: each.default_value for each in node.target._schema.arguments}  # type: ignore[union-attr]
    arguments = defaults | dict(zip(names, node.args, strict=False)) | node.kwargs
    weights = {}
    for key in ("weight", "bias", "running_mean", "running_var"):
        value = arguments.get(key)
        if value is not None and value not in given:
            return None  # computed: standardised weights
        weights[key] = None if value is None else given[value]
    if weights["weight"] is None or any(isinstance(each, fx.Node) for each in _others(arguments)):
        return None
    module = make(arguments, weights)
    if module is None:
        return None
    for key, value in weights.items():
        if value is None:
            continue
        if key in module._parameters and isinstance(value, nn.Parameter):
            module._parameters[key] = value
        elif key in module._buffers:
            module._buffers[key] = value
        else:
            module._parameters[key] = nn.Parameter(value, requires_grad=False)
    return module.eval()


def _others(arguments: dict[str, Any]) -> list[Any]:
    known = ("input", "weight", "bias", "running_mean", "running_var")
    return [value for key, value in arguments.items() if key not in known]


def _convolution(given: dict[str, Any], weights: dict[str, Any]) -> nn.Module | None:
    padding = given["padding"]
    n_out, n_in, *kernel = weights["weight"].shape
    with torch.device("meta"):
        return nn.Conv2d(
            n_in * given["groups"], n_out, tuple(kernel), tuple(given["stride"]),
            padding if isinstance(padding, str) else tuple(padding),
            tuple(given["dilation"]), given["groups"], weights["bias"] is not None,
        )  # fmt: skip


def _linear(given: dict[str, Any], weights: dict[str, Any]) -> nn.Module | None:
    n_out, n_in = weights["weight"].shape
    with torch.device("meta"):
        return nn.Linear(n_in, n_out, weights["bias"] is not None)


def _batch_norm(given: dict[str, Any], weights: dict[str, Any]) -> nn.Module | None:
    known = weights["running_mean"] is not None and weights["bias"] is not None
    if given["training"] or not known or given["input"].meta["val"].ndim != 4:
        return None
    return nn.BatchNorm2d(len(weights["weight"]), eps=given["eps"])


_MODULES: dict[Any, Callable[[dict[str, Any], dict[str, Any]], nn.Module | None]] = {
    aten.conv2d.default: _convolution,
    aten.conv2d.padding: _convolution,
    aten.linear.default: _linear,
    aten.batch_norm.default: _batch_norm,
}
