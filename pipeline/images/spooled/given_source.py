"""Images that a program gave: spooled by what they hold, so that the same are the same dataset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from ...errors import UserError
from ...system import files
from ...system.progress import bar, say
from ..folder import FolderSource, Labelled, records
from ..layout import Labels, read_layout
from ..limits import DecodeError
from ..names import escape
from ..source import DatasetSource, ImageRecord, Rejected, Remark
from ..trouble import patiently
from ..walk import Status
from .given import Given, describe
from .items import Entry, Item, Part, Refused, safe
from .pixels import Pixels, contents_of, to_file, update_digest
from .source import SpooledSource
from .store import Spool, adopt, apart, check_room, find, root, spool, write_tar

KIND = "given"
PART = "images"
FILES = "files.json"


def give_images(dataset: Any, limit: int | None = None) -> str:
    """Spool images that a program holds, unless that is done; return what opens them.

    Parameters
    ----------
    dataset : Any
        As of `describe`.
    limit : int, optional
        How many are taken of what does not say how many it has.

    Returns
    -------
    str
        ``given:<folder>``, for the option ``dataset``.

    Raises
    ------
    UserError
        It is no dataset, or the disk has no room.
    """
    given = describe(dataset, limit)
    if given.is_lasting and (paths := _all_paths(given)):
        return f"{KIND}:{_note_files(paths)}"
    return f"{KIND}:{(_spool_lasting if given.is_lasting else _spool_passing)(given).folder}"


def open_given(where: str) -> DatasetSource:
    """Open what was given to an earlier call, in this program or another."""
    folder = Path(where)
    return FilesSource(folder) if (folder / FILES).exists() else SpooledSource(GivenRecipe(folder))


class GivenRecipe:
    """See `pipeline.images.spooled.source.Recipe`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """What it was called when it was given."""
        found = self.known()
        return escape(self._folder.name) if found is None else found.name

    @property
    def where(self) -> str:
        """The folder that it was spooled into."""
        return str(self._folder)

    def known(self) -> Spool | None:
        """Find it."""
        return find(self._folder)

    def spool(self) -> Spool:
        """Find it: the objects themselves ended with their program."""
        found = self.known()
        if found is None:
            raise UserError(
                f"these images were given as objects of a program and written to {self._folder},"
                " where they no longer are: give them again, discover(dataset=…)"
            )
        return found


class FilesSource(FolderSource):
    """Files of a list that was given, known by their paths below the folder that has them all."""

    def __init__(self, folder: Path, labels: Labels | Literal["file"] = "auto") -> None:
        said = json.loads((folder / FILES).read_bytes())
        super().__init__(Path(said["root"]), labels=labels)
        self._folder, self._files = folder, said["files"]

    @property
    def where(self) -> str:
        """The folder where the list is."""
        return str(self._folder)

    def labelled(self, labels: Labels | Literal["file"]) -> FilesSource:
        """Return the same files; without labels of their own, their folders may say them."""
        return FilesSource(self._folder, labels)

    def images(self) -> Iterator[ImageRecord | Rejected | Remark]:
        """Look up the files."""
        paths = [path for path, _, _ in self._files]
        places = read_layout(paths, "auto" if self._labels == "file" else self._labels)
        is_labelled = any(label is not None for _, label, _ in self._files)
        found: Labelled = []
        for (path, label, split), place in zip(self._files, places, strict=True):
            labels = (label,) if isinstance(label, str) else tuple(label or ())
            if not is_labelled and place.label is not None:
                labels = (escape(place.label),)
            try:
                status: Status = patiently(path, self.file(path).stat)
            except OSError as error:
                status = error
            found.append((path, labels, split or place.split, status))
        yield from records(found)


def _spool_lasting(given: Given) -> Spool:
    """Spool what can be asked again: once for its digest, and once more where that is new."""
    digest = _Digest()
    with bar("looking", given.n, "images", leave=False) as shown:
        for each in given.entries():
            digest.add(each, _contents(each))
            shown.update(1)
    folder = _folder(given, digest)
    if (known := find(folder)) is not None:
        return known
    again = _Digest()
    part = Part(PART, lambda: _items(given, again), given.n, given.n_bytes or None, is_given=True)
    found = spool(folder, given.name, f"{KIND}:{folder}", [part])
    if again.text() != digest.text():
        say(
            f"warning    {given.name} gave other images when it was asked again, as random"
            " transforms do: what it gave last is kept, and another call makes another dataset"
        )
    return found


def _spool_passing(given: Given) -> Spool:
    """Spool what can be asked once: what it holds is known when it has been written."""
    digest = _Digest()
    part = Part(PART, lambda: _items(given, digest), is_given=True)
    with apart() as folder:
        check_room(folder, given.name, [part])
        path = folder / f"{PART}.tar"
        n_images, refused = write_tar(path, given.name, part)
        target = _folder(given, digest)
        return adopt(path, target, given.name, f"{KIND}:{target}", PART, refused, n_images)


def _items(given: Given, digest: _Digest) -> Iterator[Item | Refused]:
    for each in given.entries():
        contents = _contents(each)
        digest.add(each, contents)
        if isinstance(each, Refused) or isinstance(contents, Refused):
            yield contents if isinstance(contents, Refused) else each  # type: ignore[misc]
            continue
        data = to_file(contents) if isinstance(contents, Pixels) else contents
        yield Item(each.at, data, each.name, each.label, each.split)


def _contents(each: Entry | Refused) -> bytes | Pixels | Refused:
    """Return what an image holds, or why it cannot be taken."""
    if isinstance(each, Refused):
        return each
    try:
        return patiently(each.at, lambda: contents_of(each.image))
    except (DecodeError, OSError) as error:
        return Refused(each.at, str(error))


class _Digest:
    """A digest of images and what is known of them."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, each: Entry | Refused, contents: bytes | Pixels | Refused) -> None:
        """Add an image."""
        if isinstance(each, Refused) or isinstance(contents, Refused):
            self._sha.update(repr(contents).encode("utf-8", "surrogatepass"))
            return
        said = repr((each.label, each.name, each.split))
        self._sha.update(said.encode("utf-8", "surrogatepass"))
        update_digest(self._sha, contents)

    def text(self) -> str:
        """Return the digest as a text."""
        return self._sha.hexdigest()


def _folder(given: Given, digest: _Digest) -> Path:
    return root() / f"{safe(given.name) or 'images'}-{digest.text()[:16]}"


def _all_paths(given: Given) -> list[Entry]:
    """Return the images where all are given as paths; of others none beyond the first is asked for.

    Datasets of folders are such too, as long as nothing transforms their pictures.
    """
    found: list[Entry] = []
    with bar("looking", given.n, "images", leave=False) as shown:
        for each in given.entries():
            if isinstance(each, Refused) or not isinstance(each.image, str | Path):
                return []
            found.append(each)
            shown.update(1)
    return found


def _note_files(paths: Sequence[Entry]) -> Path:
    """Write down a list of paths; return the folder of it."""
    said: dict[str, tuple[Any, str | None]] = {}
    for each in paths:
        path = os.path.abspath(os.path.expanduser(each.image))  # noqa: PTH100, PTH111, links stay
        if said.setdefault(path, (each.label, each.split)) != (each.label, each.split):
            raise UserError(f"the list gives {path} two labels or splits; keep one")
    base = os.path.commonpath([str(Path(path).parent) for path in said])
    listed = [[os.path.relpath(path, base), *each] for path, each in sorted(said.items())]
    digest = hashlib.sha256(repr((base, listed)).encode("utf-8", "surrogateescape")).hexdigest()
    folder = root() / f"files-{digest[:16]}"
    if not (folder / FILES).exists():
        files.write_text(
            folder / FILES, json.dumps({"root": base, "files": listed}, ensure_ascii=True)
        )
    return folder
