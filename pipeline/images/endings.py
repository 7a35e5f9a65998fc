"""Endings of image files; what such a file holds is decided by its contents."""

from __future__ import annotations

SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm",
        ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx",
    )
)  # fmt: skip
"""Endings of files taken for images; what they hold is decided by their contents."""
