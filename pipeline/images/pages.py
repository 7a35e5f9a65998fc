"""Whether a file holds more than the one picture that is read of it."""

from __future__ import annotations

from PIL import Image

from .formats import FORMATS
from .metered import Metered

PAGED = ("AVIF", "GIF", "HEIF", "MPO", "PNG", "TIFF", "WEBP")
"""Formats that can hold several pictures."""

FIRST = "the first of several pages or frames"


def note_of(contents: bytes, kind: str | None) -> str:
    """Say that the picture read of a file is the first of several; empty where it is the only one.

    Parameters
    ----------
    contents : bytes
        Of a file whose first picture could be read.
    kind : str or None
        Its format, by Pillow's name.
    """
    if kind not in PAGED:
        return ""
    try:
        with Image.open(Metered(contents), formats=FORMATS) as image:
            return FIRST if getattr(image, "is_animated", False) else ""
    except MemoryError:
        raise
    except Exception:  # of any kind, as when decoding: what comes after the first is damaged
        return FIRST
