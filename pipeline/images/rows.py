"""Rows of a CSV table that somebody wrote, none of their values under another column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from .ranged import RemoteFile

MOST_OF_A_LINE = 1_000_000
"""Characters of the first line that its separator is told from."""


def read_rows(
    where: Path | RemoteFile, separator: str | None = ","
) -> tuple[list[str], Iterator[list[str]]]:
    """Read a table of texts.

    pandas takes what a row has more than its header for an index, and moves the others: paths would
    be labels. Here such a row is an error, but for empty values, which spreadsheets leave at ends.

    Parameters
    ----------
    where : Path or RemoteFile
        UTF-8, with or without its mark.
    separator : str or None
        None: semicolon or tab where the first line has these and no comma, as spreadsheets write
        where the comma is the decimal point; else comma.

    Returns
    -------
    columns : list of str
        Without spaces around them.
    rows : iterator of list of str
        As long as `columns`; what a row lacks is empty.

    Raises
    ------
    OSError, ValueError
        It cannot be read, or is no table; while rows are read, too.
    """
    if not where.is_file():
        where.stat()
        raise ValueError("it is no regular file")
    rows = _read(where, separator or _separator(where))
    columns = [name.strip() for name in next(rows, [])]
    if not columns:
        raise ValueError("it is empty")
    return columns, (_fit(row, len(columns)) for row in rows)


def take(columns: Sequence[str], name: str) -> int | None:
    """Return where a column is, or None where there is none.

    Raises
    ------
    ValueError
        There are two.
    """
    if columns.count(name) > 1:
        raise ValueError(f"it has {columns.count(name)} columns {name!r}")
    return columns.index(name) if name in columns else None


def _separator(where: Path | RemoteFile) -> str:
    with where.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline(MOST_OF_A_LINE)
    return next((each for each in ";\t" if each in first and "," not in first), ",")


def _read(where: Path | RemoteFile, separator: str) -> Iterator[list[str]]:
    with where.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        try:
            yield from filter(None, reader)
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error


def _fit(row: list[str], width: int) -> list[str]:
    if any(row[width:]):
        raise ValueError(f"a row of {len(row)} values in {width} columns: {', '.join(row)[:100]}")
    return row[:width] + [""] * (width - len(row))
