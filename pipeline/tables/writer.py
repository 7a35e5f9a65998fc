"""Tables written from rows that come in pieces: put aside on disk, then sorted there.

A million images have tens of millions of rows. They never meet in memory: pieces are brought to
the schema and put aside, and DuckDB sorts what came within a fixed memory. The order of every
table is total, so a file depends on its rows alone, not on how they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from ..system import files
from .column import Facts, Table
from .database import literal, open_database, parquet, text
from .schemas import ROW_GROUP, TABLES, to_arrow
from .views import VIEWS, views_file

SORT_MEMORY = "256MB"

PIECE = ROW_GROUP
"""Rows of a table that wait in memory, some 3 to 5 MB, before they are put aside."""


class TableWriter:
    """Takes rows of any table in any order, and writes all tables in the end.

    Parameters
    ----------
    folder : Path
        Where the tables go, as ``<name>.parquet``, with ``views.sql`` beside them.
    scratch : Path
        An empty folder for what waits; its owner removes it.
    tables : mapping of str to Table, optional
        Our own, with columns of plug-ins; see `pipeline.tables.tables_with`.
    facts : Facts, optional
        What columns of plug-ins are worked out from.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        tables: Mapping[str, Table] = TABLES,
        facts: Facts | None = None,
    ) -> None:
        self._folder, self._scratch = folder, scratch
        self._tables, self._facts = tables, facts
        self._waiting: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
        self._pieces: dict[str, list[Path]] = {name: [] for name in TABLES}

    def add(self, name: str, rows: pd.DataFrame) -> None:
        """Take rows of a table; columns as its schema names them, but for those of plug-ins."""
        waiting = self._waiting[name]
        waiting.append(to_arrow(self._tables[name], self._filled(name, rows)))
        if sum(map(len, waiting)) >= PIECE:
            self._put_aside(name)

    def finish(self) -> dict[str, int]:
        """Sort and publish every table, empty ones too.

        Returns
        -------
        dict
            Rows by table.
        """
        with open_database(memory_limit=SORT_MEMORY) as database:
            database.execute(f"set temp_directory = {text(self._scratch)}")
            counts = {name: self._publish(database, name) for name in TABLES}
        files.write_text(self._folder / VIEWS, views_file())
        return counts

    def _filled(self, name: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Add the columns of plug-ins to rows."""
        added = self._tables[name].columns[len(TABLES[name].columns) :]
        if not added or self._facts is None:
            return rows
        # Of the table's own types, whatever the rows came as.
        facts = replace(self._facts, rows=to_arrow(TABLES[name], rows).to_pandas())
        return rows.assign(**{each.name: each.of(facts) for each in added if each.of is not None})

    def _put_aside(self, name: str) -> None:
        path = self._scratch / f"{name}-{len(self._pieces[name])}.parquet"
        files.write_parquet(path, pa.concat_tables(self._waiting[name], promote_options="none"))
        self._pieces[name].append(path)
        self._waiting[name] = []

    def _publish(self, database: duckdb.DuckDBPyConnection, name: str) -> int:
        if not self._pieces[name] and not self._waiting[name]:
            self._waiting[name] = [self._tables[name].schema().empty_table()]
        if self._waiting[name]:
            self._put_aside(name)
        pieces = parquet(*map(literal, self._pieces[name]))
        order = ", ".join(_order_term(key) for key in self._tables[name].order)
        query = f"select * from {pieces} order by {order}"
        groups = _Groups(
            database.sql(query).to_arrow_reader(ROW_GROUP), self._tables[name].schema()
        )
        files.write_parquet_groups(self._folder / f"{name}.parquet", groups.schema, groups)
        return groups.n_rows


class _Groups:
    """Batches as tables of a schema and of `ROW_GROUP` rows, the last of fewer; counted."""

    def __init__(self, batches: pa.RecordBatchReader, wanted: pa.Schema) -> None:
        self.schema, self.n_rows, self._batches = wanted, 0, batches

    def __iter__(self) -> Iterator[pa.Table]:
        held = self.schema.empty_table()
        for batch in self._batches:
            self.n_rows += len(batch)
            held = pa.concat_tables([held, pa.Table.from_batches([batch]).cast(self.schema)])
            while len(held) >= ROW_GROUP:
                yield held[:ROW_GROUP]
                held = held[ROW_GROUP:]
        yield held


def _order_term(key: str) -> str:
    """Turn ``-max`` into ``"max" desc``; nulls stand first either way."""
    name, falling = key.removeprefix("-"), key.startswith("-")
    return f'"{name}" {"desc" if falling else "asc"} nulls first'
