"""A folder of images, searched in depth; the first folder below it is an image's label."""

from __future__ import annotations

import os
import stat
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path

from ..errors import UserError, option
from .contents import read_bytes, refusal
from .source import ImageRecord, Rejected, make_record
from .trouble import patiently

SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm",
        ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx",
    )
)  # fmt: skip
"""Endings of files taken for images; what they hold is decided by their contents."""

CONFIG, OF_A_RUN = "config.toml", b'encoding-type = "concordance.config"'
"""What stands in the folder of a run, and how that begins. A run may lie within its dataset, as
``runs/`` does where one works in the folder of one's images."""

Status = os.stat_result | OSError
"""Of a file; an error where it could not be opened, which may be otherwise another time."""

Found = list[tuple[str, Status]]
Labelled = list[tuple[str, str | None, Status]]


class FolderSource:
    """Image files below a folder; see `pipeline.images.source.DatasetSource`."""

    def __init__(self, root: Path, name: str | None = None) -> None:
        self.root = root.resolve()
        self.name = escape(self.root.name) if name is None else name

    @property
    def where(self) -> str:
        """The folder, absolute."""
        return str(self.root)

    def images(self) -> Iterator[ImageRecord | Rejected]:
        """List the image files below the folder."""
        rejected, files = _walk(self.root)
        found = [(path, _folder_label(path), status) for path, status in files]
        if not found and not rejected:
            raise UserError(
                f"{option('dataset', self.root)} holds no image; files ending in"
                f" {', '.join(sorted(SUFFIXES))} are looked for, in all folders below it"
            )
        yield from rejected
        yield from records(found)

    def read(self, image: ImageRecord) -> bytes:
        """Read an image's file."""
        return read_bytes(self.file(image.path))

    def outside(self, images: Iterable[ImageRecord]) -> list[tuple[str, Path]]:
        """Return the images whose files lie outside the folder, and where: by links, or as told."""
        real = cache(os.path.realpath)
        found = []
        for image in images:
            file = self.file(image.path)
            parent = real(file.parent)
            where = Path(os.path.realpath(file) if file.is_symlink() else parent) / ""
            if not where.is_relative_to(self.root):
                found.append((image.path, Path(os.path.realpath(file))))
        return found

    def file(self, path: str) -> Path:
        """Return the file of an image, given its path within the dataset."""
        return find_file(self.root, path)


def open_folder(where: str) -> FolderSource:
    """Open a folder of images, which need not be there any more."""
    return FolderSource(Path(where))


def records(found: Labelled) -> Iterator[ImageRecord | Rejected]:
    """Describe files by their escaped paths; of two that are escaped alike one is refused.

    Files that cannot be opened are images too, for another time; but not where there are no others.
    """
    unique: dict[str, tuple[str | None, Status]] = {}
    for path, label, status in sorted(found, key=lambda each: each[0]):
        escaped = escape(path)
        if escaped in unique and escaped != path:
            yield Rejected(escaped, "its name, escaped, is that of another file")
        else:
            unique[escaped] = (label, status)
    is_any_there = any(isinstance(status, os.stat_result) for _, status in unique.values())
    for path, (label, status) in unique.items():
        if isinstance(status, os.stat_result):
            yield make_record(path, label, status.st_size, status.st_mtime_ns)
        elif is_any_there:
            yield make_record(path, label)
        else:
            yield Rejected(path, str(refusal(status)))


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
            folder = root / relative
            status = patiently(folder, folder.stat)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = patiently(folder, partial(_entries, folder))
        except OSError as error:
            rejected.append(_closed(relative, error))
            continue
        if relative and any(entry.name == CONFIG and _is_of_a_run(entry) for entry in entries):
            continue
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            try:
                status = patiently(root / name, entry.stat)
            except OSError as error:
                if _is_image(entry.name):
                    found.append((name, error))
                elif entry.is_dir(follow_symlinks=False):  # too deep, or not to be looked into
                    rejected.append(_closed(name, error))
                continue
            if stat.S_ISDIR(status.st_mode):
                (links if entry.is_symlink() else folders).append(name)
            elif _is_image(entry.name) and stat.S_ISREG(status.st_mode):
                found.append((name, status))
            elif _is_image(entry.name):
                rejected.append(Rejected(escape(name), "not a regular file"))
    return rejected, found


def _closed(folder: str, error: OSError) -> Rejected:
    return Rejected(escape(folder), f"folder unreadable: {error.strerror}")


def _is_of_a_run(config: os.DirEntry[str]) -> bool:
    """Say whether a folder is that of a run: its pictures are ours, and no images of a dataset."""
    try:
        status = config.stat()
        if not stat.S_ISREG(status.st_mode):
            return False
        with Path(config.path).open("rb") as file:
            return file.read(len(OF_A_RUN)) == OF_A_RUN
    except OSError:
        return False  # what cannot be read is no reason to leave images out


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _folder_label(path: str) -> str | None:
    first, slash, _ = path.partition("/")
    return escape(first) if slash else None
