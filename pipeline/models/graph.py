"""Cuts and simplifies the graph of a network; weights are shared between all graphs made here."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_NOT_IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def batch_size(images: torch.Tensor) -> int:
    """Return how many images a tensor is of; in a graph, all that is left of asking for a size."""
    return images.shape[0]


def head_graph(graph: fx.GraphModule, node: fx.Node) -> fx.GraphModule:
    """Return what follows `node` as a module from its value to the logits; weights are shared."""
    head = fx.Graph()
    activations = head.placeholder("activations")
    copied = {node: activations}
    for each in _needed(graph, [_result(graph)], node):
        if each.target is batch_size:
            copied[each] = head.call_function(batch_size, (activations,))
        elif each is not node:
            copied[each] = head.node_copy(each, copied.__getitem__)
    head.output(copied[_result(graph)])
    return fx.GraphModule(graph, head, "Head")


def full_graph(
    graph: fx.GraphModule,
    nodes: Sequence[fx.Node],
    preprocess: nn.Module,
    *,
    with_logits: bool = True,
) -> fx.GraphModule:
    """Return the network as a module that gives the values of `nodes`, then the logits.

    `preprocess` comes first, as its submodule ``preprocess``; the other weights are shared.
    """
    results = [*nodes, *([_result(graph)] if with_logits else [])]
    whole = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for each in _needed(graph, results):
        copied[each] = whole.node_copy(each, copied.__getitem__)
    whole.output(tuple(copied[each] for each in results))
    body = fx.GraphModule(graph, whole, "Body")
    body.add_submodule("preprocess", preprocess)
    (images,) = whole.find_nodes(op="placeholder")
    with whole.inserting_after(images):
        normal = whole.call_module("preprocess", (images,))
    images.replace_all_uses_with(normal)
    normal.args = (images,)
    body.recompile()
    return body


def bottlenecks(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the operations through which every path from the image to the logits passes.

    In topological order these are the ones that no edge jumps over.
    """
    path = _path(graph)
    index = {node: i for i, node in enumerate(path)}
    found, furthest = [], 0
    for i, node in enumerate(path):
        if furthest <= i:
            found.append(node)
        furthest = max([furthest, *(index[user] for user in node.users if user in index)])
    return found


def forbid_in_place(graph: fx.GraphModule) -> None:
    """Let no operation overwrite a layer's output before it is read.

    DenseNet's last map, for one, is overwritten by the ReLU after it.
    """
    for part in graph.modules():
        if getattr(part, "inplace", False):
            setattr(part, "inplace", False)  # noqa: B010 (typed as a submodule)
    for node in graph.graph.nodes:
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
        if node.op == "call_function" and node.target in _NOT_IN_PLACE:
            node.target = _NOT_IN_PLACE[node.target]
    graph.recompile()


def fold_batch_norm(body: fx.GraphModule) -> None:
    """Merge each batch normalisation into the convolution that nothing else reads."""
    calls = Counter(str(node.target) for node in body.graph.nodes if node.op == "call_module")
    for node in list(body.graph.nodes):
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node):
            continue
        if before.op != "call_module" or len(before.users) > 1 or calls[str(before.target)] > 1:
            continue
        norm, convolution = (body.get_submodule(str(each.target)) for each in (node, before))
        if isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d):
            body.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            body.graph.erase_node(node)
    body.delete_all_unused_submodules()
    body.recompile()


def last_linear(body: fx.GraphModule) -> fx.Node | None:
    """Return the linear layer that computes the logits, if the last weights are one."""
    calls = [node for node in body.graph.nodes if node.op == "call_module"]
    for node in reversed(calls):
        part = body.get_submodule(str(node.target))
        if any(True for _ in part.parameters()):
            return node if isinstance(part, nn.Linear) else None
    return None


def _path(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the operations that depend on the image and on which the logits depend, in order."""
    dependent = _dependent(graph)
    return [node for node in _needed(graph, [_result(graph)]) if node in dependent]


def _needed(
    graph: fx.GraphModule, results: list[fx.Node], given: fx.Node | None = None
) -> list[fx.Node]:
    """Return the operations that `results` are computed by if `given` is known, in order."""
    needed = set(results)
    for node in reversed(graph.graph.nodes):
        if node in needed and node is not given and not (given and node.target is batch_size):
            needed.update(node.all_input_nodes)
    return [node for node in graph.graph.nodes if node in needed]


def _dependent(graph: fx.GraphModule) -> set[fx.Node]:
    dependent: set[fx.Node] = set()
    for node in graph.graph.nodes:
        reads = any(each in dependent for each in node.all_input_nodes)
        if node.op == "placeholder" or (reads and node.target is not batch_size):
            dependent.add(node)
    return dependent


def _result(graph: fx.GraphModule) -> fx.Node:
    (result,) = graph.graph.output_node().all_input_nodes
    return result
