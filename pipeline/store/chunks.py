"""Arrays as they lie in files: compressed one chunk per image, in whatever thread has made them.

HDF5 compresses under a lock of its own, one array at a time. A chunk compressed beforehand is the
same bytes, the file is the same file, and the cores share the work. Plain zstd: sparse activations
grow under any shuffle filter.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LEVEL = 1
"""Of zstd. On activations of SqueezeNet and MobileNetV2 level 3 took an eighth longer and made them
1 to 8 % larger; where weights are random, 4 % smaller. Higher ones are only slower."""

_LARGE = 1 << 16
"""Bytes from which an array gets pages of its own: for those of a few images it does not pay."""


@dataclass(frozen=True)
class Chunks:
    """A compressed array.

    Parameters
    ----------
    dtype : dtype
    shape : tuple of int
        Of one image's entry.
    data : tuple of bytes
        A zstd frame per image.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: tuple[bytes, ...]


def compress(array: NDArray[Any]) -> Chunks:
    """Compress an array (images, …), entry by entry; other threads run meanwhile."""
    codec = pa.Codec("zstd", compression_level=LEVEL)
    rows = np.ascontiguousarray(array)
    data = tuple(codec.compress(pa.py_buffer(row), asbytes=True) for row in rows)
    return Chunks(array.dtype, array.shape[1:], data)


def concatenate(parts: Sequence[Chunks]) -> Chunks:
    """Join arrays of the same type along their images, without touching what is in them."""
    data = tuple(chunk for part in parts for chunk in part.data)
    return Chunks(parts[0].dtype, parts[0].shape, data)


def write(file: h5py.File, name: str, chunks: Chunks) -> None:
    """Write a compressed array as a dataset that every reader with the zstd filter can read."""
    shape = (len(chunks.data), *chunks.shape)
    if not np.prod(shape):
        file.create_dataset(name, shape, chunks.dtype)
        return
    dataset = file.create_dataset(
        name, shape, chunks.dtype, chunks=(1, *chunks.shape), **hdf5plugin.Zstd(clevel=LEVEL)
    )
    for index, chunk in enumerate(chunks.data):
        dataset.id.write_direct_chunk((index, *[0] * len(chunks.shape)), chunk)


def read(dataset: h5py.Dataset, rows: NDArray[np.int64] | None = None) -> NDArray[Any]:
    """Read a dataset, or some of its rows; other threads run while it is decompressed.

    Parameters
    ----------
    dataset : Dataset
        Of any kind; those that `write` wrote are read fastest.
    rows : ndarray, optional
        int64, rising: nothing else is read or decompressed.

    Raises
    ------
    OSError
        A chunk is damaged.
    """
    shape = dataset.shape[1:]
    n = len(rows) if rows is not None else dataset.shape[0] if dataset.shape else 0
    if not n or not _is_ours(dataset):
        every: NDArray[Any] = dataset[()]
        return every if rows is None else every[rows]
    codec, dtype, inner = pa.Codec("zstd"), dataset.dtype, (0,) * len(shape)
    size = int(np.prod(shape)) * dtype.itemsize
    found = _own_pages((n, *shape), dtype)
    for at, row in enumerate(range(n) if rows is None else rows.tolist()):
        _, chunk = dataset.id.read_direct_chunk((row, *inner))
        try:
            entry = codec.decompress(chunk, decompressed_size=size)
            found[at] = np.frombuffer(entry, dtype).reshape(shape)
        except ValueError as error:
            raise OSError(f"row {row} of {dataset.name} is damaged: {error}") from error
    return found


def _own_pages(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give an array whose memory, if large, goes back to the system once nothing refers to it.

    Arrays of a shard's size are let go by another thread than the one that made them; allocators
    keep them for that one, and a long job came to hold a fifth more than a short one. Large pages,
    where the system has them, cost a seventh to hand out: a quarter of the time of reading.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    if not hasattr(mmap, "MADV_HUGEPAGE"):  # only Linux has them
        return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a system built without them: small ones do
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)


def _is_ours(dataset: h5py.Dataset) -> bool:
    """Say whether a dataset has a chunk per row, compressed by zstd alone."""
    filters = dataset.id.get_create_plist()
    return bool(
        dataset.chunks == (1, *dataset.shape[1:])
        and filters.get_nfilters() == 1
        and filters.get_filter(0)[0] == hdf5plugin.Zstd.filter_id
    )


def write_texts(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    """Write texts as a dataset of UTF-8, all as wide as the longest, padded by NUL."""
    encoded = np.array([text.encode() for text in texts], dtype=np.bytes_)
    dtype = h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize))
    file.create_dataset(name, data=encoded.astype(dtype))
