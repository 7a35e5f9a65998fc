"""Archives of images, read by offset and never unpacked: tar shards of WebDataset, and zip files.

An image is known by ``<archive>/<member>``. WebDataset puts what is known of an image beside it,
under the same key: ``0001.jpg``, ``0001.cls``, ``0001.json``. Where nothing is, folders within the
archive are read as those of a dataset.

Reference: https://github.com/webdataset/webdataset (the layout of shards).
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from ..errors import UserError, option
from . import patterns
from .archive_files import Index, Member, index_tar, index_zip, read_tar, read_zip
from .endings import SUFFIXES
from .layout import SPLITS, Labels, read_layout
from .limits import DecodeError
from .names import escape
from .passed_over import is_beside, is_of_programs
from .source import ImageRecord, Rejected, Remark, make_record

LABEL_KEYS = ("label", "class", "cls", "category", "class_name")
"""What a label is called in the JSON of an image."""

MOST_BESIDE = 1_000_000
"""Bytes of a label or JSON beside an image, at most."""

OpenIndex = Callable[[Path], Index]
ReadMember = Callable[[Path, Member], bytes]


class ArchiveSource:
    """Images in archives; see `pipeline.images.source.DatasetSource`."""

    def __init__(self, where: str, index: OpenIndex, read: ReadMember, ending: str) -> None:
        pattern = Path(os.path.expanduser(where))  # noqa: PTH111, the text may hold wildcards
        self.where = str(pattern if pattern.is_absolute() else Path.cwd() / pattern)
        self._index_of, self._read, self._ending = index, read, ending
        self._labels: Labels = "auto"
        self._indexes: dict[str, Index] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The archive's name, or what the names of several begin with."""
        stem = PurePosixPath(self.where).name.partition("{")[0].partition("*")[0]
        return escape(stem.removesuffix(self._ending).rstrip("-_.")) or "archives"

    def labelled(self, labels: Labels | Literal["file"]) -> ArchiveSource:
        """Return the same archives, their folders read in another way."""
        other = ArchiveSource(self.where, self._index_of, self._read, self._ending)
        other._labels, other._indexes = "auto" if labels == "file" else labels, self._indexes
        return other

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """List the images of all archives."""
        archives = self._archives
        found: list[tuple[str, Member, int]] = []
        labels: dict[str, str] = {}
        splits: dict[str, str] = {}
        n_others = 0
        for name, path in archives.items():
            index = self._index(name)
            yield from (replace(each, path=f"{name}/{each.path}") for each in index.rejected)
            modified = path.stat().st_mtime_ns
            images = [each for each in index.members.values() if _is_image(each.name)]
            found += [(f"{name}/{escape(each.name)}", each, modified) for each in images]
            for each in self._beside(name, path, index, images):
                if isinstance(each, Rejected):
                    yield each
                    continue
                if each[1] is not None:
                    labels[each[0]] = each[1]
                if each[2] is not None:
                    splits[each[0]] = each[2]
            n_others += len(index.members) - len(images)
        if not found:
            raise UserError(f"{option('dataset', self.where)}: no archive holds an image")
        if n_others:
            yield Remark(f"passed over: {n_others:,} members that are no images")
        places = read_layout([each.name for _, each, _ in found], self._labels)
        for (name, member, modified), place in zip(found, places, strict=True):
            folder = None if place.label is None or labels else escape(place.label)
            label = labels.get(name, folder)
            yield make_record(name, label, member.size, modified, splits.get(name, place.split))

    def read(self, image: ImageRecord) -> bytes:
        """Read a member; of its archive no more than that."""
        name, inside = self._parted(image.path)
        member = self._index(name).by_escaped.get(inside)
        if member is None:
            raise FileNotFoundError(errno.ENOENT, "no such member", image.path)
        data = self._read(self._archives[name], member)
        if len(data) != member.size:
            raise DecodeError("the archive ends within it")
        return data

    @cached_property
    def _archives(self) -> dict[str, Path]:
        """The archives by the names that their images' paths begin with."""
        try:
            paths = patterns.files(self.where)
        except ValueError as error:
            raise UserError(f"{option('dataset', self.where)} is not possible: {error}") from error
        if not paths:
            raise UserError(
                f"{option('dataset', self.where)} does not exist: no archive is called so"
            )
        root = patterns.root_of(self.where)
        return {escape(os.path.relpath(path, root)): path for path in paths}

    def _parted(self, path: str) -> tuple[str, str]:
        """Part an image's path into the archive's name and the member's."""
        parts = path.split("/")
        for at in range(1, len(parts)):
            if (name := "/".join(parts[:at])) in self._archives:
                return name, "/".join(parts[at:])
        raise FileNotFoundError(errno.ENOENT, "no such archive", path)

    def _index(self, name: str) -> Index:
        with self._lock:
            if name not in self._indexes:
                self._indexes[name] = self._index_of(self._archives[name])
            return self._indexes[name]

    def _beside(
        self, name: str, path: Path, index: Index, images: Sequence[Member]
    ) -> Iterator[tuple[str, str | None, str | None] | Rejected]:
        """Yield images' paths, labels and splits as members beside them say, or what is damaged."""
        beside = {
            (_key(each.name), PurePosixPath(each.name).suffix): each
            for each in index.members.values()
        }
        for image in images:
            for ending, parse in ((".cls", _plain), (".json", _of_json)):  # .txt holds captions
                member = beside.get((_key(image.name), ending))
                if member is None or member.size > MOST_BESIDE:
                    continue
                try:
                    label, split = parse(self._read(path, member))
                except DecodeError as error:
                    yield Rejected(f"{name}/{escape(member.name)}", str(error))
                    continue
                if label is not None or split is not None:
                    label = None if self._labels == "none" else label
                    yield f"{name}/{escape(image.name)}", label, split
                    break


def open_tar(where: str) -> ArchiveSource:
    """Open tar shards: a name, a glob, or a range in braces."""
    return ArchiveSource(where, index_tar, read_tar, ".tar")


def open_zip(where: str) -> ArchiveSource:
    """Open a zip file, or several."""
    return ArchiveSource(where, index_zip, read_zip, ".zip")


def _is_image(name: str) -> bool:
    *folders, last = name.split("/")
    if any(map(is_of_programs, folders)) or is_beside(last):
        return False
    return PurePosixPath(last).suffix.lower() in SUFFIXES


def _key(name: str) -> str:
    """Return the key of a member: its name up to the first dot of its last part."""
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(".")[0]


def _plain(data: bytes) -> tuple[str | None, None]:
    text = data.decode("utf-8", "replace").strip()
    return text if text and "\n" not in text and len(text) <= 200 else None, None


def _of_json(data: bytes) -> tuple[str | None, str | None]:
    try:
        says = json.loads(data)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(says, dict):
        return None, None
    label = next((says[key] for key in LABEL_KEYS if key in says), None)
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if isinstance(label, bool) or not isinstance(label, str | int):
        label = None
    split = says.get("split")
    split = SPLITS.get(split.lower(), split) if isinstance(split, str) and split else None
    return None if label is None else str(label), split
