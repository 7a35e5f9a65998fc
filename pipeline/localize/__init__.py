"""Localization: where concepts are present, their regions, and the object of an image."""

from pipeline.localize.finer import FineForeground, fit_fine, stack_layers
from pipeline.localize.foreground import Foreground, fit_foreground
from pipeline.localize.refine import refine, working_shape
from pipeline.localize.regions import Regions, find_regions
from pipeline.localize.thresholds import Thresholds, presence_thresholds
from pipeline.localize.winners import Winners, WinnersFit, affinities, unit_length

__all__ = [
    "FineForeground",
    "Foreground",
    "Regions",
    "Thresholds",
    "Winners",
    "WinnersFit",
    "affinities",
    "find_regions",
    "fit_fine",
    "fit_foreground",
    "presence_thresholds",
    "refine",
    "stack_layers",
    "unit_length",
    "working_shape",
]
