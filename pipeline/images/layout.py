"""What the folders of a dataset mean: labels, parts such as train and val, or nothing.

Notation: images/train/cat/1.jpg has a folder that says nothing, one of a split, and a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Labels = Literal["auto", "top", "parent", "none"]

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
"""Folders that part a dataset, and what each part is called here."""

NEUTRAL = frozenset(
    ("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "pics", "data", "raw")
)
"""Folders that say only that there are images in them."""


@dataclass(frozen=True)
class Place:
    """What an image's folders say of it: its label and its part of the dataset, if any."""

    label: str | None
    split: str | None


def read_layout(paths: Sequence[str], labels: Labels = "auto") -> list[Place]:
    """Tell labels and splits from the folders of images.

    Folders count level by level, from the top: one that all images share, and that is called
    ``images`` or the like, says nothing; where all folders of a level are called ``train``,
    ``val``, ``test`` or the like, they are splits. The first folder that is neither is the label.

    Parameters
    ----------
    paths : sequence of str
        Relative, with ``/``.
    labels : {'auto', 'top', 'parent', 'none'}
        ``top`` takes the first folder, ``parent`` the last, for the label; ``none`` none.

    Returns
    -------
    list of Place
        As `paths`.
    """
    folders = [path.split("/")[:-1] for path in paths]
    level = _skip_neutral(folders, 0)
    splits: list[str | None] = [None] * len(paths)
    if _is_of_splits(folders, level):
        splits = [SPLITS[each[level].lower()] for each in folders]
        level = _skip_neutral(folders, level + 1)
    if labels == "none":
        names: list[str | None] = [None] * len(paths)
    elif labels == "top":
        names, splits = [each[0] if each else None for each in folders], [None] * len(paths)
    elif labels == "parent":
        names = [each[-1] if each else None for each in folders]
    else:
        names = [each[level] if len(each) > level else None for each in folders]
    return [Place(name, split) for name, split in zip(names, splits, strict=True)]


def _skip_neutral(folders: Sequence[Sequence[str]], level: int) -> int:
    """Return the first level from `level` on that says something."""
    while folders and all(len(each) > level for each in folders):
        names = {each[level].lower() for each in folders}
        if len(names) > 1 or not names <= NEUTRAL:
            break
        level += 1
    return level


def _is_of_splits(folders: Sequence[Sequence[str]], level: int) -> bool:
    return bool(folders) and all(
        len(each) > level and each[level].lower() in SPLITS for each in folders
    )
