"""A table of images: CSV, TSV or Parquet with their paths and, if known, their labels."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ..errors import UserError, option
from .folder import FolderSource, Labelled, escape, find_file, records
from .source import ImageRecord, Rejected
from .trouble import UNREADABLE, patiently

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


def _look_up(root: Path, rows: list[tuple[str, str | None]]) -> tuple[list[Rejected], Labelled]:
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


def _read_table(where: Path) -> list[tuple[str, str | None]]:
    try:
        if where.suffix.lower() == ".parquet":
            # Labels that are numbers stay whole beside missing ones.
            table = pd.read_parquet(where, dtype_backend="numpy_nullable")
        else:
            separator = "\t" if where.suffix.lower() == ".tsv" else ","
            table = pd.read_csv(where, sep=separator, dtype=str, keep_default_na=False)
        if "path" not in table:
            columns = ", ".join(map(str, table.columns)) or "none"
            raise UserError(f"{where} has no column 'path'; it has {columns}")
        return list(_rows(table))  # texts that are none are met here
    except (OSError, ValueError) as error:
        raise UserError(f"{option('dataset', where)} cannot be read as a table: {error}") from error


def _rows(table: pd.DataFrame) -> Iterator[tuple[str, str | None]]:
    labels = table["label"] if "label" in table else [None] * len(table)
    for path, label in zip(table["path"], labels, strict=True):
        is_missing = pd.isna(label) or label == ""
        yield str(path), None if is_missing else str(label)
