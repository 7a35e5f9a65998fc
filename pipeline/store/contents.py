"""What the HDF5 files of a run hold: each array with its type, its axes and its range.

A digest says that a file is as it was written, not by whom: whoever makes a run makes its digests.
So every file is compared with what is said here when it is opened, and whoever reads it need not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..images.limits import MAX_PIXELS
from ..images.look import N_BITS, SIDE
from . import chunks

MOST_COMPARED = 1 << 20
"""Bytes of an array up to which its values are looked at; of larger ones that would take long."""

MAY_BE_NONE = frozenset(
    (
        "n", "m", "g", "classes", "fine", "directions", "e", "labels", "kin", "levels", "mergers",
        "above",
    )
)  # fmt: skip
"""Axes that may be of length 0: images, rows of lists, groups, classes of a backbone, channels of
finer layers and directions of them, of concepts; labels, groups of images and their levels; mergers
of a single concept, and levels above few."""

_HASH = re.compile(rb"[0-9a-f]{%d}" % (N_BITS // 4))

Sizes = Mapping[str, int]
"""Lengths of axes that are known from elsewhere."""


@dataclass(frozen=True)
class Array:
    """A dataset.

    Attributes
    ----------
    types : str
        Names of its types, any of them; ``text`` is UTF-8 of a fixed width.
    axes : str
        A name for each axis: axes of one name are as long as each other throughout the file.
        ``g+1`` is one longer than ``g``, a number is a length, and ``_`` an axis of its own, known
        as ``aux/layer3 1``: the array's name and its place.
    least, most : float
        Its range.
    may_be_nan : bool
        Whether not every value is a finite number.
    optional : bool
        Whether there may be none: earlier versions, other networks, no auxiliary layers. One in a
        group is needed where the group is there.
    is_later : bool
        Whether it may be missing where its group is there: earlier versions.
    rule : callable, optional
        Says of the values whether they can be, beside all that.
    """

    types: str
    axes: str
    least: float = -math.inf
    most: float = math.inf
    may_be_nan: bool = False
    optional: bool = False
    is_later: bool = False
    rule: Callable[[NDArray[Any]], bool] | None = None


@dataclass(frozen=True)
class Contents:
    """What a kind of file holds.

    Attributes
    ----------
    arrays : mapping of str to Array
        By name; ``*`` at its end stands for any.
    attributes : mapping of str to str
        Kinds of numpy's types, or ``U`` for text, by name; ``?`` before it: there may be none.
    """

    arrays: Mapping[str, Array]
    attributes: Mapping[str, str] = field(default_factory=dict)


def _fits_an_image(size: NDArray[Any]) -> bool:
    return bool((size.astype(np.int64).prod(axis=1) <= MAX_PIXELS).all())


def _scales_up(affine: NDArray[Any]) -> bool:
    return bool((affine[:, :2] > 0).all())


def _differ(texts: NDArray[Any]) -> bool:
    return len(set(texts.tolist())) == len(texts) > 1


def _are_hashes(texts: NDArray[Any]) -> bool:
    return all(not each or _HASH.fullmatch(each) for each in texts.tolist())


def _claims(name: str) -> dict[str, Array]:
    share = Array("float64", "k", least=0, most=1, may_be_nan=True, optional=True)
    shares = {f"{name}/{part}": share for part in ("mass", "moved", "p", "agreed", "agreed_p", "q")}
    odds = Array("float64", "k", least=0, may_be_nan=True, optional=True, is_later=True)
    classes = Array("int32", "k _", least=-1, optional=True)
    return shares | {f"{name}/odds": odds, f"{name}/classes": classes}


_OF_IMAGES = {
    "image_id": Array("int64", "n"),
    "logits": Array("float32", "n classes", may_be_nan=True),
    "size": Array("int32", "n 2", least=1, rule=_fits_an_image),
    "affine": Array("float64", "n 4", rule=_scales_up),
    "content": Array("text", "n", optional=True),
    "seen": Array("text", "n", optional=True),
    "damage": Array("text", "n", optional=True),
    "note": Array("text", "n", optional=True),
    "look": Array("text", "n", optional=True, rule=_are_hashes),
    "thumbnail": Array("uint8", f"n {SIDE} {SIDE}", optional=True),
    "rejected_path": Array("text", "m"),
    "rejected_reason": Array("text", "m"),
}

_BY_CONCEPT = Array("float64", "k", may_be_nan=True)
_SURE = Array("float64", "k", least=0, most=1, may_be_nan=True, optional=True)
_SCORES = Array("float32", "k classes", may_be_nan=True)
_QUANTILES = Array("float32", "usual 101", least=0, may_be_nan=True)

CONTENTS: Mapping[str, Contents] = {
    "concordance.activations": Contents(
        {
            **_OF_IMAGES,
            "V": Array("float16 float32", "n h w channels"),
            "norm": Array("float32", "n", least=0, may_be_nan=True),
            "prefix": Array("float16 float32", "n tokens channels", optional=True),
            "aux/*": Array("float16 float32", "n _ _ _", optional=True),
        },
        {"layer": "U"},
    ),
    "concordance.heatmaps": Contents(
        {
            **_OF_IMAGES,
            "H": Array("float16", "n h w k"),
            "residual": Array("float16", "n h w", least=0, may_be_nan=True),
            "image_residual": Array("float32", "n", least=0, may_be_nan=True),
            "contribution": Array("float32", "n k", may_be_nan=True),
        },
        {"layer": "U", "k": "i"},
    ),
    "concordance.bank": Contents(
        {
            "W": Array("float32", "c k"),
            "context": Array("float32", "c k"),
            "thresholds": Array("float32", "k"),
            "threshold_reasons": Array("text", "k"),
            "energies": Array("float64", "k"),
            "stability": Array("float64", "k", may_be_nan=True),
            "reappears": _SURE,
            "reappears_low": _SURE,
            "reappears_high": _SURE,
            "reappears_with": Array("int64", "k 2", least=-1, optional=True),
            "transform_offset": Array("float32", "channels", optional=True),
            "prefix": Array("float32", "tokens channels", optional=True),
            "taken_nodes": Array("int64", "k", least=0, optional=True),
            "tree/pairs": Array("int64", "mergers 2", least=0, optional=True),
            "tree/losses": Array("float64", "mergers", least=0, most=1, optional=True),
            "tree/joined": Array("float32", "c mergers", optional=True),
            "tree/sizes": Array("int64", "levels", least=1, optional=True),
            "tree/errors": Array("float64", "levels", least=0, optional=True),
            "tree/heldout_errors": Array(
                "float64", "levels", least=0, most=1e6, may_be_nan=True, optional=True
            ),
            "tree/nodes": Array("int64", "members", least=0, optional=True),
            "tree/shares": Array(
                "float64", "members", least=0, most=1, may_be_nan=True, optional=True
            ),
            "tree/W": Array("float32", "c above", optional=True),
        },
        {
            "layer": "U", "seed": "i", "transform": "U", "error": "f", "heldout_error": "f",
            "svd_error": "f", "k_is_stable": "b", "exponent": "?i", "active": "?i",
        },
    ),
    "concordance.probe": Contents(
        {
            "weight": Array("float32", "classes channels"),
            "bias": Array("float32", "classes"),
            "labels": Array("text", "classes", rule=_differ),
        },
        {
            "layer": "U", "strength": "f", "accuracy": "f", "chance": "f", "n_fit": "i",
            "n_heldout": "i",
        },
    ),
    "concordance.classification": Contents(
        {
            "context": _SCORES,
            "direction": _SCORES,
            "nothing": Array("float32", "classes", may_be_nan=True),
            "z_context": _SCORES,
            "z_direction": _SCORES,
            "p": Array("float64", "k", least=0, most=1),
            "significant": Array("bool", "k"),
            "importance": _BY_CONCEPT,
            "sobol_total": _BY_CONCEPT,
            "deletion_effect": _BY_CONCEPT,
            "insertion_effect": _BY_CONCEPT,
            "usual_classes": Array("int64", "usual", least=-1),
            "usual_n": Array("int64", "usual", least=0),
            "usual_residual": _QUANTILES,
            "usual_peak": _QUANTILES,
            "inside": Array("float64", "k", least=0, most=1, may_be_nan=True, optional=True),
            **_claims("single"),
            **_claims("group"),
            "place_share": Array("float64", "k", least=0, most=1, may_be_nan=True, optional=True),
            "place": Array("text", "k", optional=True),
        },
        {"fidelity": "U"},
    ),
    "concordance.objects": Contents(
        {
            "groups": Array("text", "g"),
            "shares": Array("float32", "g+1 k", least=0, most=1),
            "gram": Array("float32", "k k"),
            "threshold": Array("float64", ""),
            "spread": Array("float64", "", least=0),
            "fine/weights": Array("float32", "fine", optional=True),
            "fine/offset": Array("float64", "", optional=True),
            "fine/threshold": Array("float64", "", optional=True),
            "fine/spread": Array("float64", "", least=0, optional=True),
            "finer/layer_mean": Array("float32", "fine", optional=True),
            "finer/layer_basis": Array("float32", "fine directions", optional=True),
            "finer/concept_mean": Array("float32", "k", optional=True),
            "finer/concept_basis": Array("float32", "k e", optional=True),
            "finer/weights": Array("float32", "t f", optional=True),
            "finer/offset": Array("float64", "", optional=True),
            "finer/own_rounds": Array("int64", "", least=0, most=100, optional=True),
            "finer/labels": Array("text", "labels", optional=True),
            "finer/centres": Array("float32", "kin k", optional=True),
            "finer/levels": Array("int64", "levels", least=0, optional=True),
            "winners/weights": Array("float32", "winners k"),
            "winners/offset": Array("float32", "k"),
        },
        {"layer": "U"},
    ),
}  # fmt: skip
"""By what files say that they are; docs/FORMAT.md says what it means."""


def check_contents(file: h5py.File, kind: str, sizes: Sizes) -> None:
    """Refuse a file that does not hold what its kind holds; values of small arrays are looked at.

    Parameters
    ----------
    file : File
    kind : str
        What it says that it is; of a kind without entry in `CONTENTS` nothing is known.
    sizes : mapping of str to int
        Lengths of axes that are known from elsewhere.

    Raises
    ------
    ValueError
        An array or attribute is missing, or of another type, shape or range.
    """
    if kind not in CONTENTS:
        return
    wanted = CONTENTS[kind]
    for name, type_ in wanted.attributes.items():
        _check_attribute(file, name, type_)
    known = dict(sizes)
    for name, array in wanted.arrays.items():
        for dataset in _datasets(file, name, array):
            _check_type(dataset, array)
            _check_shape(dataset, array, known)
            if dataset.nbytes <= MOST_COMPARED:
                _check_values(dataset, array)


def _check_attribute(file: h5py.File, name: str, wanted: str) -> None:
    if name not in file.attrs:
        if not wanted.startswith("?"):
            raise ValueError(f"it says no {name}")
        return
    value = file.attrs[name]
    if np.ndim(value) or np.asarray(value).dtype.kind != wanted[-1]:
        raise ValueError(f"its {name} is {str(value)[:40]!r}")


def _datasets(file: h5py.File, name: str, array: Array) -> Iterator[h5py.Dataset]:
    """Yield the datasets of a name; one that may be missing, or those of a group, are none."""
    group, _, last = name.rpartition("/")
    within = file.get(group) if group else file
    if within is None and array.optional:
        return
    if not isinstance(within, h5py.Group):
        raise ValueError(f"{group} is no group")
    if last == "*":
        found = _below(within)
    elif last in within:
        found = iter([within[last]])
    elif array.is_later or (array.optional and not group):
        return
    else:
        raise ValueError(f"{name} is missing")
    for node in found:
        if not isinstance(node, h5py.Dataset):
            raise ValueError(f"{name} is no array")
        yield node


def _below(group: h5py.Group) -> Iterator[h5py.Dataset]:
    for node in group.values():  # names of layers may have a slash
        yield from _below(node) if isinstance(node, h5py.Group) else [node]


def _check_type(dataset: h5py.Dataset, array: Array) -> None:
    text = h5py.check_string_dtype(dataset.dtype)
    if array.types == "text":
        fits = text is not None and text.length is not None
    else:
        fits = any(dataset.dtype == np.dtype(each) for each in array.types.split())
    if not fits:
        raise ValueError(f"{dataset.name[1:]} is {dataset.dtype}, not {array.types}")


def _check_shape(dataset: h5py.Dataset, array: Array, known: dict[str, int]) -> None:
    """Compare lengths of axes with those of the same name, or take note of them."""
    axes = array.axes.split()
    fits = dataset.shape is not None and len(dataset.shape) == len(axes)
    for place, (axis, length) in enumerate(zip(axes, dataset.shape or (), strict=False)):
        name, _, more = axis.partition("+")
        name = f"{dataset.name[1:]} {place}" if name == "_" else name
        wanted = int(name) if name.isdecimal() else known.setdefault(name, length - int(more or 0))
        fits &= length == wanted + int(more or 0) and (wanted > 0 or name in MAY_BE_NONE)
    if not fits:
        said = ", ".join(f"{axis}={known[axis]}" if axis in known else axis for axis in axes)
        raise ValueError(f"{dataset.name[1:]} is {dataset.shape}, not ({said})")


def _check_values(dataset: h5py.Dataset, array: Array) -> None:
    name, values = dataset.name[1:], chunks.read(dataset)
    if array.types == "text":
        for each in values.reshape(-1).tolist():
            each.decode()
        if array.rule is not None and not array.rule(values):
            raise ValueError(f"{name} holds what cannot be")
        return
    if not array.may_be_nan and not np.isfinite(values).all():
        raise ValueError(f"{name} holds what is no finite number")
    if (values < array.least).any() or (values > array.most).any():
        raise ValueError(
            f"{name} is from {values.min()} to {values.max()}, not {array.least} to {array.most}"
        )
    if array.rule is not None and not array.rule(values):
        raise ValueError(f"{name} holds what cannot be")
