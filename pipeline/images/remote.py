"""Images that lie elsewhere: in a folder of a bucket or web server, named by wildcards or a table.

What their folders and names mean is what it means on this machine; see `folder`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Literal
from urllib.parse import quote, unquote

from ..errors import UserError, option
from . import elsewhere, patterns
from .ahead import FetchesAhead, at_once
from .endings import SUFFIXES
from .folder import Labelled, listed, placed, records, said_beside
from .labels_file import FILES, Said, read_labels
from .layout import Labels
from .limits import DecodeError
from .manifest import ENDINGS, Row
from .passed_over import is_beside
from .ranged import RemoteFile
from .source import DatasetSource, ImageRecord, Rejected, Remark
from .table import Urls, fetch, parted, read_table, remarks, unseen
from .urls import (
    OF_HTTP,
    check_dataset,
    ending_of,
    has_wildcards,
    is_url,
    joined,
    local_path,
    name_of,
    protocol_of,
)
from .walk import OF_A_RUN, Below, sort_names

NO_LIST = (
    "a web server need not list its folders, and this one lists no images; name them in a table"
    " with a column of paths (https://…/list.csv), or put them into archives (.tar, .zip)"
)

OF_THIS_MACHINE = "a table from elsewhere names no files of this machine; paths are relative to it"


class RemoteFolder(FetchesAhead):
    """Image files below a folder elsewhere; see `pipeline.images.source.DatasetSource`."""

    def __init__(self, url: str, labels: Labels | Literal["file"] = "auto") -> None:
        self.where = url
        self._base = url.rstrip("/")
        self._labels = labels
        self._is_of_web = protocol_of(url) in OF_HTTP

    @property
    def name(self) -> str:
        """The folder's name."""
        return unquote(name_of(self._base))

    def labelled(self, labels: Labels | Literal["file"]) -> DatasetSource:
        """Return the same folder, its images labelled in another way."""
        return type(self)(self.where, labels)

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """List the image files below the folder; their folders, or a file, say their labels."""
        below = self._below()
        if self._is_of_web and not below.files:
            raise UserError(f"{option('dataset', self.where)} holds no image: {NO_LIST}")
        if not (below.files or below.others or below.rejected):
            raise UserError(f"{option('dataset', self.where)} does not exist, or is empty")
        said = said_beside(self.where, self._labels, self._said)
        yield from listed(self.where, below, said, self._labels, self._contents)

    def _below(self) -> Below:
        advice = f"; {NO_LIST}" if self._is_of_web else ""
        find = partial(elsewhere.find, self._base)
        found, closed = elsewhere.ask_for(self.where, find, advice)
        self._sizes = {path: facts.st_size for path, facts in found}
        below = sort_names(found, self._begin)
        below.rejected += [
            Rejected(path, f"folder unreadable: {reason}") for path, reason in closed
        ]
        return below

    def _begin(self, paths: Sequence[str]) -> Iterable[bytes]:
        """Read the first bytes of files; of none where a web server's pages name them."""
        if self._is_of_web:
            return [b""] * len(paths)
        return at_once(self._first, paths)

    def _first(self, path: str) -> bytes:
        try:
            return elsewhere.read_part(self._url(path), 0, len(OF_A_RUN), self._sizes[path])
        except (DecodeError, OSError):
            return b""  # it is counted among the others

    def _said(self) -> Said | None:
        files = {name: RemoteFile(self._url(name)) for name in FILES if name in self._sizes}
        return read_labels(files, self._normal)

    def _normal(self, text: str) -> str:
        text = text.strip().replace("\\", "/")
        url = text if is_url(text) else joined("memory://x", text)
        start = self._base if is_url(text) else "memory://x"
        return url[len(start) + 1 :] if url and url.startswith(f"{start}/") else text

    def _contents(self, path: str) -> bytes:
        return elsewhere.read(self._url(path))

    def _fetch(self, image: ImageRecord) -> bytes:
        return self._contents(image.path)

    def _url(self, path: str) -> str:
        """Return the URL of a file by its path below the folder."""
        name = quote(path) if self._is_of_web else path
        return f"{self._base}/{name}"


class RemoteGlob(RemoteFolder):
    """The image files that a URL with wildcards stands for, or one file."""

    def __init__(self, url: str, labels: Labels | Literal["file"] = "auto") -> None:
        super().__init__(url, labels)
        self._base = patterns.split_url(url)[0]

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """List the files."""
        try:
            names = list(patterns.expand(self.where))
        except ValueError as error:
            raise UserError(f"{option('dataset', self.where)} is not possible: {error}") from error
        found: list[str] = []
        for each in names:
            listing = partial(elsewhere.glob, each)
            urls = elsewhere.ask_for(each, listing) if has_wildcards(each) else [each]
            found += [url[len(self._base) + 1 :] for url in urls if _is_wanted(url)]
        if not found:
            raise UserError(f"{option('dataset', self.where)} does not exist: no file is called so")
        paths = sorted({self._path(each) for each in found})
        files = [(path, elsewhere.Facts(0, 0)) for path in paths]
        yield from records(placed(list(files), None, self._labels))

    def _path(self, name: str) -> str:
        return unquote(name) if self._is_of_web else name


class RemoteTable(FetchesAhead):
    """The images that a table elsewhere names: relative to its folder, or by URLs."""

    def __init__(self, url: str) -> None:
        self.where = url
        plain = url.partition("?")[0] if protocol_of(url) in OF_HTTP else url
        self._base = plain.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The table's name."""
        return unquote(name_of(self.where)).rpartition(".")[0]

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """Read what the table says; nothing is asked of the images."""
        said = read_table(RemoteFile(self.where), _plain)
        rows, urls, rejected = parted(said.rows)
        found, refused = self._rows(rows)
        yield from (*rejected, *refused)
        all_urls: Urls = {**urls, **{url: (url, (), None) for url in found.values()}}
        yield from remarks(said, all_urls)
        self._urls = {name: url for name, (url, *_) in urls.items()}
        known = {path: (labels, split) for path, labels, split in rows}
        relative: Labelled = [(path, *known[path], elsewhere.Facts(0, 0)) for path in found]
        yield from records(relative + unseen(urls))

    def _rows(self, rows: Sequence[Row]) -> tuple[dict[str, str], list[Rejected]]:
        """Return the URLs of paths, and the paths that are refused."""
        found, refused = {}, []
        for path, *_ in rows:
            url = self._url(path)
            if url is None:
                refused.append(Rejected(path, OF_THIS_MACHINE))
            else:
                found[path] = url
        return found, refused

    def _fetch(self, image: ImageRecord) -> bytes:
        if is_url(image.path):
            return fetch(self._urls.get(image.path, image.path))
        url = self._url(image.path)
        if url is None:
            raise DecodeError(OF_THIS_MACHINE)
        return elsewhere.read(url)

    def _url(self, path: str) -> str | None:
        """Return the URL of a path relative to the table; None where it is no such path."""
        if not path or path.startswith(("/", "~")) or path[1:3] == ":/":
            return None
        if protocol_of(self.where) in OF_HTTP:
            path = path.replace("?", "%3F").replace("#", "%23")
        return joined(self._base, path)

    @cached_property
    def _urls(self) -> Mapping[str, str]:
        said = read_table(RemoteFile(self.where), _plain)
        return {name: url for name, (url, *_) in parted(said.rows)[1].items()}


def open_remote(where: str) -> DatasetSource:
    """Open a folder, a table or files that lie elsewhere; they need not be there any more.

    Raises
    ------
    UserError
        There is no such protocol, its package is not installed, or the URL holds a secret.
    """
    if is_url(where) and local_path(where) is not None:
        raise UserError(f"{option('dataset', where)} lies on this machine; give its path")
    check_dataset(where)
    if has_wildcards(where) or patterns.has_braces(where) or ending_of(where) in SUFFIXES:
        return RemoteGlob(where)
    return RemoteTable(where) if ending_of(where) in ENDINGS else RemoteFolder(where)


def _plain(text: str) -> str:
    """Return a path that a table elsewhere says, without detours, or a URL as it is."""
    text = text.strip()
    if is_url(text):
        return text
    return posixpath.normpath(text.replace("\\", "/")) if text else ""


def _is_wanted(url: str) -> bool:
    return ending_of(url) in SUFFIXES and not is_beside(name_of(url))
