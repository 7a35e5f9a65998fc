"""Which image a piece of truth is of: by its name, and only where that is clear."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

ENDINGS = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm",
        ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".mat", ".npy",
    )
)  # fmt: skip
"""Endings of pictures and masks, which names are compared without."""

_ADDED = re.compile(
    r"[ ._-]*(gt|masks?|segs?|segmentations?|labels?|label_?ids|annotations?|parts|mattes?)$",
    re.IGNORECASE,
)
"""What tools put behind an image's name for its mask."""


@dataclass(frozen=True)
class Matched:
    """Which truth each image has.

    Attributes
    ----------
    found : dict of str to str
        Path of an image to the name of what is known of it.
    unclear : tuple of str
        Images or names of which it is not clear what goes with what, in a few words each.
    by_file_name : bool
        Whether folders differ, so that the names of files alone were compared.
    """

    found: dict[str, str]
    unclear: tuple[str, ...]
    by_file_name: bool = False


def match(names: Iterable[str], paths: Iterable[str]) -> Matched:
    """Find the truth of each image.

    Names are tried as they are, then without what stands behind the image's own name, then without
    endings; where nothing is found that way, without folders. One name is that of one image.

    Parameters
    ----------
    names : iterable of str
        What is known goes by these: paths of masks below their folder, or of images.
    paths : iterable of str
        Paths of the images within their dataset.
    """
    names, paths = sorted(set(names)), sorted(set(paths))
    found = _match(names, paths)
    if found.found or found.unclear:
        return found
    return _by_file_name(names, paths)


def _by_file_name(names: Sequence[str], paths: Sequence[str]) -> Matched:
    """Match where folders differ: what has a file's name in common with nothing else."""
    of_names, of_paths = _alone(names), _alone(paths)
    found = _match([*of_names], [*of_paths])
    return Matched(
        {of_paths[path]: of_names[name] for path, name in found.found.items()},
        found.unclear,
        by_file_name=bool(found.found),
    )


def _alone(paths: Sequence[str]) -> dict[str, str]:
    by_name = {PurePosixPath(path).name: path for path in paths}
    n_of = Counter(PurePosixPath(path).name for path in paths)
    return {name: path for name, path in by_name.items() if n_of[name] == 1}


def _match(names: Sequence[str], paths: Sequence[str]) -> Matched:
    found: dict[str, str] = {}
    unclear: list[str] = []
    left_names, left_paths = list(names), list(paths)
    for of_name, of_path in _KEYS:
        groups = defaultdict[str, tuple[list[str], list[str]]](lambda: ([], []))
        for name in left_names:
            groups[of_name(name)][0].append(name)
        for path in left_paths:
            groups[of_path(path)][1].append(path)
        gone: set[str] = set()
        for some, images in groups.values():
            if len(some) == len(images) == 1:
                found[images[0]] = some[0]
            elif some and images:
                unclear.append(_unclear(some, images))
            else:
                continue
            gone.update(some, images)
        left_names = [name for name in left_names if name not in gone]
        left_paths = [path for path in left_paths if path not in gone]
    return Matched(found, tuple(unclear))


def _unclear(names: Sequence[str], paths: Sequence[str]) -> str:
    if len(paths) > 1:
        return f"{names[0]} may be of {paths[0]} or of {paths[1]}"
    return f"{paths[0]} has {names[0]} and {names[1]}"


def plain(path: str) -> str:
    """Return a path without the ending of a picture."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix.lower() in ENDINGS else path


def _bare(name: str) -> str:
    """Return a mask's name without endings, and without what tools put behind the image's."""
    stem = plain(plain(name))
    head, slash, last = stem.rpartition("/")
    return head + slash + (_ADDED.sub("", last) or last)


_Key = Callable[[str], str]

_KEYS: tuple[tuple[_Key, _Key], ...] = (
    (lambda name: name, lambda path: path),  # 1.png of 1.png
    (plain, lambda path: path),  # 1.png.png of 1.png, 1.jpg.png of 1.jpg
    (plain, plain),  # 1.png of 1.jpg
    (_bare, plain),  # 1_mask.png of 1.jpg
)
"""How names of what is known and of images are compared, the surest first."""
