"""What a table is: its columns, each declared in one place, and the order of its rows.

A column says its name, type, meaning and unit, and what it is worked out from. A plug-in of the
group ``concordance.columns`` is a `Column` with its `table`; it is filled after the table's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa

from ..models.link import Link
from ..store import Bank, Classification

VERSION = "1.0"

INT, FLOAT, TEXT, FLAG = pa.int64(), pa.float64(), pa.string(), pa.bool_()
INT32, FLOAT32 = pa.int32(), pa.float32()
VECTOR = pa.list_(pa.field("element", pa.float32()))
TEXTS = pa.list_(pa.field("element", pa.string()))
INTS = pa.list_(pa.field("element", pa.int32()))


@dataclass(frozen=True)
class Facts:
    """What columns are worked out from.

    Attributes
    ----------
    bank : Bank
    head : Classification
        What the network's head says of the concepts.
    class_names : tuple of str
        The network's classes.
    class_of_label : mapping of str to int
        The network's class of each dataset label that has one.
    rows : DataFrame
        Rows of the table as far as they are known: for a plug-in all of the table's own columns.
        Long tables come piece by piece.
    link : {'softmax', 'sigmoid'}
        How logits become probabilities: see `pipeline.models.link`.
    """

    bank: Bank
    head: Classification
    class_names: tuple[str, ...]
    class_of_label: Mapping[str, int]
    rows: pd.DataFrame
    link: Link = field(default="softmax", kw_only=True)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    type : pyarrow.DataType
    meaning : str
    unit : str
        Empty for names, numbers of things and flags.
    of : callable, optional
        Takes `Facts`, or what the table has in their place, and gives a value per row. Where there
        is none, the function that gives the table's rows gives this column with them.
    table : str
        Of a plug-in: the table it belongs to.
    is_later : bool
        Whether tables of earlier versions are without it.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    of: Callable[[Any], Any] | None = None
    table: str = ""
    is_later: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name : str
    row : str
        What a row is.
    columns : tuple of Column
    order : tuple of str
        Columns by which its rows are ordered, in total; ``-`` means falling.
    is_later : bool
        Whether runs of earlier versions are without it: theirs is empty.
    """

    name: str
    row: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    is_later: bool = False

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    def schema(self) -> pa.Schema:
        """Return the Arrow schema, meanings and units in the fields' metadata."""
        fields = [
            pa.field(
                each.name, each.type, metadata={"description": each.meaning, "unit": each.unit}
            )
            for each in self.columns
        ]
        metadata = {
            "encoding-type": f"concordance.{self.name}",
            "encoding-version": VERSION,
            "row": self.row,
            "order": ", ".join(self.order),
        }
        return pa.schema(fields, metadata=metadata)


IMAGE_ID = Column("image_id", INT, "id derived from the image's path within the dataset")
CONCEPT_ID = Column("concept_id", INT32, "number of the concept, from 0, by energy")
BOX = (
    Column("x0", INT32, "left edge of the box, original pixels", "pixels"),
    Column("y0", INT32, "top edge of the box, original pixels", "pixels"),
    Column("x1", INT32, "right edge of the box, exclusive, original pixels", "pixels"),
    Column("y1", INT32, "bottom edge of the box, exclusive, original pixels", "pixels"),
    Column("area", FLOAT32, "share of the image", "share"),
)
