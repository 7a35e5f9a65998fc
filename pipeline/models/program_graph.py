"""Operations of a program that is read from a file: which may be run, and by one name each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ..errors import UserError
from ..images import InputSize, sides
from .graph import batch_size
from .translation import times

aten = torch.ops.aten

Given = dict[str, Any]

NAME = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")

UNDERSCORED = {
    "_softmax", "_log_softmax", "_unsafe_view", "_to_copy", "_adaptive_avg_pool2d",
    "_native_batch_norm_legit_no_training", "_scaled_dot_product_flash_attention_for_cpu",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
}  # fmt: skip
"""Of operations that torch keeps to itself (some check nothing), those that networks need."""

RESHAPED = (
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default,
)  # fmt: skip

CONSTANT = (aten.new_zeros.default, aten.new_ones.default, aten.new_full.default)
"""Operations that take no more of a tensor than its type: Swin's masks."""


TURNED = (aten.permute.default, aten.t.default)
"""Operations that core operations put around the weights of a linear layer."""

KEPT = (*TURNED, aten.expand.default)
"""Operations that are looked for later, and so stay in the graph where no image is needed."""


def allowed(name: str, path: Path) -> torch._ops.OpOverload:
    """Return the operation of a name.

    Raises
    ------
    UserError
        It is none of ATen's that compute with tensors: it could run code, or reach files.
    """
    found = NAME.fullmatch(name)
    target = getattr(getattr(aten, found[1], None), found[2], None) if found else None
    if isinstance(target, torch._ops.OpOverload):
        assert found is not None
        words = {argument.name for argument in target._schema.arguments}
        hidden = found[1].startswith("_") and found[1] not in UNDERSCORED
        if not hidden and "filename" not in words and _gives_tensors(target):
            return target
    raise UserError(
        f"program {path} uses {name}, which is no plain operation of torch on tensors, and was not"
        " opened: export the network without it, or name a function of yours that makes it"
    )


def _gives_tensors(target: torch._ops.OpOverload) -> bool:
    results = [str(each.type) for each in target._schema.returns]
    return bool(results) and all(each in ("Tensor", "List[Tensor]", "int") for each in results)


def anywhere(target: torch._ops.OpOverload, given: Given) -> Given:
    """Leave out the device where that is possible: tensors are then where those that come are."""
    free = {each.name for each in target._schema.arguments if str(each.type) == "Optional[Device]"}
    return {name: None if name in free else value for name, value in given.items()}


def for_inference(given: Given) -> bool:
    """Let batch normalisation and dropout do what they do at inference; say if they did not."""
    changed = False
    for key in ("train", "training"):
        if given.get(key) is True and given.get("running_mean", given) is not None:
            given[key], changed = False, True
    return changed


def plain_operation(
    target: torch._ops.OpOverload, given: Given
) -> tuple[torch._ops.OpOverload, Given, bool]:
    """Return an operation under the name that is known of it elsewhere.

    Programs that were decomposed to torch's core operations say ``convolution`` for ``conv2d``,
    ``addmm`` for ``linear``, and use the first of what others return.

    Returns
    -------
    target : OpOverload
    given : dict
        Its arguments by name.
    single : bool
        Whether it returns the first of what it was to return.
    """
    if target is aten.convolution.default and not given["transposed"] and len(given["stride"]) == 2:
        keys = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        return aten.conv2d.default, {key: given[key] for key in keys}, False
    if target is aten.to.device:
        return aten.to.dtype, {name: given[name] for name in given if name != "device"}, False
    if target is aten._native_batch_norm_legit_no_training.default:
        return aten.batch_norm.default, given | {"training": False, "cudnn_enabled": False}, True
    if target is aten.max_pool2d_with_indices.default:
        return aten.max_pool2d.default, given, True
    if target is aten.addmm.default and given.get("beta", 1) == given.get("alpha", 1) == 1:
        weight = _transposed(given["mat2"])
        if weight is not None:
            linear = {"input": given["mat1"], "weight": weight, "bias": given["self"]}
            return aten.linear.default, linear, False
    return target, given, False


def _transposed(node: fx.Node) -> fx.Node | None:
    """Return the weight of which a node is the transpose."""
    if node.op == "call_function" and node.target in TURNED:
        weight = node.args[0]
        swapped = node.target is aten.t.default or list(node.args[1]) == [1, 0]  # type: ignore[arg-type]
        if isinstance(weight, fx.Node) and weight.op == "get_attr" and swapped:
            return weight
    return None


def for_any_batch(graph: fx.GraphModule, n_images: int) -> fx.GraphModule:
    """Return a graph that was made for `n_images`, for any number of images; weights are shared.

    Sizes that it gives to what depends on the images are multiples of their number. Whether that
    holds is to be seen in numbers: see `agree`.
    """
    whole = fx.Graph()
    whole.output(whole.graph_copy(graph.graph, {}))
    (images,) = whole.find_nodes(op="placeholder")
    with whole.inserting_after(images):
        size = whole.call_function(batch_size, (images,))
    depends = {images}
    for node in list(whole.nodes):
        if depends.intersection(node.all_input_nodes):
            depends.add(node)
        # What does not depend on the images is spread over them: class tokens.
        is_sized = node.target in RESHAPED if node in depends else node.target is RESHAPED[-1]
        if node is size or not is_sized:
            continue
        first, *others = node.args[1]
        if first > 0 and first % n_images == 0 and (node in depends or first == n_images):
            depends.add(node)
            with whole.inserting_before(node):
                many = whole.call_function(times, (size, first // n_images))
            node.args = (node.args[0], [many, *others], *node.args[2:])
    return fx.GraphModule(graph, whole)


@torch.no_grad()
def agree(any_batch: nn.Module, graph: fx.GraphModule, n_images: int, size: InputSize) -> bool:
    """Say whether a graph gives for more images what another gives for `n_images` at a time."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n_images + 1, 3, *sides(size), generator=generator)
    expected = [graph(noise[:-1]), graph(noise[1:])]
    try:
        found = any_batch(noise)
    except (RuntimeError, IndexError):  # sizes that do not fit
        return False
    scale = 1e-4 * float(torch.stack(expected).abs().max())
    shape = (n_images + 1, *expected[0].shape[1:])
    return found.shape == shape and all(
        torch.allclose(part, each, rtol=1e-4, atol=scale)
        for part, each in zip((found[:-1], found[1:]), expected, strict=True)
    )
