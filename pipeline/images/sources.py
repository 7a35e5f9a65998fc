"""Which images a dataset holds: a folder, or a table of paths and labels, becomes a sorted list.

An image is known by its path relative to the dataset (`ImageRecord.path`, with undecodable bytes
percent-escaped) and by an `image_id` derived from that path alone, so that both stay when images
are added or the dataset moves.
"""

from __future__ import annotations

import hashlib
import os
import stat
import urllib.parse
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError, suggest

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
)
"""Endings of files taken for images; what they hold is decided by their contents."""

TABLES = frozenset((".csv", ".tsv", ".parquet"))


@dataclass(frozen=True, order=True)
class ImageRecord:
    """One image of a dataset: its relative path (escaped), id and label (or None).

    Size in bytes and time of the last change (nanoseconds since 1970) of its file tell whether it
    may have been replaced; they are no part of what the image is.
    """

    path: str
    image_id: int
    label: str | None
    size: int = field(default=0, compare=False)
    modified: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Rejected:
    """An input that was refused, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """A dataset: the folder its paths are relative to, its images by path, what was refused."""

    name: str
    root: Path
    images: tuple[ImageRecord, ...]
    rejected: tuple[Rejected, ...]

    def fingerprint(self) -> str:
        """Hash the paths and labels (16 hexadecimal digits); contents are not read."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(repr((image.path, image.label)).encode())
        return digest.hexdigest()[:16]


def list_dataset(where: Path) -> Dataset:
    """List the images of a dataset, sorted by path.

    Parameters
    ----------
    where : Path
        A folder, searched in depth; the first folder below it is an image's label where the
        images stand in folders. Or a CSV, TSV or Parquet table with a column ``path`` (relative to
        the table, or absolute) and, if known, ``label``.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        There is no such dataset, it holds no image, or the table lacks its column.
    """
    if where.is_dir():
        root, rejected, files = where, *_walk(where)
        found = [(path, _folder_label(path), status) for path, status in files]
    elif where.is_file() and where.suffix.lower() in TABLES:
        root = where.parent
        rejected, found = _look_up(root, _read_table(where))
    elif where.exists():
        raise UserError(f"DATASET={where} is neither a folder nor a table ({', '.join(TABLES)})")
    else:
        beside = [entry.name for entry in where.parent.iterdir()] if where.parent.is_dir() else []
        near = suggest(where.name, beside)
        raise UserError(f"DATASET={where} does not exist{'; ' + near if near else ''}")
    unique: dict[str, tuple[str | None, os.stat_result]] = {}
    for path, label, status in sorted(found, key=lambda each: each[0]):
        escaped = escape(path)
        if escaped in unique and escaped != path:
            rejected.append(Rejected(escaped, "its name, escaped, is that of another file"))
        else:
            unique[escaped] = (label, status)
    images = tuple(
        ImageRecord(path, make_image_id(path), label, status.st_size, status.st_mtime_ns)
        for path, (label, status) in sorted(unique.items(), key=lambda item: item[0])
    )
    if not images:
        first = f"; the first refused: {rejected[0].path}: {rejected[0].reason}" if rejected else ""
        raise UserError(
            f"DATASET={where} holds no image; files ending in {', '.join(sorted(SUFFIXES))} are"
            f" looked for, in all folders below it{first}"
        )
    _check_ids(images)
    name = where.resolve().name if where.is_dir() else where.stem
    return Dataset(escape(name), root.resolve(), images, tuple(sorted(rejected, key=repr)))


def make_image_id(path: str) -> int:
    """Derive an image's id (non-negative, below 2⁶³) from its escaped relative path."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1


def unit_hash(image_id: int, seed: int, purpose: str) -> float:
    """Give an image a number in [0, 1) that depends on id, seed and purpose alone."""
    text = f"{purpose}:{seed}:{image_id}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big") / 2**56


def escape(path: str) -> str:
    """Percent-escape the undecodable bytes of a path as the file system gave it.

    A path that has such bytes has its ``%`` escaped too, so that the way back is plain; any other
    path stays as it is.
    """
    if not any(map(_is_undecodable, path)):
        return path
    return "".join(
        f"%{ord(character) - 0xDC00:02X}"
        if _is_undecodable(character)
        else character.replace("%", "%25")
        for character in path
    )


def _is_undecodable(character: str) -> bool:
    return "\udc80" <= character <= "\udcff"


def find_file(root: Path, path: str) -> Path:
    """Return the file of an escaped relative path; the file need not exist.

    Unescaping is tried only where no file bears the literal name, so names with ``%`` are safe.
    """
    literal = root / path
    if "%" not in path or literal.exists():
        return literal
    return root / os.fsdecode(urllib.parse.unquote_to_bytes(path))


Found = list[tuple[str, os.stat_result]]


def _walk(root: Path) -> tuple[list[Rejected], Found]:
    """Find image files below `root` once each, whatever the links between its folders.

    A folder that can be reached by a link as well goes by its own path: links come last.
    """
    found: Found = []
    rejected: list[Rejected] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [""], deque[str]()
    while folders or links:
        relative = folders.pop() if folders else links.popleft()
        try:
            status = (root / relative).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(root / relative), key=lambda entry: entry.name)
        except OSError as error:
            rejected.append(Rejected(escape(relative), f"folder unreadable: {error.strerror}"))
            continue
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            try:
                status = entry.stat()
            except OSError as error:
                if _is_image(entry.name):
                    reason = f"file unreadable: {error.strerror}"
                    rejected.append(Rejected(escape(name), reason))
                continue
            if stat.S_ISDIR(status.st_mode):
                (links if entry.is_symlink() else folders).append(name)
            elif _is_image(entry.name) and stat.S_ISREG(status.st_mode):
                found.append((name, status))
            elif _is_image(entry.name):
                rejected.append(Rejected(escape(name), "not a regular file"))
    return rejected, found


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _look_up(
    root: Path, rows: list[tuple[str, str | None]]
) -> tuple[list[Rejected], list[tuple[str, str | None, os.stat_result]]]:
    """Find the files that a table names."""
    rejected: list[Rejected] = []
    found: list[tuple[str, str | None, os.stat_result]] = []
    for path, label in rows:
        try:
            status = find_file(root, path).stat()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            rejected.append(Rejected(escape(path), f"file unreadable: {reason}"))
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((path, label, status))
        else:
            rejected.append(Rejected(escape(path), "not a regular file"))
    return rejected, found


def _folder_label(path: str) -> str | None:
    first, slash, _ = path.partition("/")
    return escape(first) if slash else None


def _read_table(where: Path) -> list[tuple[str, str | None]]:
    try:
        if where.suffix.lower() == ".parquet":
            table = pd.read_parquet(where)
        else:
            separator = "\t" if where.suffix.lower() == ".tsv" else ","
            table = pd.read_csv(where, sep=separator, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"DATASET={where} cannot be read as a table: {error}") from error
    if "path" not in table:
        raise UserError(
            f"{where} has no column 'path'; it has {', '.join(map(str, table.columns)) or 'none'}"
        )
    return list(_rows(table))


def _rows(table: pd.DataFrame) -> Iterator[tuple[str, str | None]]:
    labels = table["label"] if "label" in table else [None] * len(table)
    for path, label in zip(table["path"], labels, strict=True):
        missing = label is None or label == "" or label != label
        yield str(path), None if missing else str(label)


def _check_ids(images: tuple[ImageRecord, ...]) -> None:
    by_id: dict[int, str] = {}
    for image in images:
        other = by_id.setdefault(image.image_id, image.path)
        if other != image.path:
            raise UserError(f"{other} and {image.path} have the same image_id; rename one")
