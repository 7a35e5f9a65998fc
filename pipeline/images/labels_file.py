"""Labels in a table beside the images: ``labels.csv``, or ``metadata.csv`` of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from ..errors import UserError
from .manifest import ENDINGS, Normal, TableFile, path_below, read_manifest

FILES = tuple(f"{name}{ending}" for name in ("labels", "metadata") for ending in ENDINGS)
"""What such a file is called; the first there is counts."""


@dataclass(frozen=True)
class Said:
    """What a file says: labels and split of images by their paths."""

    file: str
    of: Mapping[str, tuple[tuple[str, ...], str | None]]


def read_labels_beside(folder: Path) -> Said | None:
    """Read the labels beside images; None where there are none.

    Raises
    ------
    UserError
        There is such a file with a column of labels, and it cannot be read or says two things.
    """
    files = {name: folder / name for name in FILES if (folder / name).is_file()}
    return read_labels(files, partial(path_below, folder))


def read_labels(files: Mapping[str, TableFile], normal: Normal) -> Said | None:
    """Read the first of tables that has labels; None where none has.

    Parameters
    ----------
    files : mapping of str to file
        By their names, in their order.
    normal : callable
        Gives an image's path within the dataset for what stands in a table.

    Raises
    ------
    UserError
        As of `read_labels_beside`.
    """
    for name, where in files.items():
        try:
            found = read_manifest(where, normal)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{where} cannot be read as a table of labels: {error}") from error
        if "label" in found.columns:
            return Said(name, {path: (labels, split) for path, labels, split in found.rows})
    return None
