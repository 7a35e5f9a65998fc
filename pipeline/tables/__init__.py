"""Tables: what a run found, as rows with explicit schemas."""

from pipeline.tables.concepts import class_rows, concept_rows, pair_rows, with_head
from pipeline.tables.database import open_database
from pipeline.tables.images import ShardRows, shard_rows
from pipeline.tables.labels import best_labels, error_rows, label_rows
from pipeline.tables.schemas import TABLES, describe, schema, to_arrow
from pipeline.tables.views import view_statements
from pipeline.tables.writer import TableWriter

__all__ = [
    "TABLES",
    "ShardRows",
    "TableWriter",
    "best_labels",
    "class_rows",
    "concept_rows",
    "describe",
    "error_rows",
    "label_rows",
    "open_database",
    "pair_rows",
    "schema",
    "shard_rows",
    "to_arrow",
    "view_statements",
    "with_head",
]
