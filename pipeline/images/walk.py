"""Image files below a folder, each found once; what else lies there is counted."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from .endings import SUFFIXES
from .names import escape
from .passed_over import is_beside, is_of_programs
from .source import Rejected
from .trouble import patiently

CONFIG, OF_A_RUN = "config.toml", b'encoding-type = "concordance.config"'
"""What stands in the folder of a run, and how that begins. A run may lie within its dataset, as
``runs/`` does where one works in the folder of one's images."""


class Stat(Protocol):
    """What is known of a file: a part of `os.stat_result`."""

    @property
    def st_size(self) -> int:
        """Bytes."""

    @property
    def st_mtime_ns(self) -> int:
        """Time of its last change, nanoseconds since 1970."""


Status = Stat | OSError
"""Of a file; an error where it could not be opened, which may be otherwise another time."""

Found = list[tuple[str, Status]]

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
"""How images begin: files without an ending are told by these."""

OF_FOLDERS, OF_FILES = "folders that programs leave behind", "files that programs leave behind"

LEFT_BY_PROGRAMS = frozenset(("thumbs.db", "desktop.ini", "ehthumbs.db"))


@dataclass
class Below:
    """What lies below a folder.

    Attributes
    ----------
    files : list of (str, Status)
        Of images: their paths, as the file system has them.
    rejected : list of Rejected
        Folders that cannot be read, and pipes called like images.
    others : Counter of str
        Other files, by what they are.
    """

    files: Found = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def walk(root: Path) -> Below:
    """Find image files below `root` once each, whatever the links between its folders.

    A folder that can be reached by a link as well goes by its own path: links come last.
    """
    below = Below()
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
            below.rejected.append(_closed(relative, error))
            continue
        if relative and any(entry.name == CONFIG and _is_of_a_run(entry) for entry in entries):
            continue
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            _sort(below, root, name, entry, folders, links)
    return below


def sort_names(
    found: Sequence[tuple[str, Stat]], begin: Callable[[Sequence[str]], Iterable[bytes]]
) -> Below:
    """Take files of which all names are known for images or something else, as `walk` does.

    Parameters
    ----------
    found : sequence of (str, Stat)
        Relative paths, with ``/``.
    begin : callable
        Gives the first bytes of files: as many as are asked, in their order.
    """
    below = Below()
    runs = _folders_of_runs([path for path, _ in found], begin)
    of_programs, unclear = set[str](), list[tuple[str, Stat]]()
    for path, status in found:
        *folders, name = path.split("/")
        at = next((n for n, each in enumerate(folders) if is_of_programs(each)), None)
        if at is not None:
            of_programs.add("/".join(folders[: at + 1]))
        elif any("/".join(folders[: n + 1]) in runs for n in range(len(folders))):
            continue
        elif _is_left(name):
            below.others[OF_FILES] += 1
        elif _is_image(name):
            below.files.append((path, status))
        elif Path(name).suffix:
            below.others[_ending(name)] += 1
        else:
            unclear.append((path, status))
    if of_programs:
        below.others[OF_FOLDERS] = len(of_programs)
    for each, first in zip(unclear, begin([path for path, _ in unclear]), strict=True):
        if first.startswith(SIGNATURES):
            below.files.append(each)
        else:
            below.others[_ending(each[0])] += 1
    return below


def _folders_of_runs(
    paths: Sequence[str], begin: Callable[[Sequence[str]], Iterable[bytes]]
) -> set[str]:
    """Return the folders below that are those of runs."""
    configs = [path for path in paths if path.endswith(f"/{CONFIG}")]
    firsts = zip(configs, begin(configs), strict=True)
    return {path[: -len(CONFIG) - 1] for path, first in firsts if first.startswith(OF_A_RUN)}


def _ending(name: str) -> str:
    ending = Path(name).suffix.lower()
    return f"ending in {ending}" if ending else "without an ending"


def _sort(
    below: Below,
    root: Path,
    name: str,
    entry: os.DirEntry[str],
    folders: list[str],
    links: deque[str],
) -> None:
    """Take an entry for an image, a folder to look into, or something else."""
    try:
        status = patiently(root / name, entry.stat)
    except OSError as error:
        if _is_image(entry.name):
            below.files.append((name, error))
        elif entry.is_dir(follow_symlinks=False):  # too deep, or not to be looked into
            below.rejected.append(_closed(name, error))
        return
    if stat.S_ISDIR(status.st_mode):
        if is_of_programs(entry.name):
            below.others[OF_FOLDERS] += 1
        else:
            (links if entry.is_symlink() else folders).append(name)
    elif _is_left(entry.name):
        below.others[OF_FILES] += 1
    elif _is_image(entry.name) and not stat.S_ISREG(status.st_mode):
        below.rejected.append(Rejected(escape(name), "not a regular file"))
    elif stat.S_ISREG(status.st_mode):
        if _is_image(entry.name) or _begins_as_one(root / name):
            below.files.append((name, status))
        else:
            below.others[_ending(entry.name)] += 1


def _is_left(name: str) -> bool:
    return is_beside(name) or name.startswith(".") or name.lower() in LEFT_BY_PROGRAMS


def _begins_as_one(file: Path) -> bool:
    """Say whether a file without an ending begins as images do."""
    if file.suffix:
        return False
    try:
        with file.open("rb") as opened:
            return opened.read(8).startswith(SIGNATURES)
    except OSError:
        return False  # it is counted among the others


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
