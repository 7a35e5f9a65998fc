"""Programs of torch.export in files (``.pt2``): read as data, and cut where they were exported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import fx

from ..errors import UserError, option
from ..images import sides
from ..system.checksums import sha256
from . import architecture
from .checkpoints import is_torchscript
from .code_source import describe_classes
from .network import Network
from .program_file import Program, read_program
from .program_graph import agree, for_any_batch
from .source import IMAGENET_MEAN, IMAGENET_STD, NORMALISATION, RANDOM, Wanted
from .translation import Translated, translate

PROGRAM = "pt2"
"""Name of the source, which need not be written, and ending of its files."""

HOW = "torch.export.save(torch.export.export(model, (images,)), 'network.pt2')"
"""How such a file is made, for messages."""


class ProgramSource:
    """Files of torch.export.save; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List none: what is named is a file."""
        return ()

    def load(self, name: str, wanted: Wanted) -> Network:
        """Read a program, with its own weights or, for trials, random ones."""
        path = Path(name).expanduser()
        if wanted.weights not in (None, RANDOM):
            raise UserError(f"{name} holds its own weights: leave {option('weights')} out")
        program = read_program(path)
        size = program.image_size
        if wanted.image_size not in (None, size):
            height, width = sides(size)
            raise UserError(
                f"{name} was exported for images of {width} × {height} pixels: leave"
                f" {option('image_size')} out, or export it with an example of that size"
            )
        module = _module(program, path)
        source, digest = path.name, sha256(path)
        if wanted.weights == RANDOM:
            architecture.reset(module, wanted.seed)
            source = wanted.drawn
        classes, notes = describe_classes(module, name, size, wanted)
        return Network(
            name=name,
            module=module,
            image_size=size,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            classes=classes,
            weights_sha256=digest,
            weights_source=source,
            notes=(
                *program.notes,
                *notes,
                f"{NORMALISATION}; {option('mean')} and {option('std')} say others",
            ),
        )


SOURCE = ProgramSource()


def is_program(name: str) -> bool:
    """Say whether a network's name is that of a file of torch.export."""
    return name.endswith(f".{PROGRAM}")


def absolute(name: str) -> str:
    """Write the name of a file so that it is found from any folder."""
    return str(Path(name).expanduser().resolve())


def refuse_other_files(name: str) -> None:
    """Say of files that hold no network that can be read what they are, and what to do.

    Raises
    ------
    UserError
        The name is that of such a file.
    """
    path = Path(name).expanduser()
    if path.suffix == ".onnx":
        raise UserError(
            f"{name} is of ONNX, whose operations are not torch's: a function of yours that makes"
            f" the network of it is taken, {option('model', 'file.py:function')}"
        )
    if not path.suffix or not path.is_file():
        return
    if is_torchscript(path):
        raise UserError(
            f"{name} is TorchScript, which runs as it was compiled and has no layers to cut at:"
            f" where the network was made, write {HOW} and name that file, or name a function that"
            f" makes it, {option('model', 'file.py:function')}"
        )
    raise UserError(
        f"{name} is no network but a file: {option('weights', name)} takes one of weights, and"
        f" {option('model')} names the network that they are of"
    )


def _module(program: Program, path: Path) -> Translated:
    """Make the network of a program, and see that it computes what the program does."""
    try:
        graph = _flexible(program, path)
        module = Translated(translate(graph))
        same = agree(module, graph, 1, program.image_size)
    except UserError:
        raise
    except Exception as error:  # the program is anyone's
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"program {path} cannot be run: {type(error).__name__}: {reason}"
        ) from error
    if not same:
        raise UserError(
            f"program {path} writes into parts of tensors, which cannot be cut: save it after"
            " program.run_decompositions(), which writes nothing"
        )
    return module


def _flexible(program: Program, path: Path) -> fx.GraphModule:
    """Return the graph of a program for any number of images."""
    graph, n_images = program.graph, program.batch
    if n_images is None:
        return graph
    found = for_any_batch(graph, n_images)
    if agree(found, graph, n_images, program.image_size):
        return found
    raise UserError(
        f"{path} was exported for batches of {n_images}, and what it computes hangs on that"
        " number: export it for any, with dynamic_shapes=({0: torch.export.Dim('batch')},) and an"
        " example of two images"
    )
