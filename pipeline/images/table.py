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

BROUGHT = dict.fromkeys((".xlsx", ".xls", ".ods"), "save the table as CSV") | {
    ".h5": "give its array in Python, discover(dataset=file['images']), or save it as .npy",
    ".hdf5": "give its array in Python, discover(dataset=file['images']), or save it as .npy",
    ".mat": "read it in Python (scipy.io.loadmat) and give the array, discover(dataset=images)",
    ".tfrecord": "give its images in Python one by one, discover(dataset=iterable), or save them as"
    " files",
    ".lmdb": "give its images in Python one by one, discover(dataset=iterable), or save them as"
    " files",
    ".mdb": "give its images in Python one by one, discover(dataset=iterable), or save them as"
    " files",
    ".gz": "unpack it first: gunzip, tar -xzf",
    ".tgz": "unpack it first: tar -xzf",
    ".7z": "unpack it first",
    ".rar": "unpack it first",
    ".pkl": "it may hold code and is not read: save its array as .npy",
    ".pt": "load it in Python and give the tensor, discover(dataset=images)",
    ".pdf": "save its pictures as images",
}
"""How what is no dataset by itself is brought, by its ending."""


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
        rejected, found = _look_up(self.root, said.rows)
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
    ending = Path(where).suffix.lower()
    if ending in BROUGHT:
        raise UserError(f"{option('dataset', where)} is not read as it is: {BROUGHT[ending]}")
    if ending not in ENDINGS:
        raise UserError(
            f"{option('dataset', where)} is neither a folder nor a table ({', '.join(ENDINGS)})"
        )
    return TableSource(Path(where))


def _look_up(root: Path, rows: Iterable[Row]) -> tuple[list[Rejected], Labelled]:
    """Find the files that a table names."""
    rejected: list[Rejected] = []
    found: Labelled = []
    for path, label, split in rows:
        try:
            status = patiently(path, find_file(root, path).stat)
        except OSError as error:
            found.append((path, label, split, error))
            continue
        except ValueError as error:  # no name of a file
            rejected.append(Rejected(escape(path), f"{UNREADABLE}: {error}"))
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((path, label, split, status))
        else:
            rejected.append(Rejected(escape(path), "not a regular file"))
    return rejected, found
