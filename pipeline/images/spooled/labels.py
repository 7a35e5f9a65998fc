"""What a value says of an image: its label or labels, by the names of classes; its split."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..layout import NEUTRAL, SPLITS
from .items import Label

OF_SHARDS = re.compile(r"(?P<word>[A-Za-z][\w+]*?)[-_.]\d+-of-\d+(\W.*)?")
"""How shards of a split are called, ``train-00000-of-00002``; a digest may follow."""

SAYS_NOTHING = NEUTRAL | {"part", "shard", "shards", "dataset", "default"}


def label_of(value: Any, names: Sequence[str] = ()) -> Label:
    """Return an image's label, or labels; None where there is none, or it is no class.

    Parameters
    ----------
    value : Any
        A text, a number, a tensor or array of one, or several in a list; missing ones and, of
        classes with names, numbers below 0 mean none.
    names : sequence of str
        Of the classes by number.
    """
    value = plain(value)
    if isinstance(value, list | tuple):
        found = [label_of(each, names) for each in value]
        if not all(isinstance(each, str) for each in found):
            return None
        texts = list(dict.fromkeys(str(each) for each in found))
        return texts[0] if len(texts) == 1 else texts or None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value.strip()) or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if not isinstance(value, int) or (names and value < 0):
        return None
    return names[value] if 0 <= value < len(names) else str(value)


def plain(value: Any) -> Any:
    """Return the number that an array or tensor without sides holds; anything else as it is."""
    if isinstance(value, np.generic) or (
        not isinstance(value, str | bytes) and getattr(value, "shape", None) in ((), (1,))
    ):
        return value.item()
    return value


def split_of(path: str) -> str | None:
    """Tell a split from what a file is called, or the nearest folder that says one."""
    *folders, name = path.split("/")
    stem = PurePosixPath(name).stem
    shard = OF_SHARDS.fullmatch(stem)
    if shard is not None and shard["word"].lower() not in SAYS_NOTHING:
        return named(shard["word"])
    for each in (re.split(r"[-_.]", stem)[0], *reversed(folders)):
        word = each.lower().removeprefix("partial-")
        if word in SPLITS:
            return SPLITS[word]
    return None


def named(split: str) -> str:
    """Return what a split is called here: ``validation`` is ``val``."""
    return SPLITS.get(split.lower(), split)


def class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of classes that a feature of Hugging Face has; none where it has none."""
    if isinstance(feature, list) and len(feature) == 1:
        return class_names(feature[0])
    if not isinstance(feature, Mapping):
        return ()
    if "feature" in feature:  # several in a row
        return class_names(feature["feature"])
    names = feature.get("names")
    if isinstance(names, Mapping) and all(str(key).isdecimal() for key in names):
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list):
        return ()
    return tuple(unicodedata.normalize("NFC", str(each).strip()) for each in names)
