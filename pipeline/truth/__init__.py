"""Ground truth as people have it: masks, label maps and boxes, read for what they are."""

from .known import Known, find_truth
from .masks import UnfitError
from .reading import Truth

__all__ = ["Known", "Truth", "UnfitError", "find_truth"]
