"""All tables of a run, with the columns that plug-ins add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .. import plugins
from ..errors import UserError
from ..store.encoding import Encoding
from ..system import checksums
from .column import VERSION, Column, Table
from .concept_classes import CONCEPT_CLASSES
from .concept_labels import CONCEPT_LABELS
from .concept_levels import CONCEPT_LEVELS
from .concept_pairs import CONCEPT_PAIRS
from .concept_tree import CONCEPT_TREE
from .concepts import CONCEPTS
from .duplicates import DUPLICATES
from .images import IMAGE_CONCEPTS, IMAGES, OBJECTS, REGIONS
from .measures import FIDELITY, K_METRICS, REJECTED
from .suspects import SUSPECTS

ROW_GROUP = 65_536
"""Rows of a Parquet row group. A reader that wants a few rows reads the footer, which grows with
the number of groups, and one group: at 20 million rows both are near half a megabyte here."""

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        IMAGES, CONCEPTS, CONCEPT_CLASSES, CONCEPT_LABELS, IMAGE_CONCEPTS, REGIONS, OBJECTS,
        CONCEPT_PAIRS, K_METRICS, FIDELITY, REJECTED, DUPLICATES, SUSPECTS, CONCEPT_TREE,
        CONCEPT_LEVELS,
    )
}  # fmt: skip


def tables_with(names: Sequence[str]) -> Mapping[str, Table]:
    """Return all tables, with the columns of plug-ins.

    Parameters
    ----------
    names : sequence of str
        Plug-ins of the group ``concordance.columns``.

    Raises
    ------
    UserError
        There is no such plug-in, or its column has no table or a name that is taken.
    """
    tables = dict(TABLES)
    for name in names:
        column: Column = plugins.load(plugins.COLUMNS, name)
        if column.table not in tables or column.of is None:
            raise UserError(
                f"the table column {name!r} is for {column.table or 'no table'!r}; there are"
                f" {', '.join(tables)}, and a column says what it is worked out from"
            )
        table = tables[column.table]
        if column.name in table.column_names:
            raise UserError(f"the table {table.name} has a column {column.name!r} already")
        tables[table.name] = replace(table, columns=(*table.columns, column))
    return tables


def check_columns(path: Path, table: Table) -> list[Column]:
    """Refuse a Parquet file that has not the columns of a table; it may have others besides.

    Returns
    -------
    list of Column
        Those that it lacks, being of an earlier version.

    Raises
    ------
    UserError
        It is another table, of a version that is not read, or its columns are of other types.
    """
    checksums.check_regular(path)
    try:
        found = pq.read_schema(path.absolute())
        says = {key.decode(): value.decode() for key, value in (found.metadata or {}).items()}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} is damaged ({error})") from error
    Encoding(f"concordance.{table.name}", VERSION).check(says, path)
    lacking = []
    for column in table.columns:
        if column.name not in found.names:
            if not column.is_later:
                raise UserError(f"{path} is damaged (it has no column {column.name})")
            lacking.append(column)
        elif found.field(column.name).type != column.type:
            raise UserError(
                f"{path} is damaged ({column.name} is {found.field(column.name).type}, not"
                f" {column.type})"
            )
    return lacking


def to_arrow(table: Table, frame: pd.DataFrame) -> pa.Table:
    """Bring a frame to a table's schema; NaN becomes null."""
    wanted = table.schema()
    columns = []
    for field in wanted:
        values = frame[field.name]
        if pa.types.is_list(field.type):
            lists = [each if pd.api.types.is_list_like(each) else None for each in values]
            columns.append(pa.array(lists, type=field.type))
        else:
            columns.append(pa.Array.from_pandas(values, type=field.type, safe=False))
    return pa.Table.from_arrays(columns, schema=wanted)


def describe() -> str:
    """Write all schemas as Markdown, the text of ``docs/TABLES.md``."""
    lines = [
        "# Tables",
        "",
        "Parquet files in `tables/` of a run, for DuckDB, pandas, polars, pyarrow and their like."
        " Columns may be added, not renamed. Each column's meaning and unit are in the metadata of"
        " its field, the table's name, version and order in that of the schema. Written by"
        " `make docs` from `pipeline/tables/`.",
        "",
        "`tables/views.sql` makes them views of DuckDB, with paths relative to its folder, and a"
        " macro beside them:",
        "",
        "```sh",
        "cd runs/pets/tables && duckdb -init views.sql",
        "```",
        "",
        "```sql",
        "from images_with(7, min_area := 0.1) limit 50;",
        "```",
        "",
        f"Rows are in the order given below, in row groups of {ROW_GROUP:,}. As `image_concepts` is"
        " ordered by concept and falling strength, the strongest images of a concept are read from"
        " one row group or two, however long the table:",
        "",
        "```sql",
        "select * from image_concepts where concept_id = 7 order by max desc limit 50;",
        "```",
    ]
    for name, table in TABLES.items():
        order = ", ".join(
            f"{key[1:]} (falling)" if key.startswith("-") else key for key in table.order
        )
        lines += ["", f"## {name}", "", f"A row is {table.row}. Ordered by {order}.", ""]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [
            f"| {each.name} | {each.type} | {each.unit} | {each.meaning} |"
            for each in table.columns
        ]
    return "\n".join(lines) + "\n"
