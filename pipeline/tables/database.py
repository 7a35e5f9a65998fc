"""A DuckDB database in memory that prints nothing."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from ..errors import UserError


def open_database(**config: str) -> duckdb.DuckDBPyConnection:
    """Open a database; `config` as for ``duckdb.connect``."""
    database = duckdb.connect(config=dict(config))
    # Long queries draw a bar on stdout; in Jupyter they do not, and may not be told so.
    (drawn,) = database.execute("select current_setting('enable_progress_bar')").fetchone() or (0,)
    if drawn:
        database.execute("set enable_progress_bar = false")
    return database


def literal(path: Path) -> str:
    """Write the path of a file as DuckDB's readers take it: that file and no other.

    They expand ``*``, ``?`` and brackets, at a beginning ``~``, and take ``name:`` for a scheme.

    Raises
    ------
    UserError
        It has a backslash besides, which parts folders in what they expand: it cannot be written.
    """
    whole = str(path.absolute())
    escaped = re.sub(r"([*?\[])", r"[\1]", whole)
    if escaped != whole and "\\" in whole:
        raise UserError(f"{whole} has a backslash and one of * ? [, which DuckDB cannot read")
    return text(escaped)


def parquet(*paths: str) -> str:
    """Write how DuckDB reads Parquet files: columns are theirs, whatever their folders are called.

    Parameters
    ----------
    *paths : str
        As `literal` or `text` write them.
    """
    return f"read_parquet([{', '.join(paths)}], hive_partitioning = false)"


def text(value: object) -> str:
    """Write a value as an SQL text."""
    return "'" + str(value).replace("'", "''") + "'"
