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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Literal

from ..errors import UserError, option
from . import elsewhere, patterns
from .ahead import FetchesAhead, at_once
from .archive_files import BESIDE, Index, Member, index_tar, index_zip, read_tar, read_zip
from .contents import refusal
from .endings import SUFFIXES
from .known import known
from .labels import labels_in
from .layout import SPLITS, Labels, read_layout
from .limits import DecodeError
from .names import escape
from .passed_over import is_beside, is_of_programs
from .ranged import LocalFile, Ranged, RemoteFile
from .source import ImageRecord, Rejected, Remark, make_record
from .trouble import patiently
from .urls import check_dataset, has_wildcards, is_url, name_of

SaidOf = tuple[str, tuple[str, ...], str | None]
"""A member's name, or an image's path, its labels and its split."""

LABEL_KEYS = ("label", "labels", "class", "cls", "category", "class_name")
"""What a label is called in the JSON of an image."""

MOST_OF_A_LABEL = 200
"""Characters of a label in a file of its own, at most: longer texts are captions."""

MOST_BESIDE = 1_000_000
"""Bytes of a label or JSON beside an image, at most."""

OpenIndex = Callable[[Ranged], Index]
ReadMember = Callable[[Ranged, Member], bytes]


class ArchiveSource(FetchesAhead):
    """Images in archives, here or elsewhere; see `pipeline.images.source.DatasetSource`."""

    def __init__(self, where: str, index: OpenIndex, read: ReadMember, ending: str) -> None:
        self._is_remote = is_url(where)
        if self._is_remote:
            check_dataset(where)
            self.where = where
        else:
            pattern = Path(os.path.expanduser(where))  # noqa: PTH111, the text may hold wildcards
            self.where = str(pattern if pattern.is_absolute() else Path.cwd() / pattern)
        self._index_of, self._read, self._ending = index, read, ending
        self._labels: Labels = "auto"
        self._indexes: dict[str, Index] = {}
        self._locks: dict[str, threading.Lock] = {}

    @property
    def name(self) -> str:
        """The archive's name, or what the names of several begin with."""
        stem = name_of(self.where).partition("{")[0].partition("*")[0]
        return escape(stem.removesuffix(self._ending).rstrip("-_.")) or "archives"

    def labelled(self, labels: Labels | Literal["file"]) -> ArchiveSource:
        """Return the same archives, their folders read in another way."""
        other = ArchiveSource(self.where, self._index_of, self._read, self._ending)
        other._labels, other._indexes = "auto" if labels == "file" else labels, self._indexes
        return other

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """List the images of all archives."""
        archives = self._archives
        if self._is_remote:
            archives, missing = self._there(archives)
            yield from missing
            for _ in at_once(self._index, list(archives)):
                pass
        found: list[tuple[str, Member, int]] = []
        labels: dict[str, tuple[str, ...]] = {}
        splits: dict[str, str] = {}
        n_others = 0
        for name, file in archives.items():
            index = self._index(name)
            yield from (replace(each, path=f"{name}/{each.path}") for each in index.rejected)
            modified = file.modified
            images = [each for each in index.members.values() if _is_image(each.name)]
            found += [(f"{name}/{escape(each.name)}", each, modified) for each in images]
            for each in self._beside(name, file, index, images):
                if isinstance(each, Rejected):
                    yield each
                    continue
                if each[1]:
                    labels[each[0]] = each[1]
                if each[2] is not None:
                    splits[each[0]] = each[2]
            n_others += len(index.members) - len(images)
        if n_said := len({_key(path) for path in (*labels, *splits)}):
            n_others -= n_said
            what = "labels" if labels else "splits"
            yield Remark(f"{what} are those of {n_said:,} members beside images")
        if not found:
            raise UserError(f"{option('dataset', self.where)}: no archive holds an image")
        if n_others:
            yield Remark(f"passed over: {n_others:,} members that are no images")
        places = read_layout([each.name for _, each, _ in found], self._labels)
        for (name, member, modified), place in zip(found, places, strict=True):
            folder = () if place.label is None or labels else (escape(place.label),)
            those, split = labels.get(name, folder), splits.get(name, place.split)
            yield make_record(name, those, member.size, modified, split)

    def reading_ahead(self, images: Iterable[ImageRecord]) -> AbstractContextManager[None]:
        """Fetch members before they are read, where the archives lie elsewhere."""
        return super().reading_ahead(images) if self._is_remote else nullcontext()

    def _fetch(self, image: ImageRecord) -> bytes:
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
    def _archives(self) -> dict[str, Ranged]:
        """The archives by the names that their images' paths begin with."""
        try:
            return self._found_elsewhere() if self._is_remote else self._found_here()
        except ValueError as error:
            raise UserError(f"{option('dataset', self.where)} is not possible: {error}") from error

    def _found_here(self) -> dict[str, Ranged]:
        paths = patterns.files(self.where)
        if not paths:
            raise self._not_there()
        root = patterns.root_of(self.where)
        return {escape(os.path.relpath(path, root)): LocalFile(path) for path in paths}

    def _found_elsewhere(self) -> dict[str, Ranged]:
        """Return archives by their names; whether they are there is asked when they are listed."""
        root, _ = patterns.split_url(self.where)
        found: list[str] = []
        for url in patterns.expand(self.where):
            if has_wildcards(url):
                found += elsewhere.ask_for(self.where, partial(elsewhere.glob, url))
            else:
                found.append(url)
        if not found:
            raise self._not_there()
        return {url[len(root) + 1 :]: RemoteFile(url) for url in sorted(set(found))}

    def _there(self, archives: dict[str, Ranged]) -> tuple[dict[str, Ranged], list[Rejected]]:
        """Return the archives that there are, and the others."""

        def reason(file: Ranged) -> str:
            try:
                return "" if file.size else "empty file"
            except (DecodeError, OSError) as error:
                return str(refusal(error) if isinstance(error, OSError) else error)

        reasons = dict(zip(archives, at_once(reason, list(archives.values())), strict=True))
        missing = [Rejected(name, said) for name, said in reasons.items() if said]
        if len(missing) == len(archives):
            raise UserError(
                f"{option('dataset', self.where)} cannot be read: {missing[0].path}:"
                f" {missing[0].reason}"
            )
        return {name: file for name, file in archives.items() if not reasons[name]}, missing

    def _not_there(self) -> UserError:
        return UserError(f"{option('dataset', self.where)} does not exist: no archive is called so")

    def _parted(self, path: str) -> tuple[str, str]:
        """Part an image's path into the archive's name and the member's."""
        parts = path.split("/")
        for at in range(1, len(parts)):
            if (name := "/".join(parts[:at])) in self._archives:
                return name, "/".join(parts[at:])
        raise FileNotFoundError(errno.ENOENT, "no such archive", path)

    def _index(self, name: str) -> Index:
        with self._locks.setdefault(name, threading.Lock()):
            if name not in self._indexes:
                file = self._archives[name]
                make = partial(self._index_of, file)
                self._indexes[name] = known(file, make) if isinstance(file, RemoteFile) else make()
            return self._indexes[name]

    def _beside(
        self, name: str, file: Ranged, index: Index, images: Sequence[Member]
    ) -> Iterator[SaidOf | Rejected]:
        """Yield images' paths, labels and splits as members beside them say, or what is damaged."""
        if index.said is None:
            index.said = list(self._said(file, index, images))
            index.small.clear()
        for each in index.said:
            if isinstance(each, Rejected):
                yield replace(each, path=f"{name}/{each.path}")
            else:
                labels = () if self._labels == "none" else each[1]
                yield f"{name}/{each[0]}", labels, each[2]

    def _said(
        self, file: Ranged, index: Index, images: Sequence[Member]
    ) -> Iterator[SaidOf | Rejected]:
        beside = {
            (_key(each.name), PurePosixPath(each.name).suffix): each
            for each in index.members.values()
        }

        def said(image: Member) -> list[SaidOf | Rejected]:
            found: list[SaidOf | Rejected] = []
            for ending, parse in zip(BESIDE, (_plain, _of_json), strict=True):
                member = beside.get((_key(image.name), ending))  # .txt holds captions
                if member is None or member.size > MOST_BESIDE:
                    continue
                try:
                    labels, split = parse(self._contents(file, index, member))
                except (DecodeError, OSError) as error:
                    reason = refusal(error) if isinstance(error, OSError) else error
                    found.append(Rejected(escape(member.name), str(reason)))
                    continue
                if labels or split:
                    return [*found, (escape(image.name), labels, split)]
            return found

        for each in at_once(said, images) if self._is_remote else map(said, images):
            yield from each

    def _contents(self, file: Ranged, index: Index, member: Member) -> bytes:
        if (data := index.small.get(member.name)) is not None:
            return data
        return patiently(f"{file}: {member.name}", lambda: self._read(file, member))


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


def _plain(data: bytes) -> tuple[tuple[str, ...], None]:
    text = data.decode("utf-8", "replace").strip()
    is_label = "\n" not in text and len(text) <= MOST_OF_A_LABEL
    return labels_in(text) if is_label else (), None


def _of_json(data: bytes) -> tuple[tuple[str, ...], str | None]:
    try:
        says = json.loads(data)
    except (ValueError, RecursionError):
        return (), None
    if not isinstance(says, dict):
        return (), None
    found = next((says[key] for key in LABEL_KEYS if key in says), None)
    several = found if isinstance(found, list) else [found]
    labels = [str(each) for each in several if type(each) in (str, int) and str(each).strip()]
    split = says.get("split")
    split = SPLITS.get(split.lower(), split) if isinstance(split, str) and split else None
    return tuple(labels), split
