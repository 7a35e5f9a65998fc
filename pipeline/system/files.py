"""The only module that writes files: each appears whole, under its name, or not at all.

Every writer goes through `publish`: write to a temporary name in the same folder, fsync, rename,
fsync the folder. A reader therefore never meets half a file, whenever the writer was killed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import socket
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError, option
from ..escape import visible
from .checksums import note_whole
from .progress import say

try:
    import fcntl
except ImportError as error:  # Windows
    raise UserError("Concordance runs on Linux and macOS, and on Windows within WSL2") from error

TEMPORARY = ".concordance-tmp-"
"""What stands between a file's name and the process id while it is written: nobody else's."""

_LEFTOVER = re.compile(re.escape(TEMPORARY) + r"\d+$")

HDF5_STEP = 1 << 22
"""By so many bytes the memory of an HDF5 file grows: seldom, for a shard of tens of megabytes."""

ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EIO: "the disk may be failing: see to it",
    errno.EROFS: "the disk is read-only: see to it",
}
"""What can be done about a failed write, by its number."""

NOT_OFFERED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, 524}
"""How file systems say that they do not have a call; 524 is what Linux's NFS says, and no name."""


UNLINKABLE = frozenset(
    (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, *NOT_OFFERED)
)
"""How file systems say that a file can have no second name there."""


@contextlib.contextmanager
def publish(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to, then make it durable and rename it to `path`.

    Parameters
    ----------
    path : Path
        Where the finished file should be; its folder is made where missing.
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
        The disk is full or failing, or the folder cannot be written to; or the name is that of a
        device or pipe, such as /dev/null, which a file would take the place of for everybody.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is no regular file")
    temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        note_whole(path)
        if durable:
            _sync(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # what failed is on its way
            temporary.unlink()
        if isinstance(error, OSError):
            raise _explain(path, error) from error
        raise


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path`, whole or not at all; `durable` as for `publish`."""
    with publish(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def flush() -> None:
    """Make durable all that was written: one wait instead of two for each of many files."""
    if hasattr(os, "sync"):
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
        pq.write_table(table, _plain(temporary), compression="zstd", row_group_size=row_group_size)


def write_parquet_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Write tables of one schema to `path` as Parquet (zstd), a row group each, whole or not."""
    with (
        publish(path) as temporary,
        pq.ParquetWriter(_plain(temporary), schema, compression="zstd") as to,
    ):
        for group in groups:
            if len(group):
                to.write_table(group, row_group_size=len(group))


def _plain(path: Path) -> Path:
    """Return a path that Arrow takes as it is: at a beginning, ``~`` and ``name:`` tell it more."""
    return path.absolute()


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Give a folder inside `folder` for what is needed for a while; it is removed in the end.

    What a killed owner left there is removed first: a folder has one owner at a time.
    """
    for left in leftovers(folder):
        if left.name.startswith(f"scratch{TEMPORARY}"):
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
    """Give a new HDF5 file to fill; it is published under `path` when the block ends well.

    It is filled in memory and written in one go: an HDF5 file that meets a full disk cannot be
    closed any more, and takes the process with it.
    """
    with h5py.File(
        path.name, "w", driver="core", backing_store=False, block_size=HDF5_STEP, libver="v110"
    ) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    write_bytes(path, image)


@contextlib.contextmanager
def write_tar(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Give a function that adds a file, its name and contents, to a new tar file.

    It is published under `path` when the block ends well. The same files make the same bytes:
    nothing is said of owners and times.
    """
    with (
        publish(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive,
    ):

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            archive.members = []  # type: ignore[attr-defined]  # of which it would keep all

        yield add


def move(path: Path, target: Path) -> None:
    """Give a finished file another place on the same disk, whole or not at all."""
    try:
        path.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise _explain(target, error) from error


def link(path: Path, target: Path) -> bool:
    """Give a finished file a second name, on the same disk; say whether that is possible there.

    What stands at `target` is replaced. A file of two names is never changed in place: whoever
    writes anew gives one of the names to another file.
    """
    try:
        with publish(target) as temporary:
            temporary.hardlink_to(path)
    except UserError as error:
        known = isinstance(error.__cause__, OSError) and error.__cause__.errno in UNLINKABLE
        if known:
            return False
        raise
    return True


def copy(path: Path, target: Path) -> None:
    """Copy a finished file, whole or not at all."""
    with publish(target) as temporary:
        shutil.copyfile(path, temporary)


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def leftovers(folder: Path, *, deep: bool = True) -> list[Path]:
    """Return what writers have, or killed ones had, in `folder`; and below it, if `deep`."""
    found: list[Path] = []
    for where, folders, names in os.walk(folder):
        ours = [name for name in (*folders, *names) if _LEFTOVER.search(name)]
        found += [Path(where, name) for name in ours]
        folders[:] = [name for name in folders if deep and name not in ours]
    return sorted(found)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what `leftovers` finds; return it."""
    left = leftovers(folder)
    for path in left:
        remove(path)
    return left


def remove_empty_above(path: Path, root: Path) -> None:
    """Remove the folders of a removed file up to `root`, which stays, while nothing is in them."""
    folder = path.parent
    while folder != root and remove_empty(folder):
        folder = folder.parent


def remove_empty(folder: Path) -> bool:
    """Remove a folder if nothing is in it; say whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def check_writable(folder: Path, instead: str | None = None) -> None:
    """Raise `UserError` unless a file can be created in `folder` (made where missing).

    The text says what to do instead: to pass another ``RUN``, if nothing is said here.
    """
    probe = folder / f"probe{TEMPORARY}{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        if error.errno in ADVICE:
            raise _explain(probe, error) from error
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error};"
            f" {instead or 'pass another ' + option('run')}"
        ) from error


@contextlib.contextmanager
def lock(path: Path, what: object, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock on a file while the block runs; it ends with the process, however that ends.

    The file stays, and says who held the lock last. Two holders in one process exclude each other
    too. On a file system without locks nobody is excluded, and that is said once.

    Parameters
    ----------
    path : Path
        The file; made where missing.
    what : object
        What is locked, for the message.
    shared : bool
        Others may share it, who ask for no more either.
    wait : bool
        Wait until it is free; otherwise that is an error.

    Raises
    ------
    UserError
        Another process holds the lock, and the text names it; or there may be none.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise _explain(path, error) from error
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        _take(descriptor, kind if wait else kind | fcntl.LOCK_NB, what, path)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        with contextlib.suppress(OSError):  # the lock is held; its label is a courtesy
            os.pwrite(descriptor, f"{holder:<120}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append one line with the time to a log; a log that cannot be written holds nothing up."""
    stamped = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()} {visible(line)}\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with contextlib.suppress(OSError), os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        file.write(stamped.encode())


def _take(descriptor: int, kind: int, what: object, path: Path) -> None:
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError as error:
        raise UserError(
            f"{what} is being written by {_holder(descriptor)}:"
            f" wait until it has ended, or pass another {option('run')}"
        ) from error
    except OSError as error:
        if error.errno not in {errno.ENOLCK, *NOT_OFFERED}:
            reason = error.strerror or str(error)
            raise UserError(
                f"cannot lock {path}: {reason}; pass another {option('run')}"
            ) from error
        _say_unlocked(path.parent)


def _holder(descriptor: int) -> str:
    try:
        said = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
    except OSError:  # where locks bind everybody, as on SMB
        said = ""
    return said or "another process"


@cache
def _say_unlocked(folder: Path) -> None:
    say(
        f"warning    the disk of {folder} has no locks: see to it yourself that no two processes"
        " write there at one time"
    )


def _explain(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    advice = ADVICE.get(error.errno or 0)
    then = f" ({advice}, then give the same command again: it goes on from here)" if advice else ""
    return UserError(f"cannot write {path}: {reason}{then}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync_fully(descriptor)
    except OSError as error:
        # Some network file systems have no such call, for folders in particular.
        if error.errno not in {errno.EINVAL, *NOT_OFFERED}:
            raise
    finally:
        os.close(descriptor)


def _sync_fully(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves data in the disk's own memory
        with contextlib.suppress(OSError):  # which a network disk has none of
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)
