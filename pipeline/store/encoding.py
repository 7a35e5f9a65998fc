"""What a file says of itself, written and checked in one place: its type and its version.

A version is ``major.minor``. This code reads the files of its own major version from `oldest` up to
the minor version it writes; what it cannot read it refuses, with both versions.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pyarrow.parquet as pq

from ..errors import UserError
from ..system import checksums
from .contents import Sizes, check_contents

MOST_BYTES, MOST_TIMES = 4 << 30, 100
"""What a file may hold uncompressed: so many bytes, and so many times its own."""

_FOUND: dict[Path, tuple[object, ...]] = {}
"""Files that this process has found to hold what they must, as they and lengths were then."""

SEAL = "sha256"
"""Key of a JSON file under which the digest of everything else in it stands."""


class EncodingError(UserError):
    """A file of another kind, or of a version that is not read; it may be whole all the same."""


class UnreadableError(UserError):
    """A file that is there and cannot be read now: it may be whole all the same."""


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


def seal(encoding: Encoding, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a JSON file of ours holds: what it is, its contents, and the digest of both."""
    said = encoding.stamp() | dict(value)
    return said | {SEAL: _digest(said)}


def read_sealed(path: Path, encoding: Encoding, mend: str = "") -> dict[str, Any]:
    """Read a JSON file of ours and compare it with its digest; files of version 1.0 have none.

    Parameters
    ----------
    path : Path
    encoding : Encoding
        What it must be.
    mend : str
        How it comes back where it is missing or damaged, for the message.

    Raises
    ------
    EncodingError
        It is something else, or of a version that is not read.
    UnreadableError
        It is there and cannot be read now.
    UserError
        It is missing, damaged, or no regular file.
    """
    after = f"; {mend}" if mend else ""
    checksums.check_regular(path)
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
        version = encoding.check(value, path)
        found = value.pop(SEAL, None)
        if found != _digest(value) and not (found is None and version == "1.0"):
            raise ValueError("its contents are not those its digest is of")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} cannot be read ({error.strerror}){after}") from error
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read now: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}){after}") from error
    return value


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def says_type(path: Path) -> str | None:
    """Return what a file says that it is; None where it says nothing, or cannot be read.

    HDF5, Parquet, JSON and TOML are asked; a link or what is no regular file says nothing.
    """
    try:
        checksums.check_regular(path)
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                found = file.attrs.get("encoding-type")
        elif path.suffix == ".parquet":
            metadata = pq.read_schema(path.absolute()).metadata or {}
            found = metadata.get(b"encoding-type", b"").decode()
        else:
            found = _parsed(path).get("encoding-type")
    except (UserError, OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def is_garbled(path: Path) -> bool:
    """Say whether a JSON or TOML file is there and is none, as one that was damaged."""
    try:
        checksums.check_regular(path)
        _parsed(path)
    except (ValueError, RecursionError):
        return True
    except (UserError, OSError):
        return False
    return False


def _parsed(path: Path) -> Any:
    data = path.read_bytes()
    return tomllib.loads(data.decode()) if path.suffix == ".toml" else json.loads(data)


@contextmanager
def open_hdf5(
    path: Path, encoding: Encoding, mend: str = "", sizes: Sizes | None = None
) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; only its reading belongs into the block.

    Parameters
    ----------
    path : Path
    encoding : Encoding
        What it must be.
    mend : str
        How it comes back where it is missing or damaged, for the message.
    sizes : mapping of str to int, optional
        What is read must hold what its kind holds, see `contents`; lengths of axes that are known
        from elsewhere. None: it may hold anything.

    Raises
    ------
    UserError
        It is missing, damaged, or something else, or does not hold what its kind holds.
    """
    after = f"; {mend}" if mend else ""
    checksums.check_regular(path)
    try:
        with h5py.File(path, "r") as file:
            encoding.check(file.attrs, path)
            seen = (checksums.identity(path), None if sizes is None else tuple(sizes.items()))
            if _FOUND.get(path) != seen:
                _check_own(file, path)
                if sizes is not None:
                    check_contents(file, encoding.type, sizes)
                _FOUND[path] = seen
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing{after}") from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        # Whoever reads it meets what is missing or of another type in it with any of these.
        raise UserError(f"{path} is damaged ({error}){after}") from error


def is_of_its_kind(path: Path) -> bool:
    """Say whether an HDF5 file holds what its kind holds, as far as it says so by itself.

    What cannot be opened is not judged: trouble of the disk is no damage.
    """
    try:
        with h5py.File(path, "r") as file:
            _check_own(file, path)
            check_contents(file, str(file.attrs.get("encoding-type")), {})
    except OSError:
        return True
    except (UserError, LookupError, TypeError, ValueError, AttributeError, RuntimeError):
        return False
    return True


def _check_own(file: h5py.File, path: Path) -> None:
    """Refuse what leads out of a file, or would fill the memory: others may have made it."""
    outside: list[str] = []
    n_bytes = 0

    def look_at_link(name: str, link: object) -> None:
        if not isinstance(link, h5py.HardLink):
            outside.append(name)

    def look_at(name: str, node: object) -> None:
        nonlocal n_bytes
        if isinstance(node, h5py.Dataset):
            n_bytes += node.nbytes
            if node.is_virtual or node.external:
                outside.append(name)

    file.visititems_links(look_at_link)
    if not outside:  # else looking at what is linked would open it
        file.visititems(look_at)
    if outside:
        raise UserError(f"{path} is refused: {outside[0]!r} in it leads to another place or file")
    most = MOST_BYTES + MOST_TIMES * path.stat().st_size
    if n_bytes > most:
        raise UserError(
            f"{path} is refused: what is in it would take {n_bytes / 1e9:.1f} GB of memory, for a"
            f" file of its size at most {most / 1e9:.1f}"
        )


def _numbers(version: object) -> tuple[int, int] | None:
    major, dot, minor = str(version).partition(".")
    return (int(major), int(minor)) if dot and major.isdecimal() and minor.isdecimal() else None
