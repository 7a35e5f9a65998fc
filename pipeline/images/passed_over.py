"""What lies in a dataset's folders and is none of its pictures: left behind by programs, masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from .formats import FORMATS
from .limits import check_header
from .metered import Metered

OF_PROGRAMS = frozenset(
    (
        ".ipynb_checkpoints", "@eadir", ".thumbnails", ".@__thumb", "__macosx", ".git", ".cache",
        ".appledouble", ".spotlight-v100", ".fseventsd", "$recycle.bin", "lost+found",
        "system volume information",
    )
)  # fmt: skip
"""Folders that programs leave, in lower case; nobody puts images of a dataset there."""

OF_MASKS = re.compile(
    r"(^|[ ._-])(masks?|gt|ground[ _-]?truths?|annotations?|segmentation(class|object|s)?"
    r"|segmaps?|trimaps?|mattes?|label[ _-]?maps?)$",
    re.IGNORECASE,
)
"""What folders of masks are called, and what is put behind an image's name for its mask."""

LOOKED_AT = 8
"""Files called like masks that are looked into."""

FEW_VALUES = 64
"""Masks have few values, photographs hundreds of colours."""


def is_of_programs(folder: str) -> bool:
    """Say whether a folder's name is one that programs give."""
    return folder.lower() in OF_PROGRAMS or folder.lower().startswith(".trash")


def is_beside(name: str) -> bool:
    """Say whether a file only describes another: macOS writes ``._1.jpg`` beside ``1.jpg``."""
    return name.startswith("._")


def find_masks(paths: Sequence[str], read: Callable[[str], bytes]) -> set[str]:
    """Return images that are masks of other images.

    They are called so (`OF_MASKS`), their folder or themselves; without that their names are those
    of other images; and those that are looked into have few values. Where one is a photograph,
    all are images.

    Parameters
    ----------
    paths : sequence of str
        Relative, with ``/``.
    read : callable
        Gives the contents of one.
    """
    masks = [path for path in paths if _is_called_so(path)]
    if not masks or len(masks) == len(paths):
        return set()
    others = {_bare(path) for path in paths if not _is_called_so(path)}
    masks = [path for path in masks if _bare(path) in others]
    looked_at = masks[:: max(1, len(masks) // LOOKED_AT)]
    if not masks or not all(_has_few_values(read, path) for path in looked_at):
        return set()
    return set(masks)


def _is_called_so(path: str) -> bool:
    *folders, name = path.split("/")
    stem = PurePosixPath(name).stem
    found = OF_MASKS.search(stem)
    has_added = found is not None and found.start() > 0
    return has_added or any(OF_MASKS.fullmatch(each) for each in folders)


def _bare(path: str) -> str:
    """Name an image without its folders, its ending, and what is put behind for its mask."""
    stem = PurePosixPath(PurePosixPath(path).name).stem
    return OF_MASKS.sub("", stem) or stem


def _has_few_values(read: Callable[[str], bytes], path: str) -> bool:
    try:
        with Image.open(Metered(read(path)), formats=FORMATS) as picture:
            check_header(picture)
            picture.thumbnail((256, 256), Image.Resampling.NEAREST)
            colours = picture.convert("RGB").getcolors(FEW_VALUES)
    except Exception:  # what cannot be read is no mask either; it is refused later, with its reason
        return False
    if colours is not None:
        return True
    values = np.asarray(picture.convert("L"))  # drawn smoothly: grey along outlines
    return bool((((values < 8) | (values > 247)).mean()) > 0.8) and picture.mode in ("L", "1")
