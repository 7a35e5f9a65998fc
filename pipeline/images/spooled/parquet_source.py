"""Parquet and Arrow files with images in their rows: one, a folder of shards, or a name with
wildcards.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ...errors import UserError, option
from .. import patterns
from ..names import escape
from .columns import Columns
from .items import Part, safe
from .labels import split_of
from .parquet_rows import make_part
from .shards import ENDINGS, shards_below
from .source import SpooledSource
from .store import Spool, find, find_latest, folder_of, spool

KIND = "parquet"


class ParquetRecipe:
    """See `pipeline.images.spooled.source.Recipe`."""

    def __init__(self, where: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(where))  # noqa: PTH100, PTH111, a pattern
        self._origin = f"{KIND}:{self.where}"

    @property
    def name(self) -> str:
        """The name of the file or folder, or what the names of several begin with."""
        name = PurePosixPath(self.where).name
        stem = name.partition("{")[0].partition("*")[0]
        stem = PurePosixPath(stem).stem if stem.endswith(ENDINGS) else stem
        return escape(stem.rstrip("-_.")) or "parquet"

    def known(self) -> Spool | None:
        """Find what was spooled last."""
        return find_latest(self._origin)

    def spool(self) -> Spool:
        """Spool the files as they are now."""
        found = self._files()
        if not found:
            known = self.known()
            if known is None:
                raise UserError(
                    f"{option('dataset', self.where)} does not exist: there is no Parquet or Arrow"
                    " file"
                )
            return known
        state = [(name, _identity(path)) for name, path in found.items()]
        folder = folder_of(self.name, self._origin, state)
        if (known := find(folder)) is not None:
            return known
        parts, remarks = parts_of({name: (path, split_of(name)) for name, path in found.items()})
        return spool(folder, self.name, self._origin, parts, remarks)

    def _files(self) -> dict[str, Path]:
        """The files by their paths below what was named, with ``/``."""
        path = Path(self.where)
        if path.is_dir():
            return {each.relative_to(path).as_posix(): each for each in shards_below(path)}
        try:
            found = patterns.files(self.where)
        except ValueError as error:
            raise UserError(f"{option('dataset', self.where)} is not possible: {error}") from error
        root = patterns.root_of(self.where)
        return {os.path.relpath(each, root): each for each in found}


def open_parquet(where: str) -> SpooledSource:
    """Open Parquet or Arrow files with images in their rows."""
    return SpooledSource(ParquetRecipe(where))


def parts_of(found: Mapping[str, tuple[Path, str | None]]) -> tuple[list[Part], list[str]]:
    """Describe files, by their paths, as parts of a dataset; and say what is taken of them.

    Parameters
    ----------
    found : mapping of str to (Path, str or None)
        Path within the dataset to the file and its split.

    Raises
    ------
    UserError
        One cannot be read, or has no column of images.
    """
    parts, remarks = list[Part](), dict[str, None]()
    taken: set[str] = set()
    for path, (file, split) in found.items():
        stem = safe(str(PurePosixPath(path).with_suffix(""))).replace("/", "-") or "part"
        name = next(each for each in _numbered(stem) if each not in taken)
        taken.add(name)
        part, columns = make_part(name, file, split)
        parts.append(part)
        remarks |= dict.fromkeys(_remarks(columns))
    return parts, list(remarks)


def _remarks(columns: Columns) -> Iterable[str]:
    taken = f"images are those of the column {columns.image!r}"
    if columns.label is not None:
        taken += f", labels those of {columns.label!r}"
    yield taken + (f"; not taken: {', '.join(map(repr, columns.others))}" if columns.others else "")


def _numbered(stem: str) -> Iterable[str]:
    yield stem
    yield from (f"{stem}-{number}" for number in range(2, 1_000_000))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
