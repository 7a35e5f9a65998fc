"""A table of images: CSV, TSV or Parquet with their paths and, if known, their labels."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError, option
from .folder import FolderSource, Labelled, escape, find_file, records
from .rows import read_rows, take
from .source import ImageRecord, Rejected
from .trouble import UNREADABLE, patiently

Row = tuple[str, str | None]
"""A path and a label."""

TABLES = (".csv", ".tsv", ".parquet")


class TableSource(FolderSource):
    """The image files that a table names, relative to its folder or absolute."""

    def __init__(self, table: Path) -> None:
        super().__init__(table.parent, table.stem)
        self._table = table

    def images(self) -> Iterator[ImageRecord | Rejected]:
        """Look up the files that the table names."""
        rejected, found = _look_up(self.root, _read_table(self._table))
        yield from rejected
        yield from records(found)


def open_table(where: str) -> TableSource:
    """Open a table of images.

    Raises
    ------
    UserError
        It is no table.
    """
    if Path(where).suffix.lower() not in TABLES:
        raise UserError(
            f"{option('dataset', where)} is neither a folder nor a table ({', '.join(TABLES)})"
        )
    return TableSource(Path(where))


def _look_up(root: Path, rows: Iterable[Row]) -> tuple[list[Rejected], Labelled]:
    """Find the files that a table names."""
    rejected: list[Rejected] = []
    found: Labelled = []
    for path, label in rows:
        try:
            status = patiently(path, find_file(root, path).stat)
        except OSError as error:
            found.append((path, label, error))
            continue
        except ValueError as error:  # no name of a file
            rejected.append(Rejected(escape(path), f"{UNREADABLE}: {error}"))
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((path, label, status))
        else:
            rejected.append(Rejected(escape(path), "not a regular file"))
    return rejected, found


def _read_table(where: Path) -> Iterable[Row]:
    """Read the rows of a table; those that are equal count once.

    An image has one label: which of two is meant, nobody here can know.
    """
    try:
        is_parquet = where.suffix.lower() == ".parquet"
        rows = dict[str, str | None]()
        for path, label in (_parquet_rows if is_parquet else _csv_rows)(where):
            if rows.setdefault(path, label) != label:
                raise UserError(
                    f"{where} gives {path} two labels, {rows[path]!r} and {label!r}; keep one"
                )
        return rows.items()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{option('dataset', where)} cannot be read as a table: {error}") from error


def _csv_rows(where: Path) -> Iterator[Row]:
    columns, rows = read_rows(where, "\t" if where.suffix.lower() == ".tsv" else ",")
    path, label = _columns(where, columns)
    for row in rows:
        yield row[path], row[label] or None if label is not None else None


def _parquet_rows(where: Path) -> Iterator[Row]:
    with pq.ParquetFile(where.absolute()) as file:
        schema = file.schema_arrow
        taken = [schema.field(each) for each in _columns(where, schema.names) if each is not None]
        for field in taken:
            if pa.types.is_nested(field.type):
                raise ValueError(f"its column {field.name!r} holds {field.type}, no texts")
        for batch in file.iter_batches(columns=[field.name for field in taken]):
            columns = [batch.column(field.name).to_pylist() for field in taken]
            for path, label in _pairs(columns):
                named = os.fsdecode(path) if isinstance(path, bytes) else path
                yield "" if _is_missing(named) else str(named), _label(label)


def _pairs(columns: list[list[Any]]) -> Iterator[tuple[Any, Any]]:
    paths, labels = columns if len(columns) == 2 else (columns[0], repeat(None, len(columns[0])))
    return zip(paths, labels, strict=True)


def _columns(where: Path, columns: Sequence[str]) -> tuple[int, int | None]:
    path = take(columns, "path")
    if path is None:
        raise UserError(f"{where} has no column 'path'; it has {', '.join(columns) or 'none'}")
    return path, take(columns, "label")


def _label(value: object) -> str | None:
    text = value.decode() if isinstance(value, bytes) else value
    return None if _is_missing(text) or text == "" else str(text)


def _is_missing(value: object) -> bool:
    return value is None or value != value  # as NaN alone is
