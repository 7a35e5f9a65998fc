"""Which values of images of more than 8 bits become black and white: found once a run."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..images import DatasetSource, DecodeError, PixelRule, sample_values
from ..images.deep import KINDS, Ranges, range_of
from ..store import Listing
from ..system.memory import TooMuch
from .record import RunRecord

LOOKED_AT, SAMPLED = 128, 32
"""Images that are looked at, and of each kind those whose values are sampled, at most. They are
the first of the listing, which is in random order."""

SHALLOW = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp"))
"""Endings of files that need not be looked at: these formats have 8 bits."""


def pixel_rule(
    config: Config, before: RunRecord | None, source: DatasetSource, listing: Listing
) -> PixelRule:
    """Return how a run reads pixels: as it was begun, as asked for, or as its images need it."""
    if before is not None:
        return PixelRule(config.on_damage, before.preprocessing.ranges)
    if config.levels is not None:
        return PixelRule(config.on_damage, dict.fromkeys(KINDS, config.levels))
    return PixelRule(config.on_damage, _find_ranges(source, listing))


def told(rule: PixelRule) -> list[str]:
    """Say which values of which kinds become black and white."""
    return [
        f"{kind} values: {low:g} becomes black, {high:g} white"
        for kind, (low, high) in (rule.ranges or {}).items()
    ]


def _find_ranges(source: DatasetSource, listing: Listing) -> Ranges:
    """Find the range of each kind of values among the first images of a listing."""
    samples = defaultdict[str, list[NDArray[np.float64]]](list)
    for image in listing.records(slice(0, LOOKED_AT)):
        if PurePosixPath(image.path).suffix.lower() in SHALLOW:
            continue
        enough = {kind for kind, values in samples.items() if len(values) >= SAMPLED}
        try:
            found = sample_values(source, image, enough)
        except (DecodeError, TooMuch):
            continue  # it is refused, and the reason said, once all images are read
        if found is not None:
            samples[found[0]].append(found[1])
    return {kind: range_of(np.concatenate(values)) for kind, values in sorted(samples.items())}
