"""Localization: where concepts are present, their regions, and the object of an image."""

from pipeline.localize.objects import Foreground, fit_foreground
from pipeline.localize.regions import Regions, find_regions
from pipeline.localize.thresholds import presence_thresholds

__all__ = ["Foreground", "Regions", "find_regions", "fit_foreground", "presence_thresholds"]
