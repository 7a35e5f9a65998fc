"""The tables as DuckDB views, and questions that are asked often as macros over them."""

from __future__ import annotations

from pathlib import Path

from .schemas import TABLES

VIEWS = "views.sql"

_USAGE = """\
-- The tables of this run as views of DuckDB. Paths are relative to the folder of this file:
--   cd runs/<name>/tables && duckdb -init views.sql
-- The images that hold a concept, the strongest first:
--   from images_with(7, min_area := 0.1) limit 50;
"""

_IMAGES_WITH = """\
create or replace macro images_with(concept, min_area := 0.0) as table
  select image_id, path, label, pred_label, pred_prob, max, mean, area, peak_x, peak_y, contribution
  from image_concepts join images using (image_id)
  where concept_id = concept and area > 0 and area >= min_area
  order by max desc, image_id;
"""


def view_statements(folder: Path | None = None) -> str:
    """Write the SQL that makes the views and macros.

    Parameters
    ----------
    folder : Path or None
        Where the tables lie; None: the folder in which DuckDB was started.
    """
    lines = []
    for name in TABLES:
        path = f"{name}.parquet" if folder is None else str(folder / f"{name}.parquet")
        quoted = path.replace("'", "''")
        lines.append(f"create or replace view {name} as select * from read_parquet('{quoted}');\n")
    return "".join(lines) + _IMAGES_WITH


def views_file() -> str:
    """Write the text of ``tables/views.sql``."""
    return _USAGE + view_statements()
