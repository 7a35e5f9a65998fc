"""Pictures of concepts, and the static site that shows them."""

from __future__ import annotations

from .data import LONG, AtlasData
from .site import build_atlas

__all__ = ["LONG", "AtlasData", "build_atlas"]
