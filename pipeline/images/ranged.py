"""Files any part of which can be read: of this machine, and from elsewhere by ranges."""

from __future__ import annotations

import io
import os
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

from . import elsewhere
from .trouble import patiently
from .urls import ending_of

LEAST, MOST = 1_024, 262_144
"""Bytes that are fetched at once while a file is looked through. Headers of members lie far apart
and are short; what is read in a row comes in ever larger pieces."""

SHARE = 8
"""What is fetched at a place is at most this part of what was jumped over on the way there, so
that of an archive's images little comes along with its headers."""


class Ranged(Protocol):
    """A file any part of which can be read; several threads may at once."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def modified(self) -> int:
        """Its last change, nanoseconds since 1970; or a number that changes with its contents."""

    def read_at(self, offset: int, n: int) -> bytes:
        """Read `n` bytes from `offset` on, fewer where the file ends."""

    def look_through(self) -> IO[bytes]:
        """Open it to find out what is where."""


class LocalFile:
    """A file of this machine; see `Ranged`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size

    @property
    def modified(self) -> int:
        """Its last change, nanoseconds since 1970."""
        return self.path.stat().st_mtime_ns

    def read_at(self, offset: int, n: int) -> bytes:
        """Read a part."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(n)

    def look_through(self) -> IO[bytes]:
        """Open it."""
        return self.path.open("rb")


class RemoteFile:
    """A file that lies elsewhere; see `Ranged`. As a table it is opened as a `Path` is."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    @cached_property
    def facts(self) -> elsewhere.Facts:
        """Its size and last change, when first asked for."""
        return patiently(self.url, lambda: elsewhere.look_up(self.url))

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.facts.st_size

    @property
    def modified(self) -> int:
        """Its last change, or a number that changes with its contents."""
        return self.facts.st_mtime_ns

    @property
    def suffix(self) -> str:
        """How its name ends."""
        return ending_of(self.url)

    def read_at(self, offset: int, n: int) -> bytes:
        """Read a part."""
        return elsewhere.read_part(self.url, offset, n, self.size)

    def look_through(self) -> IO[bytes]:
        """Open it; what was read last alone is kept."""
        return io.BufferedReader(_Pieces(self), 512)

    def stat(self) -> elsewhere.Facts:
        """Return its size and last change."""
        return self.facts

    def is_file(self) -> bool:
        """Ask whether it is there; what hinders that is raised when it is read."""
        return True

    def open(
        self, mode: str = "r", *, encoding: str | None = None, newline: str | None = None
    ) -> Any:
        """Open it as a text, or as bytes where the mode is ``rb``; it is read whole."""
        data = io.BytesIO(patiently(self.url, lambda: elsewhere.read(self.url)))
        return data if mode == "rb" else io.TextIOWrapper(data, encoding, newline=newline)


class _Pieces(io.RawIOBase):
    """The bytes of a remote file, fetched where they are read, a little more at once."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at = file, 0
        self._start, self._piece = 0, b""
        self._wanted = LEAST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, self._file.size)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, into: Any) -> int:
        end = self._start + len(self._piece)
        if not self._start <= self._at < end:
            jumped = self._at - end
            much = 2 * self._wanted if 0 <= jumped < LEAST else jumped // SHARE
            self._wanted = min(max(LEAST, much), MOST if jumped < LEAST else 4 * LEAST)
            n = max(len(into), self._wanted)
            self._start = self._at
            self._piece = patiently(self._file, lambda: self._file.read_at(self._at, n))
        begin = self._at - self._start
        some = self._piece[begin : begin + len(into)]
        into[: len(some)] = some
        self._at += len(some)
        return len(some)
