"""Files behind the pictures that datasets of torchvision and Hugging Face give, taken as they are.

Such a dataset decodes its files; written as pixels they would take several times the room. A file
is taken where the picture that was given is what it decodes to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..formats import FORMATS
from .items import Entry
from .pixels import file_of

LISTS = ("samples", "imgs", "_samples", "_image_files", "_images", "images")
"""Where datasets of torchvision keep the paths of their images, in their order."""


def undecoded(dataset: Any) -> Any:
    """Return a dataset of Hugging Face that gives files in place of pictures; others as they are.

    One that is told to transform its rows is left alone: that may need pictures.
    """
    features, form = getattr(dataset, "features", None), getattr(dataset, "format", None)
    if not isinstance(features, Mapping) or not hasattr(dataset, "cast_column"):
        return dataset
    if isinstance(form, Mapping) and form.get("type") is not None:
        return dataset
    for name, feature in features.items():
        if type(feature).__name__ == "Image" and getattr(feature, "decode", False):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return dataset


def with_file(entry: Entry, dataset: Any, index: int) -> Entry:
    """Return an image with its file in place of the picture, where that is the same."""
    if not isinstance(entry.image, Image.Image) or file_of(entry.image) is not None:
        return entry
    dataset, index = _of_subset(dataset, index)
    path = _path_of(dataset, index)
    if path is None or not _is_same(path, entry.image):
        return entry
    base = getattr(dataset, "root", None)
    name = path.name
    if isinstance(base, str | Path) and path.absolute().is_relative_to(Path(base).absolute()):
        name = os.path.relpath(path, base)
    return replace(entry, image=path, name=entry.name or name)


def _of_subset(dataset: Any, index: int) -> tuple[Any, int]:
    """Look through what takes some images of another dataset, as torch's random_split does."""
    while isinstance(getattr(dataset, "indices", None), Sequence) and hasattr(dataset, "dataset"):
        dataset, index = dataset.dataset, int(dataset.indices[index])
    return dataset, index


def _path_of(dataset: Any, index: int) -> Path | None:
    for name in LISTS:
        listed = getattr(dataset, name, None)
        if not isinstance(listed, list | tuple) or len(listed) != len(dataset):
            continue
        first = listed[index][0] if isinstance(listed[index], list | tuple) else listed[index]
        if isinstance(first, str | Path) and Path(first).is_file():
            return Path(first)
    return None


def _is_same(path: Path, picture: Image.Image) -> bool:
    """Say whether a picture is what a file decodes to."""
    try:
        with Image.open(path, formats=FORMATS) as found:
            if found.size != picture.size:
                return False
            return np.array_equal(np.asarray(found.convert(picture.mode)), np.asarray(picture))
    except Exception:  # of any kind, as decoders have them: the picture itself is taken then
        return False
