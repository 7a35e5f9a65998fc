"""A folder of images, searched in depth; the first folder below it is an image's label."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from ..errors import UserError, option
from . import patterns
from .contents import read_bytes, refusal
from .endings import HEIF, SUFFIXES
from .labels_file import FILES, Said, read_labels_beside
from .layout import Labels, Place, read_layout
from .names import escape, find_file
from .passed_over import find_masks, is_beside
from .source import ImageRecord, Rejected, Remark, make_record
from .walk import Below, Found, Status, walk

HOW_HEIF = "read with pip install 'concordance[heic]', or save them as JPEG"

Labelled = list[tuple[str, tuple[str, ...], str | None, Status]]
"""Path, labels, split and status of each file."""


class FolderSource:
    """Image files below a folder; see `pipeline.images.source.DatasetSource`."""

    def __init__(
        self, root: Path, name: str | None = None, labels: Labels | Literal["file"] = "auto"
    ) -> None:
        self.root = root.resolve()
        self.name = escape(self.root.name) if name is None else name
        self._labels = labels

    @property
    def where(self) -> str:
        """The folder, absolute."""
        return str(self.root)

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """List the image files below the folder; their folders, or a file, say their labels."""
        read = lambda path: read_bytes(self.file(path))
        yield from listed(self.root, walk(self.root), self._said(), self._labels, read)

    def labelled(self, labels: Labels | Literal["file"]) -> FolderSource:
        """Return the same folder, its images labelled in another way."""
        return FolderSource(self.root, self.name, labels)

    def _said(self) -> Said | None:
        """Read the labels of a file beside the images, where there is one and it is wanted."""
        return said_beside(self.root, self._labels, lambda: read_labels_beside(self.root))

    def read(self, image: ImageRecord) -> bytes:
        """Read an image's file."""
        return read_bytes(self.file(image.path))

    def outside(self, images: Iterable[ImageRecord]) -> list[tuple[str, Path]]:
        """Return the images whose files lie outside the folder, and where: by links, or as told."""
        real = cache(os.path.realpath)
        found = []
        for image in images:
            file = self.file(image.path)
            parent = real(file.parent)
            where = Path(os.path.realpath(file) if file.is_symlink() else parent) / ""
            if not where.is_relative_to(self.root):
                found.append((image.path, Path(os.path.realpath(file))))
        return found

    def file(self, path: str) -> Path:
        """Return the file of an image, given its path within the dataset."""
        return find_file(self.root, path)


class GlobSource(FolderSource):
    """The image files that a name with wildcards stands for, or one file."""

    def __init__(self, pattern: str, labels: Labels | Literal["file"] = "auto") -> None:
        super().__init__(patterns.root_of(pattern), labels=labels)
        self._pattern = pattern

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """List the files."""
        try:
            files = [path for path in patterns.files(self._pattern) if _is_wanted(path)]
        except ValueError as error:
            raise UserError(
                f"{option('dataset', self._pattern)} is not possible: {error}"
            ) from error
        if not files:
            raise UserError(
                f"{option('dataset', self._pattern)} does not exist: no file is called so"
            )
        found: Found = [
            (os.path.relpath(path.absolute(), self.root), path.stat()) for path in files
        ]
        yield from records(placed(found, self._said(), self._labels))

    def labelled(self, labels: Labels | Literal["file"]) -> GlobSource:
        """Return the same files, labelled in another way."""
        return GlobSource(self._pattern, labels)


def _is_wanted(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not is_beside(path.name)


def open_glob(where: str) -> GlobSource:
    """Open what a name with wildcards stands for, or one file."""
    return GlobSource(where)


def open_folder(where: str) -> FolderSource:
    """Open a folder of images, which need not be there any more."""
    return FolderSource(Path(where))


def said_beside(
    called: object, labels: Labels | Literal["file"], read: Callable[[], Said | None]
) -> Said | None:
    """Read the labels of a file beside the images, where it is wanted; by `file` it must be."""
    said = read() if labels in ("auto", "file") else None
    if said is None and labels == "file":
        raise UserError(
            f"{option('labels', 'file')}: there is none of {', '.join(FILES)} in {called},"
            " with a column of paths and one of labels"
        )
    return said


def listed(
    called: str | Path,
    below: Below,
    said: Said | None,
    labels: Labels | Literal["file"],
    read: Callable[[str], bytes],
) -> Iterator[ImageRecord | Rejected | Remark]:
    """Describe the files below a folder, here or elsewhere, without masks of other images.

    Parameters
    ----------
    called : str or Path
        The folder, a path where it is one of this machine.
    below : Below
        What lies there.
    said : Said or None
        What a file beside the images says of them.
    labels : {'auto', 'top', 'parent', 'none', 'file'}
    read : callable
        Gives the contents of a file.
    """
    masks = find_masks([path for path, _ in below.files], read)
    files = [(path, status) for path, status in below.files if path not in masks]
    if not files and not below.rejected:
        raise UserError(
            f"{option('dataset', called)} holds no image; files ending in"
            f" {', '.join(sorted(SUFFIXES))} are looked for, in all folders below it"
            f"{'; there are files ' if below.others else ''}{_listed(below.others)}"
        )
    yield from below.rejected
    if below.others:
        yield Remark(f"passed over: {_listed(below.others)}")
    if masks:
        yield Remark(_of_masks(called, masks))
    if said is not None:
        yield Remark(f"labels are those of {said.file}")
    yield from records(placed(files, said, labels))


def placed(files: Found, said: Said | None, labels: Labels | Literal["file"]) -> Labelled:
    """Give images the labels of a file beside them, or of their folders."""
    by_folder = "auto" if labels == "file" else labels
    places = read_layout([path for path, _ in files], by_folder)
    return [
        (path, *_told(path, place, said), status)
        for (path, status), place in zip(files, places, strict=True)
    ]


def _told(path: str, place: Place, said: Said | None) -> tuple[tuple[str, ...], str | None]:
    """Return an image's labels and split."""
    if said is not None and path in said.of:
        labels, split = said.of[path]
        return labels, split or place.split
    return () if said or place.label is None else (escape(place.label),), place.split


def _of_masks(called: str | Path, masks: set[str]) -> str:
    folders = sorted({path.rpartition("/")[0] for path in masks})
    more = f" and {len(folders) - 1} more folders" if len(folders) > 1 else ""
    found = f"{len(masks):,} masks of other images, in {folders[0] or '.'}{more}, are passed over"
    if isinstance(called, Path):  # masks are read from this machine
        return f"{found}: they are ground truth, {option('masks', called / folders[0])}"
    return f"{found}: they are ground truth"


def _listed(others: Mapping[str, int]) -> str:
    most_first = sorted(others.items(), key=lambda it: (-it[1], it[0]))
    listed = ", ".join(f"{n:,} {what}" for what, n in most_first)
    unread = [what for what, _ in most_first if what.endswith(HEIF)]
    return f"{listed}; {', '.join(unread)}: {HOW_HEIF}" if unread else listed


def records(found: Labelled) -> Iterator[ImageRecord | Rejected]:
    """Describe files by their escaped paths; of two that are escaped alike one is refused.

    Files that cannot be opened are images too, for another time; but not where there are no others.
    """
    unique: dict[str, tuple[tuple[str, ...], str | None, Status]] = {}
    for path, labels, split, status in sorted(found, key=lambda each: each[0]):
        escaped = escape(path)
        if escaped in unique and escaped != path:
            yield Rejected(escaped, "its name, escaped, is that of another file")
        else:
            unique[escaped] = (labels, split, status)
    is_any_there = any(not isinstance(status, OSError) for *_, status in unique.values())
    for path, (labels, split, status) in unique.items():
        if not isinstance(status, OSError):
            yield make_record(path, labels, status.st_size, status.st_mtime_ns, split)
        elif is_any_there:
            yield make_record(path, labels, split=split)
        else:
            yield Rejected(path, str(refusal(status)))
