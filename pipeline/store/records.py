"""Records: what the files of a product must hold, by size and SHA-256, and what it was made from.

A product is a few files that are made in one go: one shard, the bank, all tables, the atlas. Its
record is written once all of them are durable, so that nothing counts as done which is not whole.
What a product was made from is kept by digest: where an input has been made anew and came out the
same, nothing that depends on it needs to be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..system import checksums, files
from .encoding import Encoding, UnreadableError, read_sealed, seal

RECORD = Encoding("concordance.record", "1.1", oldest="1.0")
BEGUN = Encoding("concordance.begun", "1.0")

SITE = frozenset((".html", ".css", ".js", ".jpg", ".png", ".pdf", ".svg"))
"""Endings of files that a site consists of, pages of plug-ins among them."""

Counts = Mapping[str, int | float]
Makes = Callable[[str], bool]
"""Says of a name, relative to a record's folder, whether the product has such files."""


@dataclass(frozen=True)
class Record:
    """What was written, and from what.

    Parameters
    ----------
    files : mapping of str to (int, str)
        Path relative to the record's folder, to size in bytes and SHA-256 in hexadecimal.
    made_from : mapping of str to str
        Name of an input to its digest when the product was made.
    counts : mapping of str to number
        What the stage that made it counted.
    """

    files: Mapping[str, tuple[int, str]]
    made_from: Mapping[str, str] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents, 32 hexadecimal digits; what others are made from."""
        return combine(f"{name} {sha256}" for name, (_, sha256) in sorted(self.files.items()))

    @property
    def n_bytes(self) -> int:
        """Size of all files together."""
        return sum(size for size, _ in self.files.values())

    def is_there(self, folder: Path) -> bool:
        """Say whether every file is there and of its size; contents are not read."""
        return not self._faults(folder, contents=False)

    def damaged(self, folder: Path) -> list[Path]:
        """Return the files that are missing or hold something else, by SHA-256."""
        return self._faults(folder, contents=True)

    def _faults(self, folder: Path, *, contents: bool) -> list[Path]:
        return [
            folder / name
            for name, (size, sha256) in self.files.items()
            if not _is_as(folder, name, size, sha256 if contents else None)
        ]


def combine(digests: Iterable[str]) -> str:
    """Return one digest of several, in their order: 32 hexadecimal digits."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:32]


def write_record(
    path: Path,
    written: Iterable[Path],
    made_from: Mapping[str, str] | None = None,
    counts: Counts | None = None,
) -> Record:
    """Measure durable files, all in the folder of `path` or below it, and publish their record."""
    measured = {
        file.relative_to(path.parent).as_posix(): (file.stat().st_size, checksums.sha256(file))
        for file in sorted(written)
    }
    record = Record(measured, dict(made_from or {}), dict(counts or {}))
    value = {
        "files": {
            name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in measured.items()
        },
        "made_from": record.made_from,
        "counts": record.counts,
    }
    files.write_json(path, seal(RECORD, value))
    return record


def read_record(path: Path, makes: Makes) -> Record | None:
    """Read a record; None where there is none, or none that this version can trust and read.

    A record that cannot be read is as good as none: its product is made again. So is one that
    names what the product does not have, as a path that leads elsewhere: whoever acts on a record
    may overwrite and remove what it names.

    Parameters
    ----------
    path : Path
    makes : callable
        Says which names the product has.

    Raises
    ------
    UnreadableError
        It is there and cannot be read now.
    """
    try:
        value = read_sealed(path, RECORD)
        entries = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in value["files"].items()
        }
        if not all(map(makes, entries)):
            return None
        return Record(entries, dict(value["made_from"]), dict(value["counts"]))
    except UnreadableError:
        raise
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        return None


def check_whole(path: Path, record: Callable[[], Record | None], mend: str = "") -> None:
    """Refuse a file that is not as its record says, the first time this process reads it.

    Parameters
    ----------
    path : Path
        In the folder of its record. Where it is missing, whoever reads it says so.
    record : callable
        Reads the record; with None, or where it does not name the file, nothing is known.
    mend : str
        How the file comes back, for the message.

    Raises
    ------
    UserError
        It holds something else than was written.
    """

    def wanted() -> str | None:
        found = record()
        return None if found is None else found.files.get(path.name, (0, None))[1]

    check_sha256(path, wanted, mend)


def check_sha256(path: Path, wanted: Callable[[], str | None], mend: str = "") -> None:
    """Refuse a file that has not the digest that `wanted` gives; see `check_whole`."""
    checksums.check_regular(path)
    try:
        whole = checksums.is_whole(path, wanted)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not whole:
        after = f"; {mend}" if mend else ""
        raise UserError(f"{path} is damaged (it holds something else than was written){after}")


def is_of_site(name: str) -> bool:
    """Say whether a name may be that of a file of a site: below its folder, of a kind it has."""
    path = PurePosixPath(name)
    inside = path.as_posix() == name and not path.is_absolute() and ".." not in path.parts
    return inside and path.suffix in SITE


def begin(path: Path, names: Iterable[str]) -> None:
    """Note which files are about to be written, so that they are known as ours if we are killed.

    Parameters
    ----------
    path : Path
        The note; it lies where the record will, and is removed when that is there.
    names : iterable of str
        Relative to its folder.
    """
    files.write_json(path, seal(BEGUN, {"files": sorted(names)}))


def read_begun(path: Path, makes: Makes) -> list[str]:
    """Return the names that `begin` noted; none where there is no such note."""
    try:
        names = [str(name) for name in read_sealed(path, BEGUN)["files"]]
    except (UserError, KeyError, TypeError):
        return []
    return [name for name in names if makes(name)]


def _is_as(folder: Path, name: str, size: int, sha256: str | None) -> bool:
    path = folder / name
    try:
        return (
            checksums.is_plain(folder, name)
            and path.stat().st_size == size
            and (sha256 is None or checksums.has_sha256(path, sha256))
        )
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # what is damaged is made again: trouble of the disk is no damage
        raise UnreadableError(f"{path} cannot be read now: {error.strerror}") from error
