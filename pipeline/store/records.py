"""Records: what the files of a product must hold, by size and SHA-256, and what it was made from.

A product is a few files that are made in one go: one shard, the bank, all tables, the atlas. Its
record is written once all of them are durable, so that nothing counts as done which is not whole.
What a product was made from is kept by digest: where an input has been made anew and came out the
same, nothing that depends on it needs to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..system import files
from .encoding import Encoding

RECORD = Encoding("concordance.record", "1.0")

Counts = Mapping[str, int | float]


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
            if not _is_as(folder / name, size, sha256 if contents else None)
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
        file.relative_to(path.parent).as_posix(): (file.stat().st_size, files.sha256(file))
        for file in sorted(written)
    }
    record = Record(measured, dict(made_from or {}), dict(counts or {}))
    value = {
        **RECORD.stamp(),
        "files": {
            name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in measured.items()
        },
        "made_from": record.made_from,
        "counts": record.counts,
    }
    files.write_json(path, value)
    return record


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none, or none that this version can read.

    A record that cannot be read is as good as none: its product is made again.
    """
    try:
        value = json.loads(path.read_bytes())
        if value["encoding-type"] != RECORD.type or not RECORD.reads(value["encoding-version"]):
            return None
        entries = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in value["files"].items()
        }
        return Record(entries, dict(value["made_from"]), dict(value["counts"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_as(path: Path, size: int, sha256: str | None) -> bool:
    try:
        return path.stat().st_size == size and (sha256 is None or files.sha256(path) == sha256)
    except OSError:
        return False
