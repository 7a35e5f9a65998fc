"""Images that are spooled, as a dataset source: how they are, and then their tar files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Literal, Protocol

from ..archive import ArchiveSource
from ..archive_files import index_tar, read_tar
from ..layout import Labels
from ..ranged import LocalFile, Ranged
from ..source import Contents, ImageRecord, Rejected, Remark
from .store import Spool


class Recipe(Protocol):
    """How a dataset is spooled."""

    @property
    def name(self) -> str:
        """What the dataset is called."""

    @property
    def where(self) -> str:
        """What opens it again; what is known only once it is spooled may be part of it."""

    def known(self) -> Spool | None:
        """Find it where it was spooled before; where it is from is not looked at."""

    def spool(self) -> Spool:
        """Spool it as it is now, unless that is done.

        Raises
        ------
        UserError
            It cannot be had.
        """


class SpooledSource:
    """Images in the tar files of a spooled dataset; see `pipeline.images.source.DatasetSource`."""

    def __init__(self, recipe: Recipe, labels: Labels | Literal["file"] = "auto") -> None:
        self._recipe, self._labels = recipe, labels
        self._tars: ArchiveSource | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What the dataset is called."""
        return self._recipe.name

    @property
    def where(self) -> str:
        """What opens it again."""
        return self._recipe.where

    def labelled(self, labels: Labels | Literal["file"]) -> SpooledSource:
        """Return the same images; where nothing else labels them, folders of their names may."""
        return SpooledSource(self._recipe, labels)

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """List the images, which are spooled first where that is to be done."""
        spool = self._recipe.spool()
        yield from spool.told
        if spool.n_images:
            self._tars = _Tars(spool, self._labels)
            # What lies beside images is ours: the user is not told of it.
            yield from (each for each in self._tars.images() if not isinstance(each, Remark))

    def read(self, image: ImageRecord) -> Contents:
        """Read an image from its tar file."""
        with self._lock:
            if self._tars is None:
                self._tars = _Tars(self._recipe.known() or self._recipe.spool(), self._labels)
        return self._tars.read(image)


class _Tars(ArchiveSource):
    """The tar files of a spooled dataset."""

    def __init__(self, spool: Spool, labels: Labels | Literal["file"]) -> None:
        super().__init__(str(spool.folder), index_tar, read_tar, ".tar")
        self._labels = "auto" if labels == "file" else labels
        self._of = spool.archives

    @cached_property
    def _archives(self) -> dict[str, Ranged]:
        return {name: LocalFile(path) for name, path in self._of.items()}
