"""The bundled sample: rendered scenes with exact part masks, and a small network."""

from __future__ import annotations

from .objects import CLASS_PARTS, CLASSES, PARTS, SINGLE_PART_PAIRS
from .scenes import Cue, Scene, render_scene
from .writer import write_sample

__all__ = [
    "CLASSES",
    "CLASS_PARTS",
    "PARTS",
    "SINGLE_PART_PAIRS",
    "Cue",
    "Scene",
    "render_scene",
    "write_sample",
]
