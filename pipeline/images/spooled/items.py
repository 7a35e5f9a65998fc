"""What is spooled: images as files with what is known of them, or a refusal; and their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..limits import MAX_BYTES
from ..passed_over import is_of_programs

Label = str | list[str] | None

MOST_OF_A_NAME = 120
"""Characters of a part of a name, at most: what a file is called is not ours to limit otherwise."""

PER_IMAGE = 2048
"""Bytes that a tar file takes beside an image, about: headers, what is known of it, filling up."""

SIGNATURES = (
    (b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n", "png"), (b"GIF8", "gif"), (b"II*\0", "tif"),
    (b"MM\0*", "tif"), (b"BM", "bmp"), (b"\0\0\0\x0cjP  ", "jp2"), (b"\xff\x4f\xff\x51", "j2k"),
)  # fmt: skip
"""How files begin, and what such files end in."""

_PNM = re.compile(rb"P([1-6])\s")


@dataclass(frozen=True)
class Item:
    """An image.

    Attributes
    ----------
    at : str
        Where it is, for the message if it is none.
    data : bytes
        Its file.
    name : str or None
        What it is called, with folders and an ending or without; None: by its number.
    label : str, list of str, or None
    split : str or None
    """

    at: str
    data: bytes
    name: str | None = None
    label: Label = None
    split: str | None = None


@dataclass(frozen=True)
class Entry:
    """An image as a program gave it: a file, a path, a picture or pixels; else as an `Item`."""

    at: str
    image: Any
    label: Label = None
    name: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Refused:
    """What was no image, where, and why."""

    at: str
    reason: str


@dataclass(frozen=True)
class Part:
    """A part of a dataset, which becomes one tar file.

    Attributes
    ----------
    name : str
        What the tar file is called, without its ending.
    items : callable
        Gives the images, from the first on.
    n_images : int or None
        How many there are.
    n_bytes : int or None
        What they take, about.
    is_given : bool
        Whether they are objects of a program, all of one kind: where none of many can be used, none
        can.
    """

    name: str
    items: Callable[[], Iterator[Item | Refused]]
    n_images: int | None = None
    n_bytes: int | None = None
    is_given: bool = False


def refusal_of(item: Item) -> str | None:
    """Say why the contents of a file are no image; None where they begin as one does."""
    if not item.data:
        return "empty"
    if len(item.data) > MAX_BYTES:
        return f"too large: {len(item.data)} bytes, at most {MAX_BYTES}"
    return "not an image" if ending_of(item.data) is None else None


def ending_of(data: bytes) -> str | None:
    """Return what a file of such contents ends in; None where it begins as no image does."""
    for start, ending in SIGNATURES:
        if data.startswith(start):
            return ending
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1"):
        return "avif"
    found = _PNM.match(data)
    return None if found is None else ("pbm", "pgm", "ppm")[(int(found[1]) - 1) % 3]


class Names:
    """Gives each image of a part a name that is safe, and no other's.

    WebDataset knows what belongs together by what stands before the first dot of a name: there is
    one dot. Numbers have zeros in front, so that names are in the order of images.
    """

    def __init__(self, n_images: int | None) -> None:
        self._width = max(6, len(str(n_images or 0)))
        self._taken: set[str] = set()

    def key(self, name: str | None, number: int) -> str:
        """Return what stands before the dot."""
        numbered = f"{number:0{self._width}}"
        key = "" if name is None else safe(name)
        if not key:
            return numbered
        while key in self._taken or (key.isdecimal() and len(key) == self._width):
            key = f"{key}-{numbered}"  # a number alone would be that of another
        self._taken.add(key)
        return key


def safe(name: str) -> str:
    """Return a name that stays within its folder, is no hidden file, and has no dot.

    Of a path on another machine the last part alone says something.
    """
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    parts = [each for each in text.split("/") if each not in ("", ".")]
    if text.startswith("/") or ":" in text or ".." in parts:
        parts = parts[-1:]
    if not parts or parts[-1] == "..":
        return ""
    parts[-1] = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", parts[-1])
    plain = [re.sub(r"[^\w +=@()-]", "_", each).strip(" ")[:MOST_OF_A_NAME] for each in parts]
    plain = [f"{each}_" if is_of_programs(each) else each for each in plain if each]
    return "/".join(plain)[-2 * MOST_OF_A_NAME :].strip("/ ")
