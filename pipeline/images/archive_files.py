"""What archives hold, and where in them: tar and zip, whose members are never unpacked to disk."""

from __future__ import annotations

import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import UserError
from .limits import MAX_BYTES, DecodeError
from .names import escape
from .ranged import Ranged
from .source import Rejected

_HEADER = struct.Struct("<4s22xHH")
"""Of a member of a zip file: signature, and the lengths of name and extra field (APPNOTE 4.3.7)."""

_EXTRA = 64
"""Bytes of the extra field that are read with a member; times and sizes take less."""

BESIDE = (".cls", ".json")
"""Endings of members that say what is known of the image of their name."""

SMALL, MOST_SMALL = 4_096, 64_000_000
"""Bytes of such a member that is read with its header, and of all of an archive's, at most."""


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name there, its size in bytes, and where it begins.

    Of a zip file the offset is that of its header; `packed` bytes follow it, which `method` packed
    (zip's number, 0: as they are) and whose CRC-32 unpacked is `crc`.
    """

    name: str
    size: int
    offset: int
    packed: int = 0
    method: int = zipfile.ZIP_STORED
    crc: int = 0


@dataclass
class Index:
    """The members of an archive by name, and those that are refused.

    Of a tar file also the contents of small ones that say what is known of an image, which were at
    hand when their headers were read; whoever has read them takes them out, and leaves what they
    say: names of images (escaped) with labels, and what could not be read.
    """

    members: dict[str, Member]
    rejected: list[Rejected] = field(default_factory=list)
    small: dict[str, bytes] = field(default_factory=dict)
    said: list[tuple[str, tuple[str, ...], str | None] | Rejected] | None = None

    @cached_property
    def by_escaped(self) -> dict[str, Member]:
        """The members by their names as paths of images have them."""
        return {escape(name): member for name, member in self.members.items()}


def index_tar(file: Ranged) -> Index:
    """Read the headers of a tar file.

    Raises
    ------
    UserError
        It is none, or is compressed.
    """
    try:
        with (
            file.look_through() as opened,
            tarfile.open(fileobj=opened, mode="r:", errors="surrogateescape") as archive,
        ):
            return _indexed(file.size, archive)
    except tarfile.ReadError as error:
        raise UserError(
            f"{file} is no tar file that can be read ({error}); a compressed one is unpacked first:"
            " gunzip, unzstd"
        ) from error


def _indexed(size: int, archive: Any) -> Index:
    index, n_small = Index({}), 0
    while True:
        try:
            info = archive.next()
        except (tarfile.TarError, ValueError, OverflowError) as error:
            index.rejected.append(Rejected("…", f"the archive is damaged from here on: {error}"))
            return index
        if info is None:
            return index
        archive.members = []  # of which it would keep all
        name = info.name
        if info.isdir():
            continue
        if (reason := _refusal(name, index.members)) is not None:
            index.rejected.append(Rejected(escape(name), reason))
        elif not info.isreg() or info.issparse():
            index.rejected.append(Rejected(escape(name), "no plain file but a link or the like"))
        elif info.size > MAX_BYTES:
            index.rejected.append(Rejected(escape(name), f"too large: {info.size} bytes"))
        elif info.offset_data + info.size > size:
            index.rejected.append(Rejected(escape(name), "the archive ends within it"))
        else:
            index.members[name] = Member(name, info.size, info.offset_data)
            if name.endswith(BESIDE) and info.size <= SMALL and n_small < MOST_SMALL:
                archive.fileobj.seek(info.offset_data)
                index.small[name] = archive.fileobj.read(info.size)
                n_small += info.size


def read_tar(file: Ranged, member: Member) -> bytes:
    """Read a member of a tar file."""
    return file.read_at(member.offset, member.size)


def index_zip(file: Ranged) -> Index:
    """Read the directory of a zip file.

    Raises
    ------
    UserError
        It is none.
    """
    index = Index({})
    try:
        with file.look_through() as opened, zipfile.ZipFile(opened) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"{file} is no zip file that can be read: {error}") from error
    for info in infos:
        name = info.filename
        if info.is_dir():
            continue
        if (reason := _refusal(name, index.members)) is not None:
            index.rejected.append(Rejected(escape(name), reason))
        elif stat.S_ISLNK(info.external_attr >> 16):
            index.rejected.append(Rejected(escape(name), "no plain file but a link or the like"))
        elif info.flag_bits & 1:
            index.rejected.append(Rejected(escape(name), "it is encrypted"))
        elif (size := max(info.file_size, info.compress_size)) > MAX_BYTES:
            index.rejected.append(Rejected(escape(name), f"too large: {size} bytes"))
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            index.rejected.append(Rejected(escape(name), "packed in another way than deflated"))
        else:
            index.members[name] = Member(
                name, info.file_size, info.header_offset, info.compress_size, info.compress_type,
                info.CRC,
            )  # fmt: skip
    return index


def read_zip(file: Ranged, member: Member) -> bytes:
    """Read a member of a zip file, no more of it than its directory says.

    `zipfile` reads the whole directory whenever it opens a file; of a hundred thousand members that
    takes a second each time.
    """
    n_before = _HEADER.size + len(member.name.encode(errors="replace")) + _EXTRA
    found = file.read_at(member.offset, n_before + member.packed)
    if len(found) < _HEADER.size or not found.startswith(b"PK\3\4"):
        raise DecodeError("the archive is damaged: there is no member where one should be")
    *_, n_name, n_extra = _HEADER.unpack_from(found)
    start = _HEADER.size + n_name + n_extra
    packed = found[start : start + member.packed]
    if (missing := member.packed - len(packed)) > 0:
        packed += file.read_at(member.offset + start + len(packed), missing)
    data = packed
    if member.method == zipfile.ZIP_DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size or 1)
        except zlib.error as error:
            raise DecodeError(f"it cannot be unpacked: {error}") from error
    if zlib.crc32(data) != member.crc:
        raise DecodeError("its checksum is wrong, or the archive ends within it")
    return data


def _refusal(name: str, known: Iterable[str]) -> str | None:
    """Say why a member of that name is refused; None where it is not."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        return "its name leads out of the archive"
    return "a second member of this name" if name in known else None
