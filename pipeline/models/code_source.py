"""The user's own networks: what a function of theirs returns, or a module that they hold.

Code is run here because the user named it; nothing else is imported.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..errors import UserError, option, suggest
from ..images import InputSize, sides, size_of
from ..system.checksums import sha256
from . import architecture, class_names
from .answer import Answer, answer_to
from .fitting import fill_from
from .link import said_by
from .network import Network
from .source import IMAGENET_MEAN, IMAGENET_STD, NORMALISATION, RANDOM, Wanted
from .weights import digest

CODE = "code"
"""Name of the source, which need not be written."""

IMAGE_SIZE = 224
"""Side of the input where nothing says another."""


class CodeSource:
    """Factories of the user; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List none: what is named is a function."""
        return ()

    def load(self, name: str, wanted: Wanted) -> Network:
        """Call ``package.module:factory`` or ``path/to/file.py:factory``, without arguments."""
        where, _, factory = name.rpartition(":")
        file = Path(where).expanduser().resolve() if where.endswith(".py") else None
        beside = Path.cwd() if file is None else file.parent
        with torch.random.fork_rng(devices=[]), _blamed(name), _beside(beside):
            torch.manual_seed(wanted.seed)
            module = importlib.import_module(where) if file is None else _executed(file)
            made = _find(module, factory, name)()
        if isinstance(made, Network):
            return made
        if not isinstance(made, nn.Module):
            raise UserError(f"{name} returns a {type(made).__name__}, not a torch.nn.Module")
        return describe(made, name, wanted)


SOURCE = CodeSource()


def is_code(name: str) -> bool:
    """Say whether a network's name is that of a function: of a file, or of a dotted module."""
    where, colon, factory = name.rpartition(":")
    if not colon or not factory.isidentifier():
        return False
    if where.endswith(".py"):
        return True
    if not all(part.isidentifier() for part in where.split(".")):
        return False
    if "." in where:
        return True
    with _beside(Path.cwd()):  # a source whose name is mistyped looks the same
        try:
            return importlib.util.find_spec(where) is not None
        except (ImportError, ValueError):  # the module that runs now, for one, is not found so
            return False


def absolute(name: str) -> str:
    """Write the name of a function in a file so that it is found from any folder."""
    where, _, factory = name.rpartition(":")
    if not where.endswith(".py"):
        return name
    return f"{Path(where).expanduser().resolve()}:{factory}"


def describe(module: nn.Module, name: str, wanted: Wanted) -> Network:
    """Make a network of a module, with what the module itself says of its images and classes.

    Parameters
    ----------
    module : Module
        Changed: it is filled with the weights that are wanted, and set to `eval`.
    name : str
        What it is called.
    wanted : Wanted

    Raises
    ------
    UserError
        The weights do not fit, or it takes no images of that size.
    """
    module = plain(module).float().eval()
    source, sha, notes = "its own weights", "", list[str]()
    if wanted.weights == RANDOM:
        architecture.reset(module, wanted.seed)
        source = wanted.drawn
    elif wanted.weights is not None:
        notes += fill_from(module, wanted, name)
        source, sha = wanted.weights.name, sha256(wanted.weights)
    settings = getattr(module, "pretrained_cfg", None) or {}
    height, width = ([IMAGE_SIZE] * 2 + [*(settings.get("input_size") or ())])[-2:]
    size = wanted.image_size or size_of(height, width)
    names, more = describe_classes(module, name, size, wanted)
    notes += more
    if not settings.get("mean"):
        notes.append(f"{NORMALISATION}; {option('mean')} and {option('std')} say others")
    return Network(
        name=name,
        module=Answer(module),
        image_size=size,
        mean=tuple(settings.get("mean") or IMAGENET_MEAN),
        std=tuple(settings.get("std") or IMAGENET_STD),
        classes=names,
        weights_sha256=sha or digest(module.state_dict()),
        weights_source=source,
        link=said_by(module),
        notes=tuple(notes),
    )


def describe_classes(
    module: nn.Module, name: str, size: InputSize, wanted: Wanted
) -> tuple[tuple[str, ...], list[str]]:
    """Name a network's classes, none of a backbone, with what the user is told of the names."""
    n_classes = _n_classes(module, name, size)
    trained = wanted.weights != RANDOM
    head = architecture.head_rows(module, n_classes) if trained else None
    names, note = _names(module, n_classes, head)
    return names, [note] if note else []


def plain(module: nn.Module) -> nn.Module:
    """Return the network inside the wrappers of training: DataParallel and torch.compile."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod  # type: ignore[assignment]
        else:
            return module


def copied(module: nn.Module) -> nn.Module:
    """Copy a network, so that the one who holds it finds it as it was."""
    return copy.deepcopy(plain(module))


def _find(module: ModuleType, factory: str, name: str) -> Callable[[], Any]:
    found = getattr(module, factory, None)
    if found is None:
        known = [each for each, value in vars(module).items() if callable(value)]
        near = suggest(factory, known)
        where = name.rpartition(":")[0]
        raise UserError(f"{where} has no {factory!r}{': ' + near if near else ''}")
    if not callable(found):
        raise UserError(f"{name} is a {type(found).__name__}, not a function that makes a network")
    function: Callable[[], Any] = found
    return function


def _executed(file: Path) -> ModuleType:
    if not file.is_file():
        raise UserError(f"there is no file {file}: see {option('model')}")
    spec = importlib.util.spec_from_file_location(f"concordance_user_{file.stem}", file)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look there
    spec.loader.exec_module(module)
    return module


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let the user's code import what lies beside it, after all that is installed."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """Say whose code failed, with where it did; it may fail in any way."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        at = f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
        raise UserError(f"{name} failed{at}: {type(error).__name__}: {error}") from error


def _n_classes(module: nn.Module, name: str, size: InputSize) -> int:
    """Run a network on a blank image and count what it answers; 0 where these are features."""
    answer = answer_to(module, torch.zeros(1, 3, *sides(size)), name)
    if not _ends_linear(module) or answer.ndim > 2:
        return 0
    return answer.shape[1] if answer.ndim == 2 else 1


def _ends_linear(module: nn.Module) -> bool:
    """Say whether the last module with weights makes numbers of features, as classifiers do."""
    kinds = [
        type(part) for part in module.modules() if any(True for _ in part.parameters(recurse=False))
    ]
    return bool(kinds) and issubclass(kinds[-1], nn.Linear | nn.Conv2d)


def _names(
    module: nn.Module, n_classes: int, head: torch.Tensor | None
) -> tuple[tuple[str, ...], str]:
    """Name the classes as the module says, else by what is usual."""
    for key in ("class_names", "classes", "label_names"):
        given = getattr(module, key, None)
        if isinstance(given, list | tuple) and len(given) == n_classes:
            return tuple(map(str, given)), ""
    labels = getattr(getattr(module, "config", None), "id2label", None)
    if isinstance(labels, dict) and len(labels) == n_classes:
        return class_names.from_numbers(labels, "id2label"), ""
    return class_names.assumed(n_classes, head)
