"""Endings of image files; what such a file holds is decided by its contents."""

from __future__ import annotations

from importlib.util import find_spec

HEIF = (".heic", ".heif", ".hif")
"""Endings of telephones' photographs, read where the extra ``heic`` is installed."""

HAS_HEIF = find_spec("pillow_heif") is not None

SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm",
        ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", *(HEIF if HAS_HEIF else ()),
    )
)  # fmt: skip
"""Endings of files taken for images; what they hold is decided by their contents."""
