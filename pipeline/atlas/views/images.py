"""The page of all images that are shown."""

from __future__ import annotations

from collections.abc import Iterator

from ..page import Material, Page


def pages(material: Material) -> Iterator[Page]:
    """Give the page of images."""
    yield Page("images.html", lambda: {"n_images": material.book.n_images}, "images.html")
