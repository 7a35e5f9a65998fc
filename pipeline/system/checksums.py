"""Files before they are read: regular ones, where they should be, that hold what was written."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError

_WHOLE: dict[Path, tuple[int, ...]] = {}
"""Files that this process has written, or compared with their digests, as they were then."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path, sha256_: Callable[[], str | None]) -> bool:
    """Say whether a file holds what was written; it is read once a process, while it stays.

    Parameters
    ----------
    path : Path
        The file; what this process wrote itself is not read again.
    sha256_ : callable
        Gives the digest it should have, where it has to be asked for; None: nothing is known.

    Raises
    ------
    OSError
        It cannot be read.
    """
    if _WHOLE.get(path) == identity(path):
        return True
    wanted = sha256_()
    return wanted is None or has_sha256(path, wanted)  # it may be known another time


def has_sha256(path: Path, wanted: str) -> bool:
    """Read a file, and say whether it has a digest; if so it need not be read again."""
    before = identity(path)
    if sha256(path) != wanted:
        return False
    _WHOLE[path] = before
    return True


def note_whole(path: Path) -> None:
    """Note that this process has written a file: it is not read again to be compared."""
    _WHOLE[path] = identity(path)


def identity(path: Path) -> tuple[int, ...]:
    """Return what changes whenever a file is written, or another takes its place."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_plain(root: Path, name: str) -> bool:
    """Say whether a name of POSIX parts is a regular file below a folder, no link on the way."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        return False
    try:
        modes = [(root / Path(*parts[: n + 1])).lstat().st_mode for n in range(len(parts))]
    except OSError:
        return False
    return all(map(stat.S_ISDIR, modes[:-1])) and stat.S_ISREG(modes[-1])


def check_regular(path: Path) -> None:
    """Refuse a link, pipe or device where a file of ours should be: reading might never end.

    Raises
    ------
    UserError
        It is there, and no regular file.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # whoever reads it says so
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
        raise UserError(f"{path} is {kind}, which no file of a run is; remove it")
