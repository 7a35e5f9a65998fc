"""Traces a network with torch.fx: its own modules are the operations. Fast, and not for all."""

from __future__ import annotations

import inspect

from torch import fx, nn
from torchvision.models.feature_extraction import NodePathTracer

from .answer import Answer
from .trace import Trace, by_depth


def trace(module: nn.Module) -> Trace:
    """Trace a network.

    Raises
    ------
    TraceError, TypeError, RuntimeError
        What it computes hangs on values or sizes that torch.fx does not know.
    """
    if len(inspect.signature(module.forward).parameters) > 1:
        module = Answer(module)  # what has a default is no input
    tracer = _Tracer()
    graph = fx.GraphModule(module, tracer.trace(module))
    return Trace(graph, tracer.names, tracer.types)


class _Tracer(NodePathTracer):  # type: ignore[misc]
    """Names operations as torchvision's feature extraction does, and what modules return too."""

    def __init__(self) -> None:
        super().__init__()
        self.returned_by: dict[fx.Node, list[str]] = {}
        self.types: dict[str, str] = {}

    def call_module(self, m, forward, args, kwargs):  # type: ignore[no-untyped-def]
        path = self.path_of_module(m)
        self.types[path] = type(m).__name__
        out = super().call_module(m, forward, args, kwargs)
        if isinstance(out, fx.Proxy) and not self.is_leaf_module(m, path):
            self.returned_by.setdefault(out.node, []).append(path)
        return out

    def names(self, node: fx.Node) -> list[str]:
        """Return all names of an operation's result."""
        return by_depth([*self.returned_by.get(node, []), self.node_to_qualname[node]])
