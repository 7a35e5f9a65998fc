"""Datasets of torchvision by their names: fetched by torchvision's own code, all of their splits.

``torchvision:EMNIST?split=letters`` gives arguments as addresses do.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any
from urllib.parse import parse_qsl

from PIL import Image

from ... import checkout
from ...errors import UserError, option, suggest
from ..layout import SPLITS
from ..limits import DecodeError
from .held_files import with_file
from .items import Entry, Item, Label, Part, Refused
from .labels import label_of, named
from .pixels import Pixels, contents_of, is_image, to_file
from .source import SpooledSource
from .store import Spool, find, folder_of, root, spool

KIND = "torchvision"

NOT_TO_GIVE = ("self", "root", "download", "loader", "transform", "target_transform", "transforms")
"""Arguments that are ours to give, or that are no words."""

OF_SPLITS = ("split", "image_set")
"""Arguments that choose a part of a dataset by a word."""

NO_SUCH = "?"
"""A split that there is not: what there are, the refusal says."""

OTHERS = ("VisionDataset", "DatasetFolder", "wrap_dataset_for_transforms_v2")
"""What torchvision has among its datasets and that is none."""


class TorchvisionRecipe:
    """See `pipeline.images.spooled.source.Recipe`."""

    def __init__(self, where: str) -> None:
        self.name, _, rest = where.partition("?")
        self.where = where
        self._words = dict(parse_qsl(rest, keep_blank_values=True))
        self._folder = folder_of(self.name, f"{KIND}:{self.where}", [])

    def known(self) -> Spool | None:
        """Find it."""
        return find(self._folder)

    def spool(self) -> Spool:
        """Fetch the dataset and spool all of it."""
        if (known := self.known()) is not None:
            return known
        arguments = self._arguments()
        parts = [
            Part(name=split or "images", items=partial(self._items, arguments | chosen, split))
            for split, chosen in self._splits(arguments)
        ]
        return spool(self._folder, self.name, f"{KIND}:{self.where}", parts)

    @cached_property
    def _class(self) -> Callable[..., Any]:
        """The class of that name."""
        from torchvision import datasets  # which takes long to load

        known = [each for each in datasets.__all__ if each not in OTHERS]
        if self.name not in known:
            near = suggest(self.name, known) or f"there are {', '.join(known)}"
            raise UserError(
                f"{option('dataset', f'{KIND}:{self.where}')}: torchvision has no dataset"
                f" {self.name!r}; {near}"
            )
        found: Callable[..., Any] = getattr(datasets, self.name)
        return found

    @cached_property
    def _takes(self) -> Mapping[str, inspect.Parameter]:
        """The arguments that the class takes, and those it hands to the class it is made from."""
        found: dict[str, inspect.Parameter] = {}
        for each in inspect.getmro(self._class):  # type: ignore[arg-type]
            if "__init__" not in vars(each):
                continue
            taken = inspect.signature(vars(each)["__init__"]).parameters
            plain = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            found = {name: one for name, one in taken.items() if one.kind not in plain} | found
            if all(one.kind != inspect.Parameter.VAR_KEYWORD for one in taken.values()):
                break
        return found

    def _arguments(self) -> dict[str, Any]:
        """The arguments that were given, and where files go."""
        takes = {name: one for name, one in self._takes.items() if name not in NOT_TO_GIVE}
        found: dict[str, Any] = {}
        for name, text in self._words.items():
            if name not in takes:
                near = suggest(name, takes) or f"it takes {', '.join(takes) or 'none'}"
                raise UserError(
                    f"{option('dataset', f'{KIND}:{self.where}')}: torchvision's {self.name} takes"
                    f" no {name!r}; {near}"
                )
            found[name] = self._value(name, text, takes[name].default)
        missing = [
            name
            for name, one in takes.items()
            if one.default is one.empty and name not in found and name not in OF_SPLITS
        ]
        if missing:
            raise UserError(
                f"torchvision's {self.name} needs {' and '.join(missing)}: give"
                f" {option('dataset', f'{KIND}:{self.name}?{missing[0]}=…')}"
            )
        if "root" in self._takes:
            found["root"] = str(checkout.folder("data") / KIND / self.name)
        return found

    def _value(self, name: str, text: str, default: Any) -> Any:
        """Return an argument as the class takes it: of the kind that it has without."""
        kind = type(default)
        try:
            if kind is bool:
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            if kind in (int, float):
                return kind(text)
            if kind is tuple:
                return tuple(int(each) for each in text.split(","))
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{option('dataset', f'{KIND}:{self.where}')}: {name} is like {default!r}, not"
                f" {text!r}"
            ) from error
        return text

    def _splits(self, arguments: Mapping[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
        """Return the splits of a dataset, and by which argument each is chosen."""
        if "train" in self._takes and "train" not in arguments:
            chooser = next((each for each in OF_SPLITS if each in self._takes), None)
            if chooser is not None and chooser not in arguments:
                raise UserError(self._several(chooser, self._valid(chooser, arguments)))
            return [("train", {"train": True}), ("test", {"train": False})]
        if "train" in arguments:
            return [("train" if arguments["train"] else "test", {})]
        chooser = next((each for each in OF_SPLITS if each in self._takes), None)
        if chooser is None:
            return [(None, {})]
        if chooser in arguments:
            return [(named(arguments[chooser]), {})]
        default = self._takes[chooser].default
        taken = choose_splits(self._valid(chooser, arguments), default)
        return [(named(each), {chooser: each}) for each in taken]

    def _valid(self, chooser: str, arguments: Mapping[str, Any]) -> list[str]:
        """Ask the class which splits there are: it says so where one is named that is none."""
        with tempfile.TemporaryDirectory() as empty:
            asked = {**arguments, chooser: NO_SUCH}
            try:
                self._class(**(asked | ({"root": empty} if "root" in asked else {})))
            except ValueError as error:
                said = re.search(r"[Vv]alid values are \W*\{(.*)\}", str(error))
                if said is not None:
                    return re.findall(r"'([^']+)'", said[1])
            except (RuntimeError, OSError, TypeError, ImportError):
                pass  # it looks for its files first: then what it is described by says it
        found = re.search(
            rf"{chooser} \(.*?\):(.*?)(\n\s+\w+ \(|$)", self._class.__doc__ or "", re.S
        )
        return re.findall(r"['\"]([\w+-]+)['\"]", found[1]) if found is not None else []

    def _several(self, chooser: str, valid: list[str]) -> str:
        some = f": {', '.join(valid)}" if valid else ""
        first = option("dataset", f"{KIND}:{self.name}?{chooser}={valid[0] if valid else '…'}")
        return f"torchvision's {self.name} has several datasets{some}; give one, as {first}"

    def _items(self, arguments: Mapping[str, Any], split: str | None) -> Iterator[Item | Refused]:
        """Make a part of the dataset, fetched where that can be done, and give its images."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # what commands print is our own
                dataset = self._made(arguments)
        except (RuntimeError, OSError, ValueError, TypeError, ImportError) as error:
            reason = str(error).partition("\n")[0].rstrip(". ")
            raise UserError(
                f"torchvision's {self.name} cannot be had ({type(error).__name__}: {reason}):"
                " see to that, or, where there is no network, copy what it fetches to"
                f" {arguments.get('root', root())}"
            ) from error
        names = _names_of(dataset)
        for index in range(len(dataset)):
            yield _item(dataset, index, names, split)

    def _made(self, arguments: Mapping[str, Any]) -> Any:
        """Make a part of the dataset of the files that are there; fetch them where they are not."""
        if "download" not in self._takes:
            return self._class(**arguments)
        try:
            return self._class(**arguments, download=False)
        except (RuntimeError, OSError):
            return self._class(**arguments, download=True)


def open_torchvision(where: str) -> SpooledSource:
    """Open a dataset of torchvision by its name."""
    return SpooledSource(TorchvisionRecipe(where))


def choose_splits(valid: list[str], default: Any) -> list[str]:
    """Choose splits that have no image in common, given what there is and what is taken by default.

    ``trainval`` is taken where there is no ``train``; ``all``, ``10fold`` and ``train+unlabeled``
    have images of others, and what has another name is asked for by it.
    """
    usual = [each for each in valid if each.lower() in SPLITS]
    if isinstance(default, str) and default in valid and "train" not in usual:
        usual = [default, *(each for each in usual if each != default)]
    return usual or ([default] if isinstance(default, str) else valid[:1])


def _names_of(dataset: Any) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple):
        return ()
    texts = [", ".join(each) if isinstance(each, tuple) else str(each) for each in names]
    return tuple(texts)


def _item(dataset: Any, index: int, names: tuple[str, ...], split: str | None) -> Item | Refused:
    at = f"image {index}"
    try:
        value = dataset[index]
    except (OSError, ValueError, SyntaxError) as error:  # as decoders of damaged files have them
        return Refused(at, f"it cannot be read: {error}")
    image, target = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if not is_image(image):
        return Refused(at, f"no image, but a {type(image).__name__}")
    label: Label = None if isinstance(target, Image.Image) else label_of(target, names)
    entry = with_file(Entry(at, image, label), dataset, index)
    try:
        contents = contents_of(entry.image)
    except DecodeError as error:
        return Refused(at, str(error))
    data = to_file(contents) if isinstance(contents, Pixels) else contents
    return Item(at, data, entry.name, label if isinstance(label, str) else None, split)
