"""Images in the rows of Parquet and Arrow files, few at a time however large their groups are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UserError
from ..contents import read_bytes
from ..limits import DecodeError
from ..trouble import GO_ON, patiently
from .columns import Columns, find_columns, first_value
from .items import PER_IMAGE, Item, Part, Refused
from .labels import label_of, named
from .shards import ARROW

AT_A_TIME = 16_000_000
"""Bytes of the rows that are read together, about."""

MOST_ROWS = 256

DAMAGE = (OSError, ValueError, pa.ArrowException)
"""What Arrow raises where a file is not as it should be, among other trouble."""

BUFFER = 1 << 20
"""Bytes of a file that are read ahead: without that, whole columns of a group would be."""


class Rows:
    """A Parquet file, or one of Arrow's, opened."""

    def __init__(self, path: Path, held: ExitStack) -> None:
        self.path = path
        self._file: Any
        self.n_rows: int | None = None
        if path.suffix.lower() in ARROW:
            mapped = held.enter_context(pa.memory_map(str(path.absolute())))
            self._file = _open_arrow(mapped)
            self.schema = self._file.schema
            return
        self._file = held.enter_context(
            pq.ParquetFile(path.absolute(), buffer_size=BUFFER, page_checksum_verification=True)
        )
        self.schema, self.n_rows = self._file.schema_arrow, self._file.metadata.num_rows

    def first_value(self, column: str) -> bytes | None:
        """Return the first value of a column of bytes."""
        if isinstance(self._file, pq.ParquetFile):
            return first_value(self._file, column)
        with opened(self.path) as again:
            for batch in again._arrow_batches():
                found = batch.column(column).drop_null()
                return bytes(found[0].as_py()) if len(found) else None
        return None

    def groups(self, columns: Columns) -> Iterator[tuple[int | None, Iterator[pa.RecordBatch]]]:
        """Yield groups of rows: how many there are, and batches of them."""
        if not isinstance(self._file, pq.ParquetFile):
            yield None, self._arrow_batches()
            return
        for index in range(self._file.num_row_groups):
            n = self._file.metadata.row_group(index).num_rows
            each = self.image_bytes(columns.image, index) // max(1, n)
            size = max(1, min(MOST_ROWS, AT_A_TIME // max(1, each)))
            yield (
                n,
                self._file.iter_batches(
                    size, row_groups=[index], columns=columns.names, use_threads=False
                ),
            )

    def image_bytes(self, column: str, group: int | None = None) -> int:
        """Return how many bytes a column has, unpacked; of an Arrow file, those of all."""
        if not isinstance(self._file, pq.ParquetFile):
            return self.path.stat().st_size
        about = self._file.metadata
        groups = range(about.num_row_groups) if group is None else [group]
        chunks = (about.row_group(g).column(c) for g in groups for c in range(about.num_columns))
        return sum(
            each.total_uncompressed_size
            for each in chunks
            if each.path_in_schema == column or each.path_in_schema.startswith(f"{column}.")
        )

    def _arrow_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches of an Arrow file, whose offsets nobody has looked at before."""
        is_stream = isinstance(self._file, pa.RecordBatchStreamReader)
        numbers = itertools.count() if is_stream else range(self._file.num_record_batches)
        for index in numbers:
            try:
                batch = self._file.read_next_batch() if is_stream else self._file.get_batch(index)
            except StopIteration:
                return
            batch.validate(full=True)
            yield batch


@contextmanager
def opened(path: Path) -> Iterator[Rows]:
    """Open a file.

    Raises
    ------
    UserError
        It is damaged, or cannot be read.
    """
    with ExitStack() as held:
        try:
            rows = Rows(path, held)
        except DAMAGE as error:
            raise _unreadable(path, error) from error
        yield rows


def make_part(name: str, path: Path, split: str | None) -> tuple[Part, Columns]:
    """Describe a file as a part of a dataset; what it holds is read when it is spooled."""
    with opened(path) as rows:
        try:
            columns = find_columns(path, rows.schema, rows.first_value)
            n_bytes = rows.image_bytes(columns.image)
        except DAMAGE as error:
            raise _unreadable(path, error) from error
        part = Part(
            name=name,
            items=partial(read_items, path, columns, split),
            n_images=rows.n_rows,
            n_bytes=n_bytes + PER_IMAGE * (rows.n_rows or 0),
        )
        return part, columns


def read_items(path: Path, columns: Columns, split: str | None) -> Iterator[Item | Refused]:
    """Read the images of a file, row by row; what is damaged is refused, the rest is read."""
    first = 0
    with opened(path) as rows:
        for n, batches in rows.groups(columns):
            row = first
            try:
                for batch in batches:
                    for at in range(len(batch)):
                        yield _item(path, columns, split, row, batch, at)
                        row += 1
            except DAMAGE as error:
                _check_is_damage(path, error)
                last = f" to {first + n - 1}" if n is not None else " on"
                yield Refused(f"row {row}{last}", f"the file is damaged: {_reason(error)}")
            first = row if n is None else first + n


def _item(
    path: Path, columns: Columns, split: str | None, row: int, batch: pa.RecordBatch, at: int
) -> Item | Refused:
    says = {name: batch.column(name)[at].as_py() for name in columns.names}
    where, value = f"row {row}", says[columns.image]
    name = None
    if isinstance(value, dict):
        name = value.get("path")
        value = value.get("bytes")
        if value is None and name:
            value = _beside(path, name)
    if value is None:
        return Refused(where, "there is no image")
    if isinstance(value, str):
        return Refused(where, value)
    if columns.split is not None and says[columns.split] is not None:
        split = named(str(says[columns.split]))
    label = label_of(says[columns.label], columns.classes) if columns.label is not None else None
    return Item(where, value, name if isinstance(name, str) else None, label, split)


def _beside(table: Path, name: str) -> bytes | str:
    """Read a file that a row names in place of its contents; return why, if that cannot be.

    It lies in the table's folder: a table that somebody made must not copy other files.
    """
    root = table.parent.resolve()
    try:
        file = (root / name).resolve()
        if not file.is_relative_to(root):
            return f"it is not in the file, but at {name}, outside its folder"
        return patiently(file, lambda: read_bytes(file))
    except (DecodeError, OSError) as error:
        return f"it is not in the file, but at {name}: {error}"
    except ValueError as error:  # no name of a file
        return f"it is not in the file, and {name!r} is no name of one: {error}"


def _unreadable(path: Path, error: Exception) -> UserError:
    kind = "Arrow" if path.suffix.lower() in ARROW else "Parquet"
    return UserError(
        f"{path} cannot be read as {kind}: {_reason(error)}; where it was fetched, fetch it again"
    )


def _check_is_damage(path: Path, error: Exception) -> None:
    """Raise what is no fault of the file: trouble with disk or memory, which may pass."""
    if isinstance(error, MemoryError):
        raise UserError(
            f"{path}: memory ran out while it was read; let other work end, then {GO_ON}"
        ) from error
    if isinstance(error, OSError) and error.errno is not None:
        raise UserError(f"{path} could not be read: {error}; see to it, then {GO_ON}") from error


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ") or type(error).__name__


def _open_arrow(mapped: Any) -> Any:
    """Open a file of Arrow's: a stream, as Hugging Face writes them, or one with an index."""
    try:
        return pa.ipc.open_file(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        return pa.ipc.open_stream(mapped)
