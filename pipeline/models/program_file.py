"""Reads a file of torch.export.save (``.pt2``) as data: the graph of a program, and its weights.

torch.export.load unpickles parts of such files, evaluates text in them and runs what was compiled.
Here nothing is: tensors are read as bytes, operations are looked up among ATen's, and what would
have to be executed is refused.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ..errors import UserError
from ..images import InputSize, size_of
from .answer import LOGITS, WHOLE
from .graph import batch_size
from .program_archive import Archive, Json, dtype_of
from .program_graph import CONSTANT, KEPT, allowed, anywhere, for_inference, plain_operation
from .translation import times

MAJOR = 8
"""Version of torch's schema of programs; it goes up where old readers would misread new files."""

FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format,
}  # fmt: skip

ON_SIZES = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")
}

SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")
MULTIPLE = re.compile(r"Mul\(Integer\((\d+)\), (Symbol\('\w+'[^()]*\))\)")


@dataclass
class Program:
    """What a file holds.

    Attributes
    ----------
    graph : GraphModule
        Of ATen's operations, from images to one tensor; in float32 and for inference.
    image_size : int or (int, int)
        Side of the square images that it takes, pixels.
    batch : int or None
        How many images it takes at once; None: any number.
    notes : list of str
        What was changed, for the user to know.
    """

    graph: fx.GraphModule
    image_size: InputSize
    batch: int | None
    notes: list[str] = field(default_factory=list)


def read_program(path: Path) -> Program:
    """Read a program; nothing in the file is ever executed.

    Raises
    ------
    UserError
        The file is missing, damaged or of another version, holds what would have to be executed,
        or its program takes something else than one batch of square RGB images.
    """
    try:
        return _Reader(Archive(path)).read()
    except UserError:
        raise
    except Exception as error:  # damage shows anywhere, as any kind of exception
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"program {path} cannot be read: {type(error).__name__}: {reason}"
        ) from error


class _Reader:
    """Builds the graph of the one program of an archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self._path = archive, archive.path
        self._root, self._graph = nn.Module(), fx.Graph()
        self._values: dict[str, Any] = {}
        self._constants: dict[fx.Node, torch.Tensor] = {}
        self._in_training = False

    def read(self) -> Program:
        """Read it all."""
        program = self._archive.json("models/model.json")
        version = program["schema_version"]["major"]
        if version != MAJOR:
            raise UserError(
                f"program {self._path} has version {version} of torch's format, version {MAJOR} is"
                " read: export it again with a torch of now"
            )
        whole = program["graph_module"]
        self._described: Json = whole["graph"]
        tensors = self._archive.tensors("weights") | self._archive.tensors("constants")
        size, batch = self._inputs(whole["signature"]["input_specs"], tensors)
        for node in self._described["nodes"]:
            self._operation(node)
        self._graph.output(self._result(whole))
        graph = fx.GraphModule(self._root, self._graph)
        notes = ["it was exported in train mode, and is run in eval mode"] * self._in_training
        return Program(graph, size, batch, notes)

    def _inputs(
        self, specs: list[Json], tensors: dict[str, torch.Tensor]
    ) -> tuple[InputSize, int | None]:
        """Put weights where the graph reads them; return the size and number of its images."""
        images = []
        for spec in specs:
            ((kind, each),) = spec.items()
            if kind == "user_input":
                images.append(each["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                value = tensors[each[f"{kind}_name"]]
                self._values[each["arg"]["name"]] = self._given(value, learnt=kind == "parameter")
            else:
                raise self._archive.refusal(f"an input that is no tensor ({kind})")
        if len(images) != 1:
            raise UserError(f"program {self._path} takes {len(images)} inputs, not one of images")
        meta = self._described["tensor_values"][images[0]]
        sizes = [_size(one) for one in meta["sizes"]]
        if len(sizes) != 4 or sizes[1] != 3 or meta["dtype"] not in (6, 7, 13):
            raise UserError(
                f"program {self._path} takes {dtype_of(meta['dtype'])} of"
                f" {' × '.join(map(str, sizes))}: it has to take RGB images, (batch, 3, height,"
                " width), as floating point numbers"
            )
        self._images = self._values[images[0]] = self._graph.placeholder("images")
        self._images.meta["val"] = torch.empty(sizes, device="meta")
        first = meta["sizes"][0].get("as_expr")
        self._batch = first and first["expr_str"]
        return size_of(sizes[2], sizes[3]), None if first else sizes[0]

    def _operation(self, described: Json) -> None:
        """Add what one node of the file computes, under the names of its results."""
        outputs = described["outputs"]
        if not outputs:
            return  # checks
        ((kind, result),) = outputs[0].items()
        if kind == "as_sym_int":
            self._values[result["as_name"]] = self._number(result["as_name"], described)
            return
        target = allowed(described["target"], self._path)
        given = {each["name"]: self._argument(each["arg"]) for each in described["inputs"]}
        given = anywhere(target, given)
        self._in_training |= for_inference(given)
        target, given, single = plain_operation(target, given)
        args = [given.get(each.name, each.default_value) for each in _positional(target)]
        named = {
            each.name: given[each.name]
            for each in target._schema.arguments
            if each.kwarg_only and each.name in given
        }
        made = self._made(target, tuple(args), named, described)
        if kind == "as_tensor" and (len(outputs) == 1 or single):
            self._keep(result, made)
            return
        parts = result if kind == "as_tensors" else [each.get("as_tensor") for each in outputs]
        for index, part in enumerate(parts):
            if part is not None:
                each = self._made(operator.getitem, (made, index), {}, described)
                self._keep(part, each)

    def _made(self, target: Any, args: Any, named: Json, described: Json) -> Any:
        """Add an operation, or do it at once where no image is needed: Swin writes its masks."""
        needed: list[fx.Node] = []
        fx.map_arg((args, named), needed.append)
        if target in CONSTANT:  # of what follows a tensor they take no more than its type
            args, needed = (
                (torch.empty(0), *args[1:]),
                [each for each in needed if each is not args[0]],
            )
        if target not in KEPT and all(each in self._constants for each in needed):
            known = fx.map_arg((args, named), self._constants.__getitem__)
            made = target(*known[0], **known[1])
            return self._given(made) if isinstance(made, torch.Tensor) else made
        node = self._graph.call_function(target, args, named)
        stack = described["metadata"].get("nn_module_stack", "")
        node.meta["nn_module_stack"] = dict(_stack(stack))
        return node

    def _given(self, value: torch.Tensor, *, learnt: bool = False) -> fx.Node:
        """Put a tensor where the graph reads it."""
        key = f"tensor_{len(self._constants)}"
        if learnt and value.is_floating_point():
            self._root.register_parameter(key, nn.Parameter(value, requires_grad=False))
        else:
            self._root.register_buffer(key, value)
        node = self._graph.get_attr(key)
        self._constants[node] = value
        return node

    def _keep(self, result: Json, made: Any) -> None:
        node = self._given(made) if isinstance(made, torch.Tensor) else made
        self._values[result["name"]] = node
        meta = self._described["tensor_values"].get(result["name"])
        if meta is not None:
            node.meta["val"] = torch.empty([_size(one) for one in meta["sizes"]], device="meta")

    def _number(self, name: str, described: Json) -> Any:
        """Return a size: a multiple of the number of images, a constant, or what computes it."""
        expression = self._described["sym_int_values"][name]["as_expr"]
        text = expression["expr_str"]
        if text == self._batch:
            return self._graph.call_function(batch_size, (self._images,))
        multiple = MULTIPLE.fullmatch(text)
        if multiple and multiple[2] == self._batch:
            size = self._graph.call_function(batch_size, (self._images,))
            return self._graph.call_function(times, (size, int(multiple[1])))
        if self._batch is None or not set(SYMBOL.findall(text)) & set(SYMBOL.findall(self._batch)):
            return int(expression["hint"]["as_int"])  # of images of that size
        given = tuple(self._argument(each["arg"]) for each in described["inputs"])
        name = described["target"].removeprefix("_operator.")
        if name in ON_SIZES:
            return self._graph.call_function(ON_SIZES[name], given)
        return self._graph.call_function(allowed(described["target"], self._path), given)

    def _argument(self, given: Json) -> Any:
        """Return what an operation is given, of all the kinds that torch writes."""
        ((kind, value),) = given.items()
        if kind == "as_none":
            return None
        if kind in ("as_tensor", "as_optional_tensor"):
            return self._values[value["name"]] if "name" in value else self._argument(value)
        if kind in ("as_tensors", "as_optional_tensors"):
            return [self._argument({"as_tensor": each}) for each in value]
        if kind in ("as_sym_int", "as_sym_ints"):
            sizes = [value] if kind == "as_sym_int" else value
            found = [self._values[s["as_name"]] if "as_name" in s else s["as_int"] for s in sizes]
            return found[0] if kind == "as_sym_int" else found
        if kind in ("as_int", "as_ints", "as_bool", "as_bools", "as_string"):
            return value
        if kind in ("as_float", "as_floats"):
            return float(value) if kind == "as_float" else [float(each) for each in value]
        if kind == "as_scalar_type":
            dtype = dtype_of(value)
            return torch.float32 if dtype.is_floating_point else dtype
        if kind == "as_memory_format":
            return FORMATS[value]
        if kind == "as_layout":
            return torch.strided
        if kind == "as_device":
            return torch.device("cpu")
        raise self._archive.refusal(f"an argument of a kind that is not read ({kind})")

    def _result(self, whole: Json) -> fx.Node:
        """Return the logits among what the program returns: by name, else the first tensor."""
        results = [
            spec["user_output"]["arg"]["as_tensor"]["name"]
            for spec in whole["signature"]["output_specs"]
            if "as_tensor" in spec.get("user_output", {}).get("arg", {})
        ]
        if not results:
            raise UserError(f"program {self._path} returns no tensor")
        keys = _keys(whole["module_call_graph"][0]["signature"]["out_spec"])
        at = next((keys.index(key) for key in LOGITS if key in keys), 0)
        node: fx.Node = self._values[results[at]]
        return node


def _positional(target: torch._ops.OpOverload) -> Iterator[Any]:
    return (each for each in target._schema.arguments if not each.kwarg_only)


def _stack(text: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the modules around an operation: each call, with path and class."""
    for each in filter(None, text.split(";")):
        call, path, kind = each.split(",", 2)
        yield call, (f"{WHOLE}.{path}" if path else WHOLE, kind)


def _keys(spec: str) -> list[str]:
    """Return the keys of the dict that a program returns; none where it returns no dict."""
    _, root = json.loads(spec)
    if root["type"] is None or not isinstance(root["context"], str):
        return []
    context = json.loads(root["context"])
    plain = isinstance(context, list) and len(context) == len(root["children_spec"])
    return [str(each) for each in context] if plain else []


def _size(described: Json) -> int:
    """Return a size, of the example that a program was exported with where any is taken."""
    if "as_int" in described:
        return int(described["as_int"])
    return int(described["as_expr"]["hint"]["as_int"])
