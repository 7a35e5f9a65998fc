"""What the values of masks mean: labels, void, grey levels, colours; found from all masks at once.

One mask does not say whether 255 is white or void. So the values of a sample of masks are counted,
and one reading is chosen for the folder:

=====================================  ============================================================
values                                 read as
=====================================  ============================================================
one besides 0                          object where the value is not 0
0, others, and 255                     labels, 255 being void: nothing is known there
0 to 255, grey along outlines alone    grey levels: object from 128 on
0 to 255, grey anywhere                refused: a map of grey levels needs a threshold
colours, few in all                    labels, one per colour, black being background
colours, as many as a photograph has   refused: these are pictures
transparency                           object where it is opaque
=====================================  ============================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError

WHITE, HALF = 255, 128

MOST_COLOURS = 256
"""Colours of all masks together that can be labels."""

FEW_LEVELS, MANY_LEVELS = 12, 48
"""Values in one mask: from more than the first on they may be grey levels, and more than the second
are no labels of eight bits."""

EDGE = 3
"""Pixels on each side of an outline where graphics programs leave grey levels, at most."""

MOST_APART = 0.05
"""Of grey levels, the share further from an outline; of masks drawn smoothly next to none."""

Values = NDArray[np.int64]
"""Of a mask: (height, width), or of colours (height, width, 3)."""

Kind = Literal["labels", "grey", "colours", "opacity"]


@dataclass(frozen=True)
class Truth:
    """What is known of one image.

    Attributes
    ----------
    labels : ndarray or None
        int64 (height, width), 0 being nothing; None where boxes alone are known.
    boxes : list of (x0, y0, x1, y1)
        Of each object, half-open, original pixels.
    void : ndarray or None
        bool (height, width), where nothing is known; None: everywhere something is.
    """

    labels: NDArray[np.int64] | None
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    void: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Reading:
    """How the values of masks are read.

    Attributes
    ----------
    how : {'labels', 'void', 'threshold', 'colours'}
    said : str
        What the user is told; empty where there is but one way.
    """

    how: Literal["labels", "void", "threshold", "colours"]
    said: str = ""


def choose_reading(masks: Iterable[tuple[Kind, Values]]) -> Reading:
    """Find how masks are to be read.

    Parameters
    ----------
    masks : iterable of (kind, values)
        A sample of them.

    Raises
    ------
    UserError
        They are no masks, or can be read in several ways.
    """
    kinds = Counter[Kind]()
    counts = Counter[int]()
    most, grey = 0, np.zeros(2)
    for kind, values in masks:
        kinds[kind] += 1
        found, n = np.unique(_codes(values), return_counts=True)
        counts.update(dict(zip(found.tolist(), n.tolist(), strict=True)))
        most = max(most, len(found))
        if kind == "labels" and len(found) > FEW_LEVELS and found[-1] <= WHITE:
            grey += _grey_pixels(values)
    if len(kinds) > 1:
        raise UserError(f"masks are of several kinds, {' and '.join(sorted(kinds))}: part them")
    kind = next(iter(kinds), "labels")
    if kind == "colours":
        return _of_colours(counts)
    if kind in ("grey", "opacity"):
        what = "grey levels" if kind == "grey" else "transparency"
        return Reading("threshold", f"masks are read by their {what}: object from {HALF} of 255 on")
    return _of_labels(counts, most, grey)


def _of_labels(counts: Counter[int], most: int, grey: NDArray[np.float64]) -> Reading:
    top = max(counts, default=0)
    n_grey, n_apart = grey
    if n_grey and n_apart <= MOST_APART * n_grey:
        return Reading(
            "threshold",
            f"masks have grey levels between black and white along outlines: object from {HALF} of"
            " 255 on",
        )
    if most > MANY_LEVELS and top <= WHITE:
        raise _grey(most)
    if top == WHITE and len(counts.keys() - {0, WHITE}):
        return Reading("void", "255 in masks is void: nothing is known there, and nothing counts")
    return Reading("labels")


def _grey_pixels(values: Values) -> NDArray[np.float64]:
    """Count pixels that are neither black nor white, and those of them apart from outlines."""
    inside = values >= HALF
    near = ndimage.binary_dilation(inside, iterations=EDGE)
    near &= ~ndimage.binary_erosion(inside, iterations=EDGE, border_value=1)
    between = (values > 5) & (values < WHITE - 5)
    return np.array([between.sum(), (between & ~near).sum()], float)


def _grey(n: int) -> UserError:
    return UserError(
        f"masks have up to {n} values each, which look like grey levels, not labels: write masks"
        " of 0 and 255, or labels as a 16-bit or palette PNG"
    )


def _of_colours(counts: Counter[int]) -> Reading:
    if len(counts) > MOST_COLOURS:
        raise UserError(
            f"masks have {len(counts)} colours in all, as pictures have: labels are few colours,"
            " saved without loss"
        )
    if len(counts) <= 2:
        return Reading("colours")
    return Reading("colours", f"masks have {len(counts)} colours: each but black is a label")


def apply(reading: Reading, values: Values) -> tuple[Values, NDArray[np.bool_] | None]:
    """Return the labels of a mask and where it says nothing (None: nowhere)."""
    if reading.how == "threshold":
        return (values >= HALF).astype(np.int64), None
    codes = _codes(values)
    if reading.how == "void":
        void = codes == WHITE
        return np.where(void, 0, codes), void if void.any() else None
    return codes, None


def _codes(values: Values) -> Values:
    """Return values as one number each: colours as 0xRRGGBB."""
    if values.ndim == 2:
        return values
    codes: Values = values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2]
    return codes
