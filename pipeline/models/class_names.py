"""What a network's classes are called: by those who trained it, a file, or ImageNet's habit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, option
from . import imagenet_head

ABOUT = "the names of the classes are"
"""How what the user is told of them begins."""

ASSUMED = f"{ABOUT} assumed to be"

MOST_BYTES = 50_000_000
"""Larger files are no names: a million classes of fifty letters."""


def imagenet() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, as torchvision has them."""
    from torchvision.models import ResNet18_Weights  # takes a second and more

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def assumed(n_classes: int, head: torch.Tensor | None = None) -> tuple[tuple[str, ...], str]:
    """Name classes of which nothing is known but how many there are.

    Parameters
    ----------
    n_classes : int
    head : Tensor (n_classes, channels), optional
        Weights of the last layer, where they are trained: they show whether 1,000 classes are
        ImageNet's.

    Returns
    -------
    names : tuple of str
        ImageNet's where there are 1,000 and nothing speaks against it, else numbers.
    note : str
        What the user is told of it; empty for other numbers of classes.
    """
    numbers = tuple(f"class {index}" for index in range(n_classes))
    if n_classes != len(imagenet()):
        return numbers, ""
    found = None if head is None else imagenet_head.likeness(head)
    if found is None or imagenet_head.NO <= found < imagenet_head.YES:
        others = f"{option('class_names')} takes a file of others"
        return imagenet(), f"{ASSUMED} ImageNet's; {others}"
    if found < imagenet_head.NO:
        return numbers, (
            f"{ABOUT} not known: they are 1,000, and not ImageNet's, for what looks alike there is"
            f" not alike in the last layer; {option('class_names')} takes a file of them"
        )
    return imagenet(), (
        f"{ABOUT} ImageNet's, as the last layer shows: what looks alike there is alike in it"
    )


def read(path: Path) -> tuple[str, ...]:
    """Read the names of all classes in the order of the logits.

    Parameters
    ----------
    path : Path
        Text, a name in each line; or JSON: a list of names, or an object from number to name, as
        ``id2label`` in a ``config.json`` of Hugging Face.

    Raises
    ------
    UserError
        It cannot be read, or names are missing, empty or no text.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is too large to be a list of class names")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise UserError(f"class names {path} cannot be read: {error.strerror}") from error
    if path.suffix.lower() == ".json":
        return _from_json(text, path)
    names = text.splitlines()
    return _checked(names, path)


def from_numbers(names: dict[Any, Any], what: object) -> tuple[str, ...]:
    """Return the names of an object from number to name, in the order of the numbers."""
    try:
        numbered = {int(number): name for number, name in names.items()}
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} has names of something else than numbered classes") from error
    missing = next((each for each in range(len(numbered)) if each not in numbered), None)
    if missing is not None:
        raise UserError(f"{what} has {len(numbered)} names, and none for class {missing}")
    return _checked([numbered[each] for each in range(len(numbered))], what)


def _from_json(text: str, path: Path) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if isinstance(found, dict) and isinstance(found.get("id2label"), dict):
        found = found["id2label"]
    if isinstance(found, dict):
        return from_numbers(found, path)
    if not isinstance(found, list):
        raise UserError(f"{path} holds neither a list of names nor an object from number to name")
    return _checked(found, path)


def _checked(names: list[Any], what: object) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{what} has no name for class {index}, but {name!r}")
    if not names:
        raise UserError(f"{what} holds no class names")
    return tuple(name.strip() for name in names)
