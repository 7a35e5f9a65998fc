"""Arrays of whole numbers in Matlab's files of version 5, and nothing else of them.

scipy's reader ends the process on damaged files: its loops trust the sizes that these state.

Reference: MAT-File Format, MathWorks (chapter 1, level 5).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MATRIX, COMPRESSED = 14, 15
"""Kinds of elements that hold arrays."""

STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
"""NumPy's types of the kinds of elements that hold numbers."""

NUMERIC = range(6, 16)
"""Classes of arrays that hold numbers: double, single, and whole numbers of 8 to 64 bits."""

HEADER, MOST = 128, 1_000_000_000
"""Bytes before the first element, and those that an array has at most."""


def read_matlab(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of real numbers with two axes, of more than a row and a column.

    Raises
    ------
    ValueError
        It is no such file, or is damaged.
    """
    if path.stat().st_size > MOST:
        raise ValueError(f"it has more than {MOST} bytes")
    data = path.read_bytes()
    if data[126:128] not in (b"IM", b"MI"):
        raise ValueError("it is no file of Matlab's version 5 to 7; save it with -v7")
    order = "<" if data[126:128] == b"IM" else ">"
    found = {}
    for kind, contents in _elements(data[HEADER:], order):
        if kind == COMPRESSED:
            kind, contents = next(_elements(_unpacked(contents), order), (0, b""))
        if kind == MATRIX and (named := _array(contents, order)) is not None:
            found[named[0]] = named[1]
    return found


def _unpacked(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, MOST)
    except zlib.error as error:
        raise ValueError(f"an array cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise ValueError(f"an array ends early, or has more than {MOST} bytes")
    return data


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield kind and contents of each element; those of up to four bytes stand in their tags."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:
            yield kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)]
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError(f"it ends within an element of {size} bytes")
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + (0 if kind == COMPRESSED else -size % 8)


def _array(contents: bytes, order: str) -> tuple[str, NDArray[Any]] | None:
    """Return an array and its name; None for what is no array of real numbers with two axes."""
    parts = _elements(contents, order)
    flags, shape, name = (next(parts, (0, b""))[1] for _ in range(3))
    if len(flags) != 8 or len(shape) != 8:
        return None
    (first,) = struct.unpack_from(f"{order}I", flags)
    n_rows, n_columns = struct.unpack(f"{order}ii", shape)
    is_complex, is_numeric = first >> 11 & 1, (first & 0xFF) in NUMERIC
    if is_complex or not is_numeric or min(n_rows, n_columns) < 2:
        return None
    kind, numbers = next(parts, (0, b""))
    if kind not in STORED:
        raise ValueError(f"numbers of kind {kind}")
    values = np.frombuffer(numbers, np.dtype(order + STORED[kind]))
    if len(values) != n_rows * n_columns:
        raise ValueError(f"{len(values)} numbers for {n_rows} × {n_columns}")
    values = values.astype(values.dtype.newbyteorder("="))
    return name.decode("latin-1"), values.reshape(n_columns, n_rows).T
