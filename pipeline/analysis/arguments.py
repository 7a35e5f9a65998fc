"""What is meant by an image or a concept in a call: ids, and what plainly stands for one."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np

from ..errors import UserError, option
from ..images import FolderSource, escape

if TYPE_CHECKING:
    from ..runs.workspace import Workspace

OneImage = int | np.integer[Any] | str | Path
"""An image of a run: its image_id, or its path within the dataset."""

OneConcept = int | np.integer[Any]
Images = OneImage | Iterable[OneImage]
Concepts = OneConcept | Iterable[OneConcept]


def image_id_of(workspace: Workspace, image: object) -> int:
    """Return the id of an image of a run.

    Raises
    ------
    UserError
        The run has no such image, or this is none at all.
    """
    if isinstance(image, str | Path):
        return _by_path(workspace, image)
    number = _whole(image)
    if number is None:
        raise UserError(f"an image is an image_id or a path, this is {_shown(image)}")
    if not -(2**63) <= number < 2**63 or workspace.listing.places([number])[0] < 0:
        raise UserError(f"there is no image {number} in {workspace.folder}; see the table images")
    return number


def image_ids_of(workspace: Workspace, images: object) -> list[int]:
    """Return the ids of one image or several, in the order given.

    Raises
    ------
    UserError
        There are none, or the run has not all of them.
    """
    if isinstance(images, str | Path) or not isinstance(images, Iterable):
        return [image_id_of(workspace, images)]
    found = [image_id_of(workspace, each) for each in images]
    if not found:
        raise UserError("no image was asked for; image_ids are those of the table images")
    return found


def concept_id_of(k: int, concept: object) -> int:
    """Return the number of a concept.

    Raises
    ------
    UserError
        It is none from 0 to k − 1.
    """
    number = _whole(concept)
    if number is None:
        raise UserError(f"a concept is a number from 0 to {k - 1}, this is {_shown(concept)}")
    if not 0 <= number < k:
        raise UserError(f"there is no concept {number}; the run has 0 to {k - 1}")
    return number


def concept_ids_of(k: int, concepts: object) -> list[int]:
    """Return the numbers of one concept, several or none, in the order given."""
    if isinstance(concepts, str) or not isinstance(concepts, Iterable):
        return [concept_id_of(k, concepts)]
    return [concept_id_of(k, each) for each in concepts]


def class_id_of(n_classes: int, class_id: object) -> int:
    """Return the number of a class of the network."""
    number = _whole(class_id)
    if number is None or not 0 <= number < n_classes:
        raise UserError(
            f"a class is a number from 0 to {n_classes - 1}, this is {_shown(class_id)}"
        )
    return number


def count_of(name: str, value: object) -> int:
    """Return how many of something are asked for, as `n_images`.

    Raises
    ------
    UserError
        It is no whole number from 1 upward.
    """
    number = _whole(value)
    if number is None or number < 1:
        raise UserError(f"{option(name)} is a whole number from 1 upward, this is {_shown(value)}")
    return number


def counts_of(name: str, values: object) -> list[int]:
    """Return one count or several, in the order given; see `count_of`."""
    several = values if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    counts = [count_of(name, each) for each in several]
    if not counts:
        raise UserError(f"{name} is one whole number or several, this is {values!r}")
    return counts


def is_known(workspace: Workspace, path: str | Path) -> bool:
    """Say whether a path is that of an image of a run."""
    return _found(workspace, path) is not None


def _by_path(workspace: Workspace, path: str | Path) -> int:
    if (found := _found(workspace, path)) is not None:
        return found
    raise UserError(
        f"there is no image {str(path)!r} in {workspace.folder}; paths are as in the table images,"
        f" such as {workspace.listing.frame['path'].iloc[0]!r}"
    )


def _found(workspace: Workspace, path: str | Path) -> int | None:
    frame = workspace.listing.frame
    for each in _meant(workspace, path):
        found = frame["image_id"][frame["path"] == each]
        if len(found):
            return int(found.iloc[0])
    return None


def _meant(workspace: Workspace, path: str | Path) -> Iterator[str]:
    """Give what a path may be within the dataset, the plainest first."""
    yield str(path)
    yield escape(Path(path).as_posix())
    if isinstance(workspace.source, FolderSource):
        yield from _below(workspace.source.root, Path(path))


def _below(root: Path, path: Path) -> list[str]:
    """Return the path within a dataset of a file of it; links on the way down stay as they are."""
    whole = path.absolute()  # not resolved: an image may be a link itself
    above = [each for each in whole.parents if each.resolve() == root]
    return [escape(whole.relative_to(each).as_posix()) for each in above[:1]]


def _whole(value: object) -> int | None:
    """Return a value as a whole number; None where it is none."""
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return int(value)
        return None


def _shown(value: object) -> str:
    return f"{str(value)[:60]!r} ({type(value).__name__})"
