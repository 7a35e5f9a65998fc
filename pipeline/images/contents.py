"""The contents of image files: read whole, never from what might not end, and their digest."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .limits import MAX_BYTES, DecodeError
from .trouble import UNREADABLE, is_of_the_file


def read_bytes(file: Path) -> bytes:
    """Read the contents of an image file.

    Raises
    ------
    DecodeError
        The file is unreadable, empty, too large, or a pipe or device, which might never end.
    OSError
        The trouble is not the file's, and may pass.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise DecodeError(f"too large: {status.st_size} bytes, at most {MAX_BYTES}")
        if status.st_size == 0:  # so say files of /proc, too, reading which may wait for ever
            raise DecodeError("empty file")
        with file.open("rb") as opened:
            data = opened.read(status.st_size + 1)  # it may grow meanwhile
    except OSError as error:
        raise refusal(error) from error
    if len(data) != status.st_size:
        raise DecodeError(f"{UNREADABLE}: its size changed while it was read")
    return data


def refusal(error: OSError) -> DecodeError:
    """Return the refusal of an image for an error of its file; raise any other error as it is."""
    if not is_of_the_file(error):
        raise error
    if error.errno is None:
        return DecodeError("not an image")
    return DecodeError(f"{UNREADABLE}: {error.strerror}")


def content_digest(contents: bytes | NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an image's contents, in hexadecimal."""
    if isinstance(contents, bytes):
        return hashlib.sha256(contents).hexdigest()
    shape = str((contents.shape, contents.dtype.str)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(contents).tobytes()).hexdigest()
