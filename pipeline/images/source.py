"""What a dataset is: a source that lists images and gives the contents of one; and its listing.

An image is known by its path within the dataset (`ImageRecord.path`, with undecodable bytes
percent-escaped) and by an `image_id` derived from that path alone, so that both stay when images
are added or the dataset moves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .. import plugins
from ..errors import UserError, option, suggest
from . import patterns, urls
from .endings import SUFFIXES
from .labels import joined
from .layout import SPLITS, Labels
from .spooled.shards import ENDINGS, hold_images

Contents = bytes | NDArray[np.uint8]
"""What a source gives of an image: its file, or its pixels (height, width, 3), RGB."""

NAMED = 6
"""Labels that are named where a dataset is described."""

FOLDER, TABLE, GLOB, COCO, REMOTE = "folder", "table", "glob", "coco", "remote"
"""Sources that need no name before the path: what lies there says which it is."""

PARQUET, NUMPY = "parquet", "numpy"

OF_ENDINGS = (
    {".tar": "wds", ".zip": "zip", ".json": COCO}
    | dict.fromkeys(SUFFIXES, GLOB)
    | dict.fromkeys(ENDINGS, PARQUET)
    | {".npy": NUMPY, ".npz": NUMPY}
)
"""The sources of files and names with wildcards, by their endings; others are tables."""

OF_THIS_MACHINE = {
    COCO: "files of COCO",
    NUMPY: "arrays of NumPy",
    PARQUET: "images in rows of Parquet or Arrow",
}
"""What is not opened elsewhere."""

OF_ARCHIVES = frozenset(("wds", "zip"))
"""Sources that open what lies elsewhere, too."""


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset: its relative path (escaped), id and labels, often one.

    Size in bytes and time of the last change (nanoseconds since 1970) of its file tell whether it
    may have been replaced; they are no part of what the image is, nor is the part of the dataset
    (train, val, …) that it belongs to.
    """

    path: str
    image_id: int
    labels: tuple[str, ...] = ()
    size: int = field(default=0, compare=False)
    modified: int = field(default=0, compare=False)
    split: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str | None:
        """The label; several are joined (`joined`); None where there is none."""
        return joined(self.labels)


@dataclass(frozen=True)
class Rejected:
    """An input that was refused, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """What the user is told of a dataset: what was passed over, where labels are from."""

    text: str


class DatasetSource(Protocol):
    """Where images come from.

    A plug-in of the group ``concordance.datasets`` is a function that takes what stands after its
    name in the option ``dataset`` and returns one of these, or raises `UserError`.
    """

    @property
    def name(self) -> str:
        """What the dataset is called: part of the names of its runs."""

    @property
    def where(self) -> str:
        """What the function takes to open it again, from any working folder."""

    def images(self) -> Iterable[ImageRecord | Rejected | Remark]:
        """List the images, in any order, and what is refused already; see `make_record`."""

    def read(self, image: ImageRecord) -> Contents:
        """Give an image; several threads may ask at once.

        Raises
        ------
        DecodeError
            It cannot be used; the text is the reason.
        OSError
            It cannot be read: it is refused where there is no such file or access is denied; any
            other error is the machine's, tried again, and then stops the job.
        """


@runtime_checkable
class Labelled(Protocol):
    """A source whose images can be labelled in several ways; see `list_dataset`."""

    def labelled(self, labels: Labels | Literal["file"]) -> DatasetSource:
        """Return the same images, labelled in another way."""


@runtime_checkable
class ReadsAhead(Protocol):
    """A source that must wait for its images, and fetches them before they are asked for."""

    def reading_ahead(self, images: Iterable[ImageRecord]) -> AbstractContextManager[None]:
        """Within the block, fetch images that will be read, more or less in this order.

        `images` is gone through little by little. What `read` gives and raises stays the same.
        """


OpenDataset = Callable[[str], DatasetSource]


@dataclass(frozen=True)
class Dataset:
    """A dataset as it was listed: its images by path, and what was refused.

    Attributes
    ----------
    source : DatasetSource
    kind : str
        The plug-in that opened it.
    images : tuple of ImageRecord
    rejected : tuple of Rejected
    remarks : tuple of str
        What the user is told of it, beside what `describe` says.
    """

    source: DatasetSource
    kind: str
    images: tuple[ImageRecord, ...]
    rejected: tuple[Rejected, ...]
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.source.name

    @property
    def labels(self) -> list[str]:
        """The labels of its images, sorted."""
        return sorted({label for each in self.images for label in each.labels})

    @property
    def opener(self) -> str:
        """The plug-in that opens `source.where`: folders hold what others name."""
        is_folder = self.kind in (TABLE, GLOB, COCO)
        if is_folder and not any(urls.is_url(each.path) for each in self.images):
            return FOLDER
        return self.kind

    def describe(self) -> str:
        """Say how many images there are, their labels and their splits."""
        labels, n_without = self.labels, sum(not each.labels for each in self.images)
        splits = sorted({each.split for each in self.images if each.split is not None})
        n_several = sum(len(each.labels) > 1 for each in self.images)
        parts = [f"{len(self.images):,} images"]
        if labels:
            some = ", ".join(labels[:NAMED]) + (", …" if len(labels) > NAMED else "")
            parts.append(f"{len(labels):,} labels: {some}")
            if n_several:
                parts.append(f"{n_several:,} with several labels")
            if n_without:
                parts.append(f"{n_without:,} without a label")
        else:
            parts.append("no labels")
        if splits:
            parts.append(f"splits: {', '.join(splits)}")
        return "; ".join(parts)

    def fingerprint(self) -> str:
        """Hash the paths and labels (16 hexadecimal digits); contents are not read."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(repr((image.path, image.label)).encode())  # as one text, as ever
        return digest.hexdigest()[:16]


def list_dataset(
    where: str | Path, *, labels: Labels | Literal["file"] = "auto", split: str | None = None
) -> Dataset:
    """List the images of a dataset, sorted by path.

    Parameters
    ----------
    where : str or Path
        A folder, searched in depth; see `layout` for what its folders mean. Or a table with a
        column of paths (relative to the table, or absolute) and, if known, of labels and splits,
        see `manifest`. Any of these may lie elsewhere, see `urls`. Or ``<name>:<rest>``, where the
        name is that of a plug-in.
    labels : {'auto', 'top', 'parent', 'none', 'file'}
        What labels the images of a folder; of other sources ``none`` alone says something.
    split : str, optional
        The only part of the dataset that is taken.

    Raises
    ------
    UserError
        There is no such dataset, it holds no image, or the table lacks its column.
    """
    kind, rest = _kind_of(str(where))
    if kind in OF_THIS_MACHINE and urls.is_url(rest):
        raise UserError(
            f"{option('dataset', where)}: {OF_THIS_MACHINE[kind]} are not read elsewhere; fetch"
            " them to this machine first, or name the images in a table there"
        )
    source = open_dataset(kind, rest)
    if isinstance(source, Labelled):
        source = source.labelled(labels)
    found = list(source.images())
    rejected = sorted((each for each in found if isinstance(each, Rejected)), key=repr)
    images = [each for each in found if isinstance(each, ImageRecord)]
    if labels == "none":
        images = [replace(each, labels=()) for each in images]
    if split is not None:
        images = _of_split(images, split)
    images.sort(key=lambda each: each.path)
    if not images:
        first = f"; the first refused: {rejected[0].path}: {rejected[0].reason}" if rejected else ""
        raise UserError(f"{option('dataset', where)} holds no image{first}")
    _check_ids(images)
    remarks = tuple(each.text for each in found if isinstance(each, Remark))
    return Dataset(source, kind, tuple(images), tuple(rejected), remarks)


def open_dataset(kind: str, where: str) -> DatasetSource:
    """Open a dataset by the plug-in of its kind; nothing is listed.

    Raises
    ------
    UserError
        There is no such plug-in, or no such dataset.
    """
    opener: OpenDataset = plugins.load(plugins.DATASETS, kind)
    return opener(where)


def make_record(
    path: str,
    label: str | Sequence[str] | None = None,
    size: int = 0,
    modified: int = 0,
    split: str | None = None,
) -> ImageRecord:
    """Describe an image by its path within the dataset and its label, or labels."""
    labels = () if label is None else (label,) if isinstance(label, str) else tuple(label)
    labels = tuple(dict.fromkeys(labels))
    return ImageRecord(path, make_image_id(path), labels, size, modified, split)


def make_image_id(path: str) -> int:
    """Derive an image's id (non-negative, below 2⁶³) from its escaped relative path."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1


def unit_hash(image_id: int, seed: int, purpose: str) -> float:
    """Give an image a number in [0, 1) that depends on id, seed and purpose alone."""
    text = f"{purpose}:{seed}:{image_id}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") / 2**56


def _kind_of(where: str) -> tuple[str, str]:
    """Return the source that a text names, and what it opens."""
    path = Path(where).expanduser()
    if (path.is_dir() or path.suffix.lower() in ENDINGS) and path.exists():
        return PARQUET if hold_images(path) else FOLDER if path.is_dir() else TABLE, str(path)
    if path.exists():
        return OF_ENDINGS.get(path.suffix.lower(), TABLE), str(path)
    name, colon, rest = where.partition(":")
    is_named = bool(colon) and not rest.startswith("//")  # as hf:<name>, not hf://datasets/…
    if is_named and name in plugins.names(plugins.DATASETS):
        return name, rest
    if urls.is_url(where):
        if (local := urls.local_path(where)) is not None:
            return _kind_of(local)
        urls.check_dataset(where)
        ending = urls.ending_of(where)
        kind = REMOTE if ending == ".parquet" else OF_ENDINGS.get(ending)  # which is a table there
        return kind if kind in OF_ARCHIVES or kind in OF_THIS_MACHINE else REMOTE, where
    if patterns.has_wildcards(where):
        return OF_ENDINGS.get(PurePath(where).suffix.lower(), GLOB), where
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = suggest(path.name, beside)
    source = ""
    if colon and name.isidentifier() and len(name) > 1:  # not a drive of Windows
        known = plugins.names(plugins.DATASETS)
        source = f", and there is no dataset source {name!r}, only {' and '.join(known)}"
    near = f"; {near}" if near else ""
    raise UserError(f"{option('dataset', where)} does not exist{source}{near}")


def _of_split(images: list[ImageRecord], split: str) -> list[ImageRecord]:
    wanted = SPLITS.get(split.lower(), split)
    found = [each for each in images if each.split in (split, wanted)]
    if not found:
        known = sorted({each.split for each in images if each.split is not None})
        raise UserError(
            f"{option('split', split)}: no image belongs to it; "
            + (f"there are {', '.join(known)}" if known else "nothing says which images do")
        )
    return found


def _check_ids(images: Iterable[ImageRecord]) -> None:
    by_id: dict[int, str] = {}
    for image in images:
        other = by_id.get(image.image_id)
        if other == image.path:
            raise UserError(f"the dataset lists the image {other} more than once")
        if other is not None:
            raise UserError(f"{other} and {image.path} have the same image_id; rename one")
        by_id[image.image_id] = image.path
