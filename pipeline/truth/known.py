"""What is known of a dataset's images: found by name, and read image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, option
from ..images import escape
from .boxes import TAKES, Boxes, read_boxes
from .coco import Annotations, read_coco
from .masks import read_mask
from .names import ENDINGS, Matched, match
from .reading import Kind, Reading, Truth, UnfitError, Values, choose_reading

Entry = Path | Boxes | Annotations
"""A mask's file, boxes, or what a file of COCO says."""

Size = tuple[int, int]

SAMPLED = 64
"""Masks that are read to find what their values mean."""


@dataclass(frozen=True)
class Known:
    """What is known, by the names it goes by; `matched` to the images of a dataset.

    Attributes
    ----------
    where : Path
    entries : mapping of str to Entry
    said : tuple of str
        How it is read, where there are several ways.
    matched : Matched
    reading : Reading
        Of masks.
    """

    where: Path
    entries: Mapping[str, Entry]
    said: tuple[str, ...] = ()
    matched: Matched = field(default_factory=lambda: Matched({}, ()))
    reading: Reading = field(default_factory=Reading)

    def of(self, sizes: Mapping[str, Size], orientation: Callable[[str], int]) -> Known:
        """Find which images something is known of, and how masks are read.

        Parameters
        ----------
        sizes : mapping of str to (int, int)
            Path of each image to its width and height, upright.
        orientation : callable
            From an image's path to EXIF's orientation.

        Raises
        ------
        UserError
            The masks are none, or can be read in several ways.
        """
        matched = match(self.entries, sizes)
        said = list(self.said)
        if matched.by_file_name:
            said.append("folders differ from the dataset's: files are matched by their names alone")
        paths = [path for path in matched.found if isinstance(self._entry(matched, path), Path)]
        reading = choose_reading(self._sampled(matched, paths, sizes, orientation))
        said += reading.said
        return Known(self.where, self.entries, tuple(said), matched, reading)

    def read(self, path: str, size: Size, orientation: Callable[[str], int]) -> Truth:
        """Read what is known of an image of that size (width, height).

        Raises
        ------
        UnfitError
            It cannot be used.
        """
        entry = self._entry(self.matched, path)
        if isinstance(entry, Boxes):
            try:
                return Truth(None, entry.on(*size))
            except ValueError as error:
                raise UnfitError(str(error)) from error
        if isinstance(entry, Annotations):
            return entry.on(*size)
        kind, values = read_mask(entry, size, partial(orientation, path))
        labels, void = self.reading.apply(kind, values)
        return Truth(labels, boxes_of(labels > 0), void)

    def _entry(self, matched: Matched, path: str) -> Entry:
        return self.entries[matched.found[path]]

    def _sampled(
        self,
        matched: Matched,
        paths: Sequence[str],
        sizes: Mapping[str, Size],
        orientation: Callable[[str], int],
    ) -> Iterator[tuple[Kind, Values]]:
        for path in paths[:: max(1, len(paths) // SAMPLED)]:
            entry = self._entry(matched, path)
            assert isinstance(entry, Path)
            try:
                yield read_mask(entry, sizes[path], partial(orientation, path))
            except UnfitError:
                continue  # it is listed when all are read


def find_truth(where: Path) -> Known:
    """List what is known of images.

    Parameters
    ----------
    where : Path
        A folder of masks or label maps named as the images; a table of boxes (CSV or TSV), one a
        row; or a JSON of COCO.

    Raises
    ------
    UserError
        It is none of these, or a row is no box.
    """
    if where.is_dir():
        return Known(where, _masks_below(where))
    if where.suffix.lower() == ".json":
        return Known(where, read_coco(where))
    if not where.exists():
        raise UserError(
            f"{option('masks', where)} does not exist: a folder of masks, a table with {TAKES}, or"
            " a JSON of COCO is expected"
        )
    boxes, said = read_boxes(where)
    return Known(where, boxes, tuple(said))


def _masks_below(where: Path) -> dict[str, Entry]:
    return {
        escape(path.relative_to(where).as_posix()): path
        for path in sorted(where.rglob("*"))
        if path.suffix.lower() in ENDINGS and not path.name.startswith("._") and path.is_file()
    }


def boxes_of(mask: NDArray[np.bool_]) -> list[tuple[float, float, float, float]]:
    """Return the half-open box x0, y0, x1, y1 around each connected region of a mask."""
    from scipy import ndimage

    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    return [
        (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
        for rows, columns in ndimage.find_objects(regions)
    ]
