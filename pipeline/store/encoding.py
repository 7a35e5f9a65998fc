"""What a file says of itself, written and checked in one place: its type and its version.

A version is ``major.minor``. This code reads the files of its own major version from `oldest` up to
the minor version it writes; what it cannot read it refuses, with both versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from ..errors import UserError


class EncodingError(UserError):
    """A file of another kind, or of a version that is not read; it may be whole all the same."""


@dataclass(frozen=True)
class Encoding:
    """A kind of file.

    Attributes
    ----------
    type : str
        As ``concordance.bank``.
    version : str
        What is written.
    oldest : str
        The oldest version of the same major number that is read; by default the one written.
    """

    type: str
    version: str
    oldest: str = ""

    def stamp(self) -> dict[str, str]:
        """Return what a file says of itself."""
        return {"encoding-type": self.type, "encoding-version": self.version}

    def reads(self, version: object) -> bool:
        """Say whether files of a version can be read."""
        oldest, newest = _numbers(self.oldest or self.version), _numbers(self.version)
        found = _numbers(version)
        return (
            found is not None
            and oldest is not None
            and newest is not None
            and (found[0] == newest[0] and oldest[1] <= found[1] <= newest[1])
        )

    def check(self, says: Mapping[str, Any], where: Path) -> str:
        """Return the version of a file that can be read.

        Parameters
        ----------
        says : mapping
            Attributes, metadata or keys of the file.
        where : Path
            The file, for the message.

        Raises
        ------
        EncodingError
            It is another kind of file, or of a version that this code does not read.
        """
        kind, version = says.get("encoding-type"), says.get("encoding-version")
        if kind != self.type or not self.reads(version):
            raise EncodingError(
                f"{where} holds {kind or 'something unknown'} {version or ''}".rstrip()
                + f", not {self.type} {self.range}: it was written by another version or program"
            )
        return str(version)

    @property
    def range(self) -> str:
        """The versions that are read, ``1.0 to 1.2`` or one."""
        return f"{self.oldest} to {self.version}" if self.oldest else self.version


@contextmanager
def open_hdf5(path: Path, encoding: Encoding, mend: str = "") -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : Path
    encoding : Encoding
        What it must be.
    mend : str
        How it comes back where it is missing or damaged, for the message.

    Raises
    ------
    UserError
        It is missing, damaged, or something else.
    """
    after = f"; {mend}" if mend else ""
    try:
        with h5py.File(path, "r") as file:
            encoding.check(file.attrs, path)
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing{after}") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise UserError(f"{path} is damaged ({error}){after}") from error


def _numbers(version: object) -> tuple[int, int] | None:
    major, dot, minor = str(version).partition(".")
    return (int(major), int(minor)) if dot and major.isdecimal() and minor.isdecimal() else None
