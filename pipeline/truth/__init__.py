"""Ground truth as people have it: masks, label maps and boxes, read for what they are."""

from .known import Known, find_truth
from .reading import Truth, UnfitError

__all__ = ["Known", "Truth", "UnfitError", "find_truth"]
