"""A table of images: CSV, TSV, JSON Lines or Parquet with their paths and, if known, labels.

Paths may be URLs: such an image is known by its URL without secrets, and fetched by what the table
says when it is read, so that a table of new signatures serves a run that was begun with old ones.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa

from ..errors import UserError, option
from . import elsewhere
from .ahead import FetchesAhead
from .folder import FolderSource, Labelled, records
from .manifest import ENDINGS, Manifest, Normal, Row, TableFile, path_below, read_manifest
from .names import escape, find_file
from .source import ImageRecord, Rejected, Remark
from .trouble import UNREADABLE, patiently
from .urls import host_of, is_url, local_path, speaking, why_not, without_secrets

NAMED = 4
"""Hosts that are named."""

SAME_PLACE = "without what lets one in, its URL is that of another image"

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


class TableSource(FetchesAhead, FolderSource):
    """The image files that a table names, relative to its folder, absolute, or by URLs."""

    def __init__(self, table: Path) -> None:
        super().__init__(table.parent, table.stem)
        self._table = table

    @property
    def where(self) -> str:
        """The table, absolute, where it has URLs: it says how to fetch them; else its folder."""
        return str(self._table.absolute() if self._urls else self.root)

    def labelled(self, labels: object) -> TableSource:
        """Return the same table: its labels are what it says."""
        return self

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """Look up the files that the table names; what lies elsewhere, when it is read."""
        said = read_table(self._table, partial(_path, self.root))
        rows, urls, rejected = parted(said.rows)
        yield from rejected
        refused, found = look_up(self.root, rows)
        yield from refused
        yield from remarks(said, urls)
        self._urls = {name: url for name, (url, *_) in urls.items()}
        yield from records(found + unseen(urls))

    def outside(self, images: Iterable[ImageRecord]) -> list[tuple[str, Path]]:
        """Return the images of this machine that lie outside the table's folder, and where."""
        return super().outside([each for each in images if not is_url(each.path)])

    def _is_elsewhere(self, image: ImageRecord) -> bool:
        return is_url(image.path)

    def _fetch(self, image: ImageRecord) -> bytes:
        """Read an image's file, or fetch it."""
        if is_url(image.path):
            return fetch(self._urls.get(image.path, image.path))
        return FolderSource.read(self, image)

    @cached_property
    def _urls(self) -> Mapping[str, str]:
        """URLs as the table has them by what their images are known by; none if it is gone."""
        if not self._table.is_file():
            return {}
        urls = parted(read_table(self._table, partial(_path, self.root)).rows)[1]
        return {name: url for name, (url, *_) in urls.items()}


Urls = dict[str, tuple[str, tuple[str, ...], str | None]]
"""URLs with labels and splits, by what their images are known by."""


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


def read_table(table: TableFile, normal: Normal) -> Manifest:
    """Read a table of images, and say it in a sentence where that is not possible."""
    try:
        return read_manifest(table, normal)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{option('dataset', table)} cannot be read as a table: {error}") from error


def parted(rows: Iterable[Row]) -> tuple[list[Row], Urls, list[Rejected]]:
    """Part rows into those of paths, those of URLs, and URLs that are refused."""
    paths: list[Row] = []
    urls: Urls = {}
    rejected: list[Rejected] = []
    for text, labels, split in rows:
        if not is_url(text):
            paths.append((text, labels, split))
            continue
        name = without_secrets(text)
        if (reason := why_not(text)) is not None:
            rejected.append(Rejected(escape(name), reason))
        elif urls.setdefault(name, (text, labels, split))[0] != text:
            rejected.append(Rejected(escape(name), SAME_PLACE))
    return paths, urls, rejected


def unseen(urls: Urls) -> Labelled:
    """Describe images of which nothing is asked before they are read."""
    return [
        (name, labels, split, elsewhere.Facts(0, 0)) for name, (_, labels, split) in urls.items()
    ]


def remarks(said: Manifest, urls: Urls) -> Iterator[Remark]:
    """Say which columns were taken and which hosts images are fetched from."""
    columns = said.columns.items()
    if taken := [f"{name!r} for {what}s" for what, name in columns if name != what]:
        yield Remark(f"its columns are taken: {', '.join(taken)}")
    hosts = sorted({host_of(url) for url in urls})
    for protocol in sorted({each.partition(":")[0] for each in hosts}):
        speaking(f"{protocol}://")
    if hosts:
        more = f" and {len(hosts) - NAMED:,} more hosts" if len(hosts) > NAMED else ""
        yield Remark(f"{len(urls):,} images are fetched from {', '.join(hosts[:NAMED])}{more}")


def fetch(url: str) -> bytes:
    """Fetch an image by its URL, which may be one that a run's files name: none of this machine."""
    if (reason := why_not(url)) is not None:
        raise ValueError(reason)
    return elsewhere.read(url)


def _path(root: Path, text: str) -> str:
    """Return what a table says as the dataset knows it; URLs as they are."""
    text = text.strip() if is_url(text.strip()) else text
    local = local_path(text)
    return text if is_url(text) and local is None else path_below(root, local or text)


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
