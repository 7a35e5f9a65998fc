"""Localization: where concepts are present, their regions, and the object of an image."""

from .fine_model import FineModel, fit_fine_model, whitening_of_layers
from .finer import FineForeground, fit_fine, stack_layers
from .foreground import CENTRED, Foreground, Groups, centred, fit_foreground
from .kin import Kin, find_kin
from .object_model import ObjectModel, of_parts, to_parts
from .refine import Refiner, refine, working_shape
from .regions import Regions, find_regions
from .thresholds import Thresholds, presence_thresholds
from .whiten import Whitening, fit_whitening
from .winners import Winners, WinnersFit, affinities, unit_length

__all__ = [
    "CENTRED",
    "FineForeground",
    "FineModel",
    "Foreground",
    "Groups",
    "Kin",
    "ObjectModel",
    "Refiner",
    "Regions",
    "Thresholds",
    "Whitening",
    "Winners",
    "WinnersFit",
    "affinities",
    "centred",
    "find_kin",
    "find_regions",
    "fit_fine",
    "fit_fine_model",
    "fit_foreground",
    "fit_whitening",
    "of_parts",
    "presence_thresholds",
    "refine",
    "stack_layers",
    "to_parts",
    "unit_length",
    "whitening_of_layers",
    "working_shape",
]
