"""A DuckDB database in memory that prints nothing."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb


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
    """
    return text(re.sub(r"([*?\[])", r"[\1]", str(path.absolute())))


def text(value: object) -> str:
    """Write a value as an SQL text."""
    return "'" + str(value).replace("'", "''") + "'"
