"""Shards: HDF5 files that each hold several arrays over the same few images, published one by one.

A shard counts as complete once its record (``shard-00007.json``) stands beside it; the record is
written after the shard is durable, so a killed writer leaves no half-done claim.
Arrays have one compressed chunk per image, so that every image can be read alone.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import command
from ..system import files
from . import chunks
from .contents import Sizes
from .encoding import Encoding, open_hdf5
from .records import Record, check_whole, read_record, write_record

ACTIVATIONS = Encoding("concordance.activations", "1.3", oldest="1.0")
HEATMAPS = Encoding("concordance.heatmaps", "1.3", oldest="1.0")

READERS = 2
"""Threads that read ahead: one alone decompresses slower than passes over the data compute."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ShardStore:
    """The shards of one kind in one folder.

    Parameters
    ----------
    folder : Path
        Where the shards lie.
    encoding : Encoding
        What they hold, `ACTIVATIONS` or `HEATMAPS`.
    n_shards : int
        How many there will be.
    sizes : callable, optional
        The shards are a run's and hold what those hold: gives the lengths of axes that are known
        from elsewhere, as of `contents`. Without it they may hold any arrays.
    listed : callable, optional
        Gives the ids of the images that a shard is for, in order: it holds these and no others, but
        for those that could not be read.
    """

    folder: Path
    encoding: Encoding
    n_shards: int
    sizes: Callable[[], Sizes] | None = None
    listed: Callable[[int], Sequence[int]] | None = None

    def path(self, index: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"shard-{index:05d}.h5"

    def record_path(self, index: int) -> Path:
        """Return the file of a shard's record."""
        return self.path(index).with_suffix(".json")

    def record(self, index: int) -> Record | None:
        """Read a shard's record; None where there is none."""
        return read_record(self.record_path(index), self.path(index).name.__eq__)

    def missing(self) -> list[int]:
        """Return the shards that are not there with the size their records say."""
        return [index for index in range(self.n_shards) if not self.is_there(index)]

    def is_there(self, index: int) -> bool:
        """Say whether a shard is there with the size its record says; contents are not read."""
        record = self.record(index)
        return record is not None and record.is_there(self.folder)

    def write(
        self,
        index: int,
        arrays: Mapping[str, NDArray[Any] | chunks.Chunks],
        made_from: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        """Publish a shard and then its record.

        Parameters
        ----------
        index : int
            Which shard.
        arrays : mapping
            Name to array, compressed already or not; the first axis of each is the images of
            the shard.
        made_from : mapping of str to str, optional
            Digests of what the shard was made from, by name.
        **attributes
            Numbers and strings to keep with the shard.
        """
        with files.write_hdf5(self.path(index)) as file:
            file.attrs.update(self.encoding.stamp() | attributes)
            for name, array in arrays.items():
                _write_array(file, name, array)
        write_record(self.record_path(index), [self.path(index)], made_from)

    def read(
        self,
        index: int,
        names: Sequence[str] | None = None,
        image_ids: frozenset[int] | None = None,
        optional: Sequence[str] = (),
        compared: bool = True,
    ) -> Arrays:
        """Read arrays of a shard, all of them or those named; of all its images or of those given.

        With `image_ids`, every array named has a row per image. Those that are `optional` are read
        where they are there: files of earlier versions have fewer. A file that is not `compared`
        with its record first is opened for little, where reading all of it would cost the most.
        """
        with self.open(index, compared=compared) as file:
            rows = None
            if image_ids is not None:
                rows = np.flatnonzero([each in image_ids for each in file["image_id"][()].tolist()])
            wanted = [*(names or _array_names(file)), *(each for each in optional if each in file)]
            return {name: chunks.read(file[name], rows) for name in wanted}

    def shape(self, index: int, name: str) -> tuple[int, ...]:
        """Read the shape of an array of a shard."""
        with self.open(index) as file:
            shape: tuple[int, ...] = file[name].shape
            return shape

    def iterate(
        self, names: Sequence[str] | None = None, image_ids: frozenset[int] | None = None
    ) -> Iterator[Arrays]:
        """Read all shards in order, the next one while the caller works; see `read`.

        Two are read at once while the caller waits.
        """
        with ThreadPoolExecutor(READERS) as readers:
            pending: deque[Future[Arrays]] = deque()
            for index in range(self.n_shards):
                pending.append(readers.submit(self.read, index, names, image_ids))
                if len(pending) == READERS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    @contextlib.contextmanager
    def open(self, index: int, *, compared: bool = True) -> Iterator[h5py.File]:
        """Open a shard for reading; errors say which file and what to do.

        Raises
        ------
        UserError
            The shard is missing, damaged or of another encoding.
        """
        path = self.path(index)
        again = command("discover", run=self.folder.parent)
        mend = f"{again} makes it"
        if not path.exists() and self.record(index) is not None:
            kept = command("discover", run=self.folder.parent, keep="all")
            mend = f"it was made, and lost or not kept: {kept} makes it again"
        if compared:
            check_whole(path, lambda: self.record(index), mend)
        sizes = None if self.sizes is None else self.sizes()
        with open_hdf5(path, self.encoding, mend, sizes) as file:
            if self.listed is not None:
                _check_images(file, self.listed(index))
            yield file

    def damaged(self) -> list[Path]:
        """Return the shards whose contents do not match their records, by SHA-256."""
        bad = []
        for index in range(self.n_shards):
            record = self.record(index)
            if record is None or record.damaged(self.folder):
                bad.append(self.path(index))
        return bad


def stored_size(arrays: Mapping[str, NDArray[Any]]) -> int:
    """Return the bytes that arrays would take in a shard, compressed."""
    with h5py.File("size", "w", driver="core", backing_store=False, libver="v110") as file:
        for name, array in arrays.items():
            _write_array(file, name, array)
        return sum(file[name].id.get_storage_size() for name in _array_names(file))


def _write_array(file: h5py.File, name: str, array: NDArray[Any] | chunks.Chunks) -> None:
    if isinstance(array, chunks.Chunks):
        chunks.write(file, name, array)
    elif array.dtype.kind in "OU":
        chunks.write_texts(file, name, array.tolist())
    elif array.ndim > 1:
        chunks.write(file, name, chunks.compress(array))
    else:
        file.create_dataset(name, data=array)


def _check_images(file: h5py.File, listed: Sequence[int]) -> None:
    """Refuse a shard of other images, or in another order: `ValueError`."""
    left = iter(listed)
    for image_id in file["image_id"][()].tolist():
        if image_id not in left:  # which goes on to it
            raise ValueError(f"image {image_id} is not of this shard, or not in its place")


def _array_names(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(
        lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None
    )
    return names
