"""NumPy's files as datasets: ``.npy`` with images along the first axis, ``.npz`` with several such.

In an ``.npz`` arrays are paired by what they are called: ``train_images`` and ``train_labels`` as
MedMNIST has them, ``x_test`` and ``y_test`` as Keras does. Images are read one by one.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import UserError, option
from ..layout import SPLITS
from ..limits import MAX_PIXELS, DecodeError
from ..names import escape
from ..trouble import GO_ON
from .items import Item, Label, Part, Refused, safe
from .labels import label_of
from .pixels import CHANNELS, Pixels, contents_of, to_file
from .source import SpooledSource
from .store import Spool, find, find_latest, folder_of, spool

KIND = "numpy"
DAMAGE = (
    ValueError, TypeError, EOFError, OSError, LookupError, OverflowError, SyntaxError,
    RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What is raised of files that are not as they should be: headers are texts of Python."""


@dataclass(frozen=True)
class Array:
    """An array in a file: what it is called there, its type, shape and order."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool

    @property
    def split(self) -> str | None:
        """The split that its name says."""
        words = re.split(r"[^a-z]+", self.name.lower())
        return next((SPLITS[word] for word in words if word in SPLITS), None)


class NumpyRecipe:
    """See `pipeline.images.spooled.source.Recipe`."""

    def __init__(self, where: str) -> None:
        self.where = os.path.abspath(os.path.expanduser(where))  # noqa: PTH100, PTH111, as text
        self._path = Path(self.where)
        self._origin = f"{KIND}:{self.where}"

    @property
    def name(self) -> str:
        """The name of the file."""
        return escape(self._path.stem)

    def known(self) -> Spool | None:
        """Find what was spooled last."""
        return find_latest(self._origin)

    def spool(self) -> Spool:
        """Spool the file as it is now."""
        if not self._path.is_file():
            known = self.known()
            if known is None:
                raise UserError(f"{option('dataset', self.where)} does not exist")
            return known
        status = self._path.stat()
        state = [status.st_size, status.st_mtime_ns]
        folder = folder_of(self.name, self._origin, state)
        if (known := find(folder)) is not None:
            return known
        try:
            parts = _parts(self._path)
        except DAMAGE as error:
            raise UserError(
                f"{option('dataset', self.where)} cannot be read as arrays of NumPy: {error}"
            ) from error
        return spool(folder, self.name, self._origin, parts)


def open_numpy(where: str) -> SpooledSource:
    """Open a file of NumPy's with images."""
    return SpooledSource(NumpyRecipe(where))


def _parts(path: Path) -> list[Part]:
    found = _headers(path)
    images = [each for each in found if _holds_images(each)]
    if not images:
        said = ", ".join(f"{each.name} {each.dtype} {each.shape}" for each in found) or "nothing"
        raise UserError(
            f"{option('dataset', path)} has no array of images, (n, height, width, 3) or"
            f" (n, height, width); it has {said}"
        )
    return [
        Part(
            name=safe(each.name) or "images",
            items=partial(_items, path, each, _labels(path, each, found)),
            n_images=each.shape[0],
            n_bytes=math.prod(each.shape) * each.dtype.itemsize,
        )
        for each in images
    ]


def _holds_images(array: Array) -> bool:
    if array.dtype.kind not in "biuf" or len(array.shape) not in (3, 4):
        return False
    sides = array.shape[1:] if len(array.shape) == 3 else _sides(array.shape[1:])
    if sides is None or min(sides) <= CHANNELS[-1]:
        return False
    return math.prod(sides) <= MAX_PIXELS and array.shape[0] > 0


def _sides(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if shape[2] in CHANNELS:
        return shape[:2]
    return shape[1:] if shape[0] in CHANNELS else None


def _labels(path: Path, images: Array, found: list[Array]) -> Iterable[Label]:
    """Return the labels that belong to an array of images: as many, of the same split."""
    fitting = [
        each
        for each in found
        if each.shape in ((images.shape[0],), (images.shape[0], 1))
        and each.split == images.split
        and each.dtype.kind in "biufUS"
    ]
    if len(fitting) != 1:
        return itertools.repeat(None, images.shape[0])
    with np.load(path, allow_pickle=False) as file:
        return [label_of(each) for each in file[fitting[0].name].reshape(-1)]


def _headers(path: Path) -> list[Array]:
    """Return the arrays of a file; none is loaded, and none of objects, which would be code."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return [_header("images", file)]
    with zipfile.ZipFile(path) as archive:
        found = []
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as member:
                    found.append(_header(name.removesuffix(".npy"), member))
        return found


def _header(name: str, file: IO[bytes]) -> Array:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    return Array(name, dtype, shape, is_fortran)


def _items(path: Path, array: Array, labels: Iterable[Label]) -> Iterator[Item | Refused]:
    images = _each(path, array)
    for index, label in enumerate(labels):
        at = f"image {index}"
        try:
            contents = contents_of(next(images))
        except DecodeError as error:
            yield Refused(at, str(error))
            continue
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise UserError(
                    f"{path} could not be read: {error}; see to it, then {GO_ON}"
                ) from error
            yield Refused(f"{at} on", f"the file is damaged: {error}")
            return
        assert isinstance(contents, Pixels)
        yield Item(at, to_file(contents), None, label, array.split)


def _each(path: Path, array: Array) -> Iterator[Any]:
    """Yield the images of an array, one in memory at a time where the file's order allows it."""
    if path.suffix.lower() == ".npy":
        yield from np.load(path, mmap_mode="r", allow_pickle=False)
        return
    if array.is_fortran:
        with np.load(path, allow_pickle=False) as file:
            yield from file[array.name]
        return
    shape = array.shape[1:]
    n_bytes = math.prod(shape) * array.dtype.itemsize
    with zipfile.ZipFile(path) as archive, archive.open(f"{array.name}.npy") as member:
        _header(array.name, member)
        for index in range(array.shape[0]):
            data = member.read(n_bytes)
            if len(data) != n_bytes:
                raise EOFError(f"it ends within image {index}")
            yield np.frombuffer(data, array.dtype).reshape(shape)
