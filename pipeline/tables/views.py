"""The tables as DuckDB views, and questions that are asked often as macros over them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from .column import FLAG, FLOAT, FLOAT32, INT, INT32, INTS, TEXT, TEXTS, VECTOR, Column
from .database import literal, parquet, text
from .schemas import TABLES

VIEWS = "views.sql"

_TYPES = {
    INT: "bigint",
    INT32: "integer",
    INTS: "integer[]",
    FLOAT: "double",
    FLOAT32: "float",
    VECTOR: "float[]",
    TEXT: "varchar",
    TEXTS: "varchar[]",
    FLAG: "boolean",
}
"""Types of columns as DuckDB calls them."""

_USAGE = """\
-- The tables of this run as views of DuckDB. Paths are relative to the folder of this file:
--   cd runs/<name>/tables && duckdb -init views.sql
-- The images that hold a concept, the strongest first:
--   from images_with(7, min_area := 0.1) limit 50;
"""

IMAGES_WITH = (
    "image_id, images.path, images.label, images.pred_label, images.pred_prob, held.max, held.mean,"
    " held.area, held.peak_x, held.peak_y, held.contribution, images.label_name, images.correct"
)
"""Columns of an image that holds a concept; each with its table, for plug-ins add others."""

_MACRO = f"""\
create or replace macro images_with(concept, min_area := 0.0) as table
  select {IMAGES_WITH}
  from image_concepts held join images using (image_id)
  where held.concept_id = concept and held.area > 0 and held.area >= min_area
  order by held.max desc, image_id;
"""


def view_statements(
    folder: Path | None = None,
    without: Collection[str] = (),
    lacking: Mapping[str, Sequence[Column]] | None = None,
) -> str:
    """Write the SQL that makes the views and macros.

    Parameters
    ----------
    folder : Path or None
        Where the tables lie; None: the folder in which DuckDB was started.
    without : collection of str
        Tables that are not there.
    lacking : mapping of str to sequence of Column, optional
        Columns that files of earlier versions lack, by table: they are null.
    """
    lines = []
    for name in (each for each in TABLES if each not in without):
        path = text(f"{name}.parquet") if folder is None else literal(folder / f"{name}.parquet")
        added = "".join(
            f", null::{_TYPES[each.type]} as {each.name}" for each in (lacking or {}).get(name, ())
        )
        lines.append(f"create or replace view {name} as select *{added} from {parquet(path)};\n")
    return "".join(lines) + _MACRO


def views_file() -> str:
    """Write the text of ``tables/views.sql``."""
    return _USAGE + view_statements()
