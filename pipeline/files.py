"""The only module that writes files: each appears whole, under its name, or not at all.

Every writer goes through `publish`: write to a temporary name in the same folder, fsync, rename,
fsync the folder. A reader therefore never meets half a file, whenever the writer was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError

TEMPORARY = ".tmp-"


@contextlib.contextmanager
def publish(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to, then make it durable and rename it to `path`.

    Parameters
    ----------
    path : Path
        Where the finished file shall be; its folder is made where missing.
    durable : bool
        False for one of many small files: it appears whole, but survives a loss of power only
        once `flush` has returned.

    Yields
    ------
    Path
        A name in the same folder; whoever writes there closes the file before the block ends.
        If the block raises, the temporary file is removed and `path` is left as it was.

    Raises
    ------
    UserError
        The folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except PermissionError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path`, whole or not at all; `durable` as for `publish`."""
    with publish(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def flush() -> None:
    """Make durable all that was written: one wait instead of two for each of many files."""
    os.sync()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, keys in their order, no NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_parquet(path: Path, table: pa.Table, row_group_size: int = 131_072) -> None:
    """Write an Arrow table to `path` as Parquet (zstd), whole or not at all."""
    with publish(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=row_group_size)


def write_parquet_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Write tables of one schema to `path` as Parquet (zstd), a row group each, whole or not."""
    with publish(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as to:
        for group in groups:
            to.write_table(group, row_group_size=max(1, len(group)))


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Give a folder inside `folder` for what is needed for a while; it is removed in the end.

    What a killed owner left there is removed first: a folder has one owner at a time.
    """
    for left in folder.glob(f"scratch{TEMPORARY}*"):
        remove(left)
    path = folder / f"scratch{TEMPORARY}{os.getpid()}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        remove(path)


def write_with(path: Path, save: Callable[[Path], object]) -> None:
    """Let a library's own `save(path)` write the file, whole or not at all."""
    with publish(path) as temporary:
        save(temporary)


@contextlib.contextmanager
def write_hdf5(path: Path) -> Iterator[h5py.File]:
    """Give a new HDF5 file to fill; it is published under `path` when the block ends well."""
    with publish(path) as temporary, h5py.File(temporary, "w", libver="v110") as file:
        yield file


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files and folders that a killed writer left under `folder`; name them."""
    left = sorted(folder.rglob(f"*{TEMPORARY}*"))
    for path in left:
        remove(path)
    return left


def check_writable(folder: Path) -> None:
    """Raise `UserError` unless a file can be created in `folder` (made where missing)."""
    probe = folder / f"probe{TEMPORARY}{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; pass another RUN=<folder>"
        ) from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
