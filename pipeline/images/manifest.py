"""Rows of a table of images: paths, labels and splits, under the names people give them.

CSV with commas, semicolons or tabs, JSON Lines, Parquet. What looks like one image is one image
(``1.png``, ``./1.png``, its absolute path), what looks like one label one label (``cat``, ``cat ``,
and é however it is composed).
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from .labels import joined, labels_in
from .ranged import RemoteFile
from .rows import read_rows, take

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

PATHS = ("path", "file_name", "filename", "filepath", "file_path", "image_path", "file", "image")
LABELS = ("label", "labels", "class", "category", "class_name", "label_name", "target")
SPLITS = ("split", "subset", "fold")

BOTH = ", or write both in one cell: 'cat;dog'"

IN_ROWS = "; a Parquet file with images in its rows is read on this machine: fetch it first"

_WHOLE = re.compile(r"-?\d+[.,]0")

Row = tuple[str, tuple[str, ...], str | None]
"""A path, labels, a split."""

TableFile = Path | RemoteFile
"""A table, here or elsewhere."""

Normal = Callable[[str], str]
"""Gives a path within the dataset for what a table says."""


@dataclass(frozen=True)
class Manifest:
    """What a table says.

    Attributes
    ----------
    rows : tuple of Row
        Equal ones once.
    columns : dict of str to str
        What is taken for "path", "label" and "split".
    """

    rows: tuple[Row, ...]
    columns: Mapping[str, str]


def read_manifest(where: TableFile, normal: Normal) -> Manifest:
    """Read a table of images.

    Parameters
    ----------
    where : Path or RemoteFile
    normal : callable
        Gives an image's path within the dataset for what stands in the table; see `path_below`.

    Raises
    ------
    UserError
        It has no column of paths, or says two things of one image.
    OSError, ValueError, pyarrow.ArrowException
        It cannot be read, or is no table.
    """
    names, rows = _read(where)
    columns = _columns(where, names)
    found: dict[str, tuple[tuple[str, ...], str | None]] = {}
    paths, splits = (_texts(rows, names, columns.get(each)) for each in ("path", "split"))
    labels = _labels(rows, names, columns.get("label"))
    for path, those, split in zip(paths, labels, splits, strict=True):
        name = normal(path or "")
        said = (those, _plain(split))
        if found.setdefault(name, said) != said:
            texts = [(joined(each[0]), each[1]) for each in (found[name], said)]
            kind, at = ("labels", 0) if found[name][0] != those else ("splits", 1)
            raise UserError(
                f"{where} gives {name} two {kind}, {texts[0][at]!r} and {texts[1][at]!r}; keep"
                f" one{BOTH if kind == 'labels' else ''}"
            )
    return Manifest(tuple((name, *said) for name, said in found.items()), columns)


def path_below(root: Path, text: str) -> str:
    """Return a path as the dataset knows it: below the table's folder, without detours."""
    if not text.strip():
        return ""
    candidates = (text, text.strip(), text.strip().replace("\\", "/"))
    text = next((each for each in candidates if _is_there(root / each)), text.strip())
    if Path(text).is_absolute():
        inside = os.path.relpath(text, root.absolute())
        text = text if inside.startswith("..") else inside
    normal = os.path.normpath(text)
    return normal if _is_there(root / normal) else _as_composed(root, normal)


def _read(where: TableFile) -> tuple[list[str], list[Sequence[Any]]]:
    ending = where.suffix.lower()
    if ending == ".parquet":
        return _read_parquet(where)
    if ending in (".jsonl", ".ndjson"):
        return _read_json_lines(where)
    names, rows = read_rows(where, "\t" if ending == ".tsv" else None)
    return names, list(rows)


def _read_json_lines(where: TableFile) -> tuple[list[str], list[Sequence[Any]]]:
    objects: list[dict[str, Any]] = []
    with where.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                each = json.loads(line)
            except RecursionError as error:
                raise ValueError(f"line {number}: nested too deep") from error
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(each, dict):
                raise ValueError(f"line {number}: no object but {line.strip()[:40]}")
            objects.append(each)
    names = list(dict.fromkeys(name for each in objects for name in each))
    return names, [[each.get(name) for name in names] for each in objects]


def _read_parquet(where: TableFile) -> tuple[list[str], list[Sequence[Any]]]:
    with where.open("rb") as opened, pq.ParquetFile(opened) as file:
        schema = file.schema_arrow
        columns = _columns(where, schema.names)
        taken = [schema.field(name) for name in columns.values()]
        for field in taken:
            is_of_labels = field.name == columns.get("label") and _is_of_texts(field.type)
            if pa.types.is_nested(field.type) and not is_of_labels:
                raise ValueError(f"its column {field.name!r} holds {field.type}, no texts{IN_ROWS}")
        names = [field.name for field in taken]
        rows: list[Sequence[Any]] = []
        for batch in file.iter_batches(columns=names):
            rows += zip(*(batch.column(name).to_pylist() for name in names), strict=True)
        return names, rows


def _is_of_texts(of: pa.DataType) -> bool:
    is_list = pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of)
    return bool(is_list and not pa.types.is_nested(of.value_type))


def _columns(where: TableFile, names: Sequence[str]) -> dict[str, str]:
    """Find the columns of paths, labels and splits by their names."""
    found = {}
    for what, known in (("path", PATHS), ("label", LABELS), ("split", SPLITS)):
        for name in known:
            if (place := take([each.lower() for each in names], name)) is not None:
                found[what] = names[place]
                break
    if "path" not in found:
        raise UserError(
            f"{where} has no column 'path'; it has {', '.join(names) or 'none'}. A column of paths"
            f" is called {', '.join(PATHS)}"
        )
    return found


def _texts(
    rows: Iterable[Sequence[Any]], names: Sequence[str], column: str | None
) -> Iterator[str | None]:
    if column is None:
        yield from repeat(None, len(list(rows)))
        return
    place = list(names).index(column)
    for row in rows:
        value = row[place]
        if isinstance(value, bytes):
            if b"\0" in value:
                raise ValueError(
                    f"its column {column!r} holds contents of files, no texts{IN_ROWS}"
                )
            value = os.fsdecode(value)
        if isinstance(value, list | dict):
            raise ValueError(f"its column {column!r} holds {str(value)[:40]}, no text")
        yield str(value) if _is_known(value) else None


def _labels(
    rows: Sequence[Sequence[Any]], names: Sequence[str], column: str | None
) -> list[tuple[str, ...]]:
    """Return the labels of each row: a list's, or those of a text with `BETWEEN` between them."""
    if column is None:
        return [()] * len(rows)
    place = list(names).index(column)
    found = [
        tuple(map(str, filter(_is_known, row[place])))
        if isinstance(row[place], list)
        else labels_in(next(_texts([row], names, column)))
        for row in rows
    ]
    normal = [tuple(filter(None, dict.fromkeys(map(_plain, each)))) for each in found]
    return _whole_numbers(normal)


def _plain(text: str | None) -> str | None:
    return None if text is None else unicodedata.normalize("NFC", text.strip()) or None


def _whole_numbers(labels: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Undo what a gap does to whole numbers: 3 is written 3.0 (or 3,0) where another is missing."""
    known = {label for each in labels for label in each}
    if known and all(_WHOLE.fullmatch(label) for label in known):
        return [tuple(label[:-2] for label in each) for each in labels]
    return labels


def _as_composed(root: Path, path: str) -> str:
    """Return a path whose letters are composed as those of the file that is there, if any is."""
    for other in (unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
        if other != path and _is_there(root / other):
            return other
    return path


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:
        return False  # no name of a file


def _is_known(value: object) -> bool:
    return value is not None and value == value  # as NaN alone is not
