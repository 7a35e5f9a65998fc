"""Folders of spooled datasets: written once, found again, never taken for whole before they are.

A folder holds a tar file for each part of a dataset, in the layout of WebDataset, a record beside
each, and ``dataset.json``, which is written last: only with that, and with tar files as long as the
records say, it counts. A part that is whole is not written again when a killed job is repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import checkout
from ...errors import UserError, option
from ...system import files
from ...system.progress import bar, say
from ..source import Rejected, Remark
from .items import PER_IMAGE, Names, Part, Refused, ending_of, refusal_of, safe

VARIABLE = "CONCORDANCE_SPOOL"
"""Environment variable of the folder that datasets are spooled into, where it is another."""

RECORD = "dataset.json"
VERSION = 1

RESERVE = 500_000_000
"""Bytes that are left free on the disk."""

LOOK = 64_000_000
"""Bytes written between two looks at what is free."""

HOPELESS = 100
"""So many images at the beginning that cannot be used: then the others are not asked for."""


@dataclass(frozen=True)
class Spool:
    """A dataset that was spooled.

    Attributes
    ----------
    folder : Path
    name : str
        What the dataset is called.
    parts : tuple of str
        Names of the tar files without ``.tar``.
    n_images : int
    told : tuple of Rejected or Remark
        What the user is told whenever it is listed.
    """

    folder: Path
    name: str
    parts: tuple[str, ...]
    n_images: int
    told: tuple[Rejected | Remark, ...]

    @property
    def archives(self) -> dict[str, Path]:
        """The tar files by name."""
        return {f"{part}.tar": self.folder / f"{part}.tar" for part in self.parts}


def root() -> Path:
    """Return the folder in which datasets are spooled."""
    elsewhere = os.environ.get(VARIABLE)
    if elsewhere:
        return Path(elsewhere).expanduser().absolute()
    return checkout.folder("data") / "spooled"


def folder_of(name: str, origin: str, state: Sequence[object]) -> Path:
    """Name the folder of a dataset after where it is from, and what tells it from a later one."""
    digest = hashlib.sha256(repr((VERSION, origin, state)).encode("utf-8", "surrogateescape"))
    return root() / f"{safe(name).replace('/', '-') or 'images'}-{digest.hexdigest()[:12]}"


def find(folder: Path) -> Spool | None:
    """Return the dataset that was spooled into a folder; None where it is not whole."""
    try:
        return _spool_of(folder)
    except (KeyError, TypeError, ValueError):
        return None  # a disk has damaged its records: it is written again


def _spool_of(folder: Path) -> Spool | None:
    record = _read(folder / RECORD)
    if record is None or record.get("version") != VERSION:
        return None
    told: list[Rejected | Remark] = [Remark(each) for each in record["remarks"]]
    n_images = 0
    for part in record["parts"]:
        found = _part(folder, part)
        if found is None:
            return None
        n_images += found["n_images"]
        told += [Rejected(f"{part}/{at}", reason) for at, reason in found["refused"]]
    return Spool(folder, record["name"], tuple(record["parts"]), n_images, tuple(told))


def find_latest(origin: str) -> Spool | None:
    """Return what was spooled last of what is asked for; None where nothing is there."""
    found = []
    for record in root().glob(f"*/{RECORD}"):
        said = _read(record)
        if said is not None and said.get("origin") == origin:
            found.append((record.stat().st_mtime_ns, record.parent))
    return next(filter(None, (find(each) for _, each in sorted(found, reverse=True))), None)


def spool(
    folder: Path, name: str, origin: str, parts: Sequence[Part], remarks: Iterable[str] = ()
) -> Spool:
    """Write a dataset into its folder, unless that is done; of two who do so one waits.

    Parameters
    ----------
    folder : Path
        As of `folder_of`.
    name : str
        What the dataset is called.
    origin : str
        What opens it, ``<source>:<where>``.
    parts : sequence of Part
    remarks : iterable of str
        What the user is told whenever it is listed.

    Raises
    ------
    UserError
        The disk has no room, or an image cannot be got at.
    """
    if (known := find(folder)) is not None:
        return known
    files.check_writable(folder, f"set {VARIABLE} to a folder with room for it")
    with _alone(folder):
        if (known := find(folder)) is not None:  # another has written it meanwhile
            return known
        files.remove_leftovers(folder)
        todo = [part for part in parts if _part(folder, part.name) is None]
        check_room(folder, name, todo)
        for part in todo:
            _write_part(folder, name, part)
        _write_record(folder, name, origin, [part.name for part in parts], remarks)
    return _found(folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process writes into a folder, and keep others from it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.lock(folder / ".lock", folder))
        except UserError:
            say(f"spooling   another process writes to {folder}: waiting for it")
            held.enter_context(files.lock(folder / ".lock", folder, wait=True))
        yield


def check_room(folder: Path, name: str, parts: Iterable[Part]) -> None:
    """Say what will be written, and refuse what the disk has no room for."""
    sizes = [part.n_bytes for part in parts]
    if not sizes:
        return
    free = shutil.disk_usage(folder).free
    known = sum(each for each in sizes if each is not None)
    size = f" about {_size(known)}," if None not in sizes else ""
    say(f"spooling   {name} is written to {folder},{size} once: images are read there from then on")
    if known + RESERVE > free:
        raise UserError(
            f"{name} takes about {_size(known)} in {folder}, and {_size(free)} are free there: free"
            f" some space, or set {VARIABLE} to a folder with room"
        )


def _write_part(folder: Path, name: str, part: Part) -> None:
    """Write a part's tar file, then its record."""
    path = folder / f"{part.name}.tar"
    n_images, refused = write_tar(path, name, part)
    record = {"n_images": n_images, "n_bytes": path.stat().st_size, "refused": refused}
    files.write_json(_record_path(folder, part.name), record)


def write_tar(path: Path, title: str, part: Part) -> tuple[int, list[tuple[str, str]]]:
    """Write a part's images to a tar file; return how many there are, and what is refused."""
    names, refused, n, written = Names(part.n_images), list[tuple[str, str]](), 0, 0
    look = _looks(path.parent, title)
    with files.write_tar(path) as add, bar("spooling", part.n_images, "images") as shown:
        for number, item in enumerate(part.items()):
            shown.update(1)
            reason = item.reason if isinstance(item, Refused) else refusal_of(item)
            if isinstance(item, Refused) or reason is not None:
                refused.append((item.at, str(reason)))
                if part.is_given and not n and len(refused) == HOPELESS:
                    raise UserError(
                        f"none of the first {HOPELESS} images of {title} can be used: {reason}"
                    )
                continue
            key = names.key(item.name, number)
            add(f"{key}.{ending_of(item.data)}", item.data)
            if says := {k: v for k, v in (("label", item.label), ("split", item.split)) if v}:
                add(f"{key}.json", json.dumps(says, ensure_ascii=False).encode())
            n, written = n + 1, written + len(item.data) + PER_IMAGE
            look(written)
    return n, refused


@contextlib.contextmanager
def apart() -> Iterator[Path]:
    """Give a folder of one's own beside the others, for a dataset whose name is not known yet.

    What killed writers left of theirs is removed.
    """
    base = root()
    files.check_writable(base, f"set {VARIABLE} to a folder with room for it")
    with contextlib.ExitStack() as held:
        with files.lock(base / ".lock", base, wait=True):
            for left in files.leftovers(base, deep=False):
                with contextlib.suppress(UserError), files.lock(left / ".lock", left):
                    files.remove(left)  # its writer is no more, or the lock would not be free
            path = base / f"given{files.TEMPORARY}{os.getpid()}{threading.get_native_id()}"
            held.enter_context(files.lock(path / ".lock", path))
        try:
            yield path
        finally:
            files.remove(path)


def adopt(
    path: Path, folder: Path, name: str, origin: str, part: str, refused: Sequence[tuple[str, str]],
    n_images: int, remarks: Iterable[str] = (),
) -> Spool:  # fmt: skip
    """Take a tar file that was written apart for the one part of a dataset, unless it is there."""
    with _alone(folder):
        if (known := find(folder)) is not None:
            return known
        record = {"n_images": n_images, "n_bytes": path.stat().st_size, "refused": list(refused)}
        files.move(path, folder / f"{part}.tar")
        files.write_json(_record_path(folder, part), record)
        _write_record(folder, name, origin, [part], remarks)
    return _found(folder)


def _write_record(
    folder: Path, name: str, origin: str, parts: Sequence[str], remarks: Iterable[str]
) -> None:
    record = {
        "version": VERSION, "name": name, "origin": origin, "parts": list(parts),
        "remarks": list(remarks),
    }  # fmt: skip
    files.write_json(folder / RECORD, record)


def _found(folder: Path) -> Spool:
    found = find(folder)
    assert found is not None, folder
    return found


def _looks(folder: Path, name: str) -> Callable[[int], None]:
    """Return a function that is told how much is written, and looks at times whether there is room
    for more: how much there will be, nobody may know before."""
    last = [0]

    def look(written: int) -> None:
        if written - last[0] < LOOK:
            return
        last[0] = written
        free = shutil.disk_usage(folder).free
        if free < RESERVE:
            raise UserError(
                f"{name} has come to {_size(written)} in {folder}, and {_size(free)} are left"
                f" there: free some space, set {VARIABLE} to a folder with room, or take fewer"
                f" images ({option('limit')})"
            )

    return look


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _part(folder: Path, part: str) -> dict[str, Any] | None:
    """Return the record of a part; None where it is not there or its tar file is not whole."""
    found = _read(_record_path(folder, part))
    try:
        is_whole = found is not None and (folder / f"{part}.tar").stat().st_size == found["n_bytes"]
    except FileNotFoundError:
        return None
    return found if is_whole else None


def _record_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.part.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Read a record; None where there is none, or a disk has damaged it."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None
