"""Localization: where concepts are present, their regions, and the object of an image."""

from .finer import FineForeground, fit_fine, stack_layers
from .foreground import Foreground, fit_foreground
from .refine import Refiner, refine, working_shape
from .regions import Regions, find_regions
from .thresholds import Thresholds, presence_thresholds
from .winners import Winners, WinnersFit, affinities, unit_length

__all__ = [
    "FineForeground",
    "Foreground",
    "Refiner",
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
