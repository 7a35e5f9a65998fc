"""Which columns of a Parquet or Arrow file hold images, labels and splits: by their types, by what
Hugging Face says of them, by their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UserError
from ..manifest import LABELS, SPLITS
from .items import ending_of
from .labels import class_names

IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
"""What a column of images is called where there are several."""

ALL_LABELS = (*LABELS, "labels", "fine_label", "cls", "class_id", "categories")

SEEN_FIRST = 64
"""Rows that are looked at for a value."""

Peek = Callable[[str], bytes | None]
"""Gives the first value of a column of bytes."""


@dataclass(frozen=True)
class Columns:
    """What is taken of a file.

    Attributes
    ----------
    image : str
    label, split : str or None
    classes : tuple of str
        Names of labels that are numbers.
    others : tuple of str
        Further columns of images or labels, which are not.
    """

    image: str
    label: str | None
    split: str | None
    classes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All that are read."""
        return [each for each in (self.image, self.label, self.split) if each is not None]


def find_columns(where: object, schema: pa.Schema, peek: Peek) -> Columns:
    """Find the columns of images, labels and splits.

    Raises
    ------
    UserError
        There is none of images, or it is not clear which.
    """
    one, several = candidates(schema, peek)
    if not one and several:
        raise UserError(
            f"{where}: its column {several[0]!r} holds several images in a row; write a row for"
            " each of them"
        )
    if not one:
        raise UserError(
            f"{where} has no column of images, as bytes or as Hugging Face writes them; it has"
            f" {', '.join(schema.names) or 'none'}"
        )
    image = one[0] if len(one) == 1 else _by_name(one, IMAGES)
    if image is None:
        raise UserError(
            f"{where} has several columns of images, {' and '.join(map(repr, one))}: call the one"
            " to take 'image', or leave the others out"
        )
    features = features_of(schema)
    classed = [each for each in schema.names if class_names(features.get(each))]
    label = _by_name(schema.names, ALL_LABELS) or (classed[0] if classed else None)
    if label is not None and pa.types.is_struct(schema.field(label).type):
        label = None
    others = [each for each in (*one, *classed) if each not in (image, label)]
    return Columns(
        image=image,
        label=label,
        split=_by_name(schema.names, SPLITS),
        classes=class_names(features.get(label)) if label is not None else (),
        others=tuple(others),
    )


def candidates(schema: pa.Schema, peek: Peek) -> tuple[list[str], list[str]]:
    """Return the columns that hold an image in a row, and those that hold several."""
    features = features_of(schema)
    one, several = [], []
    for field in schema:
        said = features.get(field.name)
        kind = said.get("_type") if isinstance(said, Mapping) else None
        is_of_images = kind in (None, "Image")  # sounds are stored alike
        if schema.names.count(field.name) > 1 or not (is_of_images or _is_list(field.type)):
            continue
        if _is_file(field.type):
            one.append(field.name)
        elif _is_bytes(field.type):
            first = b"" if kind == "Image" else peek(field.name)
            if kind == "Image" or (first is not None and ending_of(first) is not None):
                one.append(field.name)
        elif _is_list(field.type) and _is_file(field.type.value_type):
            several.append(field.name)
    return one, several


def features_of(schema: pa.Schema) -> Mapping[str, Any]:
    """Return what Hugging Face says of the columns; nothing where it says nothing."""
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, Mapping) else {}


def first_value(file: pq.ParquetFile, column: str) -> bytes | None:
    """Return the first value of a column of bytes, if one of the first rows has any."""
    for group in range(min(file.num_row_groups, SEEN_FIRST)):
        rows = file.iter_batches(1, row_groups=[group], columns=[column], use_threads=False)
        for _, batch in zip(range(SEEN_FIRST), rows, strict=False):
            value = batch.column(0)[0].as_py()
            if value is not None:
                return bytes(value)
    return None


def _by_name(columns: Sequence[str], known: Sequence[str]) -> str | None:
    lowered = {each.lower(): each for each in reversed(columns)}
    return next((lowered[name] for name in known if name in lowered), None)


def _is_file(kind: pa.DataType) -> bool:
    """Say whether values are files as Hugging Face stores them: bytes, a path, or both."""
    if not pa.types.is_struct(kind):
        return False
    at = kind.get_field_index("bytes")
    return at >= 0 and (_is_bytes(kind.field(at).type) or pa.types.is_null(kind.field(at).type))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
