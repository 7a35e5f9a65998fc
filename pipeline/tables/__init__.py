"""Tables: what a run found, as rows with explicit schemas."""

from .column import Column, Facts, Table
from .concept_classes import class_rows, with_head
from .concept_labels import best_labels, error_rows, label_rows, telling_labels
from .concept_levels import level_rows
from .concept_pairs import pair_rows
from .concept_tree import tree_rows
from .concepts import ConceptFacts, concept_rows
from .database import open_database
from .duplicates import duplicate_rows
from .images import ShardRows, shard_rows
from .schemas import TABLES, check_columns, describe, tables_with, to_arrow
from .suspects import suspect_rows
from .truth import truth_columns
from .verdicts import verdict_rows
from .views import view_statements
from .writer import TableWriter

__all__ = [
    "TABLES",
    "Column",
    "ConceptFacts",
    "Facts",
    "ShardRows",
    "Table",
    "TableWriter",
    "best_labels",
    "check_columns",
    "class_rows",
    "concept_rows",
    "describe",
    "duplicate_rows",
    "error_rows",
    "label_rows",
    "level_rows",
    "open_database",
    "pair_rows",
    "shard_rows",
    "suspect_rows",
    "tables_with",
    "telling_labels",
    "to_arrow",
    "tree_rows",
    "truth_columns",
    "verdict_rows",
    "view_statements",
    "with_head",
]
