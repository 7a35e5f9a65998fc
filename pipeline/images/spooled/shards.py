"""Files that hold images in rows: whether one does, and which of a folder do."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..endings import SUFFIXES
from .columns import candidates, first_value

PARQUET, ARROW = ".parquet", (".arrow", ".feather")
ENDINGS = (PARQUET, *ARROW)

REMEMBERED = ("cache-", "tmp", ".")
"""How files begin that Hugging Face keeps beside a dataset for itself."""


def hold_images(path: Path) -> bool:
    """Say whether a file holds images in rows, or a folder such files and no image files."""
    if path.is_dir():
        return bool(shards_below(path))
    ending = path.suffix.lower()
    return ending in ARROW or (ending == PARQUET and _has_images(path))


def shards_below(folder: Path) -> list[Path]:
    """Return the files of images in rows below a folder; none where image files lie there too."""
    found: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        endings = {Path(name).suffix.lower() for name in names}
        if endings & SUFFIXES:
            return []
        if endings & {*ENDINGS}:
            found += [Path(where, name) for name in sorted(names) if _is_shard(name)]
    return found if any(hold_images(each) for each in found[:1]) else []


def _has_images(path: Path) -> bool:
    """Say whether a Parquet file has a column of images' contents, or of several in a row."""
    try:
        with pq.ParquetFile(path.absolute()) as file:
            found = candidates(file.schema_arrow, lambda name: first_value(file, name))
            return any(found)
    except (OSError, ValueError, pa.ArrowException):
        return False  # whoever reads it says what is wrong


def _is_shard(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.startswith(REMEMBERED)
