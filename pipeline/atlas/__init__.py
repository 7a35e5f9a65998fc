"""Pictures of concepts, and the static site that shows them."""

from __future__ import annotations

from pipeline.atlas.data import AtlasData
from pipeline.atlas.site import build_atlas

__all__ = ["AtlasData", "build_atlas"]
