"""COCO's JSON as a dataset: the images it names, the categories of their objects as labels.

Its boxes and masks are ground truth; `pipeline.truth` reads those.

Reference: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import UserError, option
from .folder import FolderSource, records
from .source import ImageRecord, Rejected, Remark
from .table import look_up

MOST_BYTES = 4_000_000_000
"""Larger files are refused: COCO's own have half a billion at most."""

IDS = ("id", "image_id", "category_id")
"""What images, objects and categories are known by to each other."""

ANNOTATIONS = ("annotations", "annotation", "labels", "json")
"""Folders that hold such files, in small letters, beside those of the images."""

TRIED = 20
"""Images that are looked for to find the folder of all."""


def read_json(where: Path) -> dict[str, list[dict[str, Any]]]:
    """Read images, annotations and categories; what is none of these is left out.

    Raises
    ------
    OSError, ValueError
        It is no such file.
    """
    if where.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    try:
        says = json.loads(where.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(says, dict) or not isinstance(says.get("images"), list):
        raise ValueError("it has no list of images")
    found = {name: says.get(name) or [] for name in ("images", "annotations", "categories")}
    for name, several in found.items():
        if not isinstance(several, list) or not all(isinstance(each, dict) for each in several):
            raise ValueError(f"its {name} are no list of objects")
        for each in several:
            if wrong := [key for key in IDS if key in each and type(each[key]) not in (int, str)]:
                raise ValueError(f"its {name} have no numbers for {wrong[0]}: {str(each)[:60]}")
    for each in found["images"]:
        if not {"id", "file_name"} <= each.keys():
            raise ValueError(f"an image without id or file_name: {str(each)[:60]}")
    return found


class CocoSource(FolderSource):
    """The images that a file of COCO names; see `pipeline.images.source.DatasetSource`."""

    def __init__(self, where: Path) -> None:
        try:
            self._says = read_json(where)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{option('dataset', where)} is no JSON of COCO, with images, annotations and"
                f" categories: {error}"
            ) from error
        self._where = where
        super().__init__(_folder_of(where, self._says["images"]), where.stem)

    def labelled(self, labels: object) -> CocoSource:
        """Return the same images: their labels are their objects' categories."""
        return self

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """Look up the files that are named."""
        names = {each.get("id"): each.get("name") for each in self._says["categories"]}
        labels: dict[Any, dict[str, None]] = {}
        for each in self._says["annotations"]:
            name = names.get(each.get("category_id"))
            if name is not None:
                labels.setdefault(each.get("image_id"), {})[str(name)] = None
        rows: dict[str, dict[str, None]] = {}
        for each in self._says["images"]:
            rows.setdefault(str(each["file_name"]), {}).update(labels.get(each["id"], {}))
        listed = [(path, tuple(several), None) for path, several in rows.items()]
        rejected, found = look_up(self.root, listed)
        yield from rejected
        yield Remark(f"images are those below {self.root}, labels the categories of their objects")
        if n_objects := len(self._says["annotations"]):
            yield Remark(f"{n_objects:,} objects are ground truth: {option('masks', self._where)}")
        yield from records(found)


def open_coco(where: str) -> CocoSource:
    """Open a file of COCO.

    Raises
    ------
    UserError
        It is none, or its images are nowhere near.
    """
    return CocoSource(Path(where))


def _folder_of(where: Path, images: Sequence[dict[str, Any]]) -> Path:
    """Find the folder in which the images lie: the file's own, or one below it.

    A folder of annotations lies beside those of images. Elsewhere nothing is looked for: other
    datasets have images of the same names.
    """
    folder = where.absolute().parent
    folder = folder.parent if folder.name.lower() in ANNOTATIONS else folder
    near = [where.absolute().parent, folder, *_within(folder)]
    near += [each for parent in _within(folder) for each in _within(parent)]
    some = [str(each["file_name"]) for each in islice(images, TRIED)]
    counts = [sum((each / name).is_file() for name in some) for each in near]
    if some and not any(counts):
        raise UserError(
            f"{option('dataset', where)} names images that are not near it, such as"
            f" {some[0] if some else 'none'}: put it beside them, or above their folder"
        )
    return near[counts.index(max(counts))]


def _within(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir())
