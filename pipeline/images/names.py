"""Paths of files as texts and back: bytes that are no UTF-8 are percent-escaped."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path


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
