"""A table of images: CSV, TSV, JSON Lines or Parquet with their paths and, if known, labels."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from ..errors import UserError, option
from .folder import FolderSource, Labelled, records
from .manifest import ENDINGS, Row, read_manifest
from .names import escape, find_file
from .source import ImageRecord, Rejected, Remark
from .trouble import UNREADABLE, patiently


class TableSource(FolderSource):
    """The image files that a table names, relative to its folder or absolute."""

    def __init__(self, table: Path) -> None:
        super().__init__(table.parent, table.stem)
        self._table = table

    def labelled(self, labels: object) -> TableSource:
        """Return the same table: its labels are what it says."""
        return self

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """Look up the files that the table names."""
        try:
            said = read_manifest(self._table)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(
                f"{option('dataset', self._table)} cannot be read as a table: {error}"
            ) from error
        rejected, found = look_up(self.root, said.rows)
        yield from rejected
        if taken := [
            f"{name!r} for {what}s" for what, name in said.columns.items() if name != what
        ]:
            yield Remark(f"its columns are taken: {', '.join(taken)}")
        yield from records(found)


def open_table(where: str) -> TableSource:
    """Open a table of images.

    Raises
    ------
    UserError
        It is no table.
    """
    if Path(where).suffix.lower() not in ENDINGS:
        raise UserError(
            f"{option('dataset', where)} is neither a folder nor a table ({', '.join(ENDINGS)})"
        )
    return TableSource(Path(where))


def look_up(root: Path, rows: Iterable[Row]) -> tuple[list[Rejected], Labelled]:
    """Find the files that are named below a folder; those that cannot be opened are found too."""
    rejected: list[Rejected] = []
    found: Labelled = []
    for path, labels, split in rows:
        try:
            status = patiently(path, find_file(root, path).stat)
        except OSError as error:
            found.append((path, labels, split, error))
            continue
        except ValueError as error:  # no name of a file
            rejected.append(Rejected(escape(path), f"{UNREADABLE}: {error}"))
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((path, labels, split, status))
        else:
            rejected.append(Rejected(escape(path), "not a regular file"))
    return rejected, found
