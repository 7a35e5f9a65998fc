"""What an error while reading says: of the file, which is refused, or of the machine, which waits.

A disk that does not answer or too many open files are no fault of the image: refused for it, it
would be missing for ever.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from PIL import UnidentifiedImageError

from ..errors import UserError

Read = TypeVar("Read")

UNREADABLE = "file unreadable"
"""How the reason begins where a file could not be opened: such images are tried again."""

OF_THE_FILE = frozenset(
    (
        errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP,
        errno.ENAMETOOLONG,
    )
)  # fmt: skip
"""Errors that are the same however often one tries; all others may pass."""

PAUSES = (0.1, 0.3, 0.9)
"""Seconds between attempts; together no longer than a process may take to end."""

GO_ON = "the same command goes on from here"


def is_of_the_file(error: OSError) -> bool:
    """Say whether an error stays however often one tries; Pillow has one without a number."""
    return error.errno in OF_THE_FILE or isinstance(error, UnidentifiedImageError)


def patiently(what: object, read: Callable[[], Read]) -> Read:
    """Read something, and try again where the trouble may pass.

    Parameters
    ----------
    what : object
        What is read, for the message.
    read : callable
        Does it.

    Raises
    ------
    OSError
        The file's own fault (`OF_THE_FILE`).
    UserError
        The trouble does not pass.
    """
    for pause in PAUSES:
        try:
            return read()
        except OSError as error:
            if is_of_the_file(error):
                raise
        time.sleep(pause)
    try:
        return read()
    except OSError as error:
        if is_of_the_file(error):
            raise
        raise UserError(
            f"{what} could not be read in {len(PAUSES) + 1} attempts:"
            f" {error.strerror or str(error) or type(error).__name__}; see to the disk, the network"
            f" or what else reads, then {GO_ON}"
        ) from error
