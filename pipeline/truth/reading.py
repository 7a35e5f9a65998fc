"""What the values of masks mean: labels, void, grey levels, colours; found from all masks at once.

One mask does not say whether 255 is white or void. So the values of a sample of masks are counted,
and one reading is chosen for each kind of files in the folder:

=====================================  ============================================================
values                                 read as
=====================================  ============================================================
one besides 0                          object where the value is not 0
0, others, and 255                     labels, 255 being void: nothing is known there
0 to 255, grey along outlines alone    grey levels: object from 128 on
0 to 255, grey anywhere                refused: a map of grey levels needs a threshold
colours, few in all                    labels, one per colour, black being background
colours, as many as a photograph has   refused: these are pictures
transparency in any mask               object where it is opaque
=====================================  ============================================================
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError

WHITE, HALF = 255, 128

MOST_COLOURS = 256
"""Colours of all masks together that can be labels."""

FEW_LEVELS = 12
"""From more values in one mask on, they may be grey levels."""

MOST_UNEQUAL = 0.3
"""Of neighbouring pixels that are not black, the share that differ: labels have areas of one value,
grey levels hardly any."""

EDGE = 3
"""Pixels on each side of an outline where graphics programs leave grey levels, at most."""

MOST_APART = 0.05
"""Of grey levels, the share further from an outline; of masks drawn smoothly next to none."""

Values = NDArray[np.int64]
"""Of a mask: (height, width), or of colours (height, width, 3)."""

Kind = Literal["labels", "grey", "colours", "opacity", "opaque"]
"""Of a file: numbers, a grey JPEG, colours, transparency, or transparency that is nowhere."""

GREY = 0x010101
"""What a level of grey is times, as a colour."""


class UnfitError(Exception):
    """What is known of an image cannot be used; the text is the reason."""


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


How = Literal["labels", "void", "threshold", "colours"]


@dataclass(frozen=True)
class Reading:
    """How the masks of a folder are read.

    Attributes
    ----------
    of : mapping of Kind to How
        Of the kinds of files there are.
    said : tuple of str
        What the user is told; empty where there is but one way.
    """

    of: Mapping[Kind, How] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def apply(self, kind: Kind, values: Values) -> tuple[Values, NDArray[np.bool_] | None]:
        """Return the labels of a mask and where it says nothing (None: nowhere).

        Raises
        ------
        UnfitError
            None of the masks that were looked at is of that kind.
        """
        how = self.of.get(kind)
        if how is None:
            raise UnfitError(f"it has {kind}, and of the masks looked at none has")
        if how == "threshold":
            return (_levels(kind, values) >= HALF).astype(np.int64), None
        codes = _codes(values)
        if how == "colours" and values.ndim == 2:
            return codes * GREY, None
        if how == "void":
            void = codes == WHITE
            return np.where(void, 0, codes), void if void.any() else None
        return codes, None


@dataclass
class _Seen:
    """What the masks of a kind come to: how often values occur, and where."""

    counts: Counter[int] = field(default_factory=Counter)
    most: int = 0
    grey: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    neighbours: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def add(self, values: Values) -> None:
        codes = _codes(values)
        found, n = np.unique(codes, return_counts=True)
        self.counts.update(dict(zip(found.tolist(), n.tolist(), strict=True)))
        self.most = max(self.most, len(found))
        if values.ndim == 2 and len(found) > FEW_LEVELS and found[-1] <= WHITE:
            self.grey += _grey_pixels(values)
            self.neighbours += _neighbours(values)


def choose_reading(masks: Iterable[tuple[Kind, Values]]) -> Reading:
    """Find how masks are to be read, each kind of files for itself.

    But a mask without colours is one of colours where others have them, and one that is opaque
    everywhere is all object where others are not.

    Parameters
    ----------
    masks : iterable of (kind, values)
        A sample of them.

    Raises
    ------
    UserError
        They are no masks, or can be read in several ways.
    """
    seen = defaultdict[Kind, _Seen](_Seen)
    for kind, values in masks:
        seen[kind].add(values)
    of: dict[Kind, How] = {}
    said: list[str] = []
    for kind in ("grey", "opacity"):
        if kind in seen:
            what = "grey levels" if kind == "grey" else "transparency"
            of[kind] = "threshold"
            said.append(f"masks are read by their {what}: object from {HALF} of 255 on")
    plain: tuple[Kind, ...] = ("labels", "colours") if "opacity" in of else (
        "labels", "colours", "opaque",
    )  # fmt: skip
    if "opacity" in of:
        of["opaque"] = "threshold"
    if any(_is_coloured(seen[kind].counts) for kind in plain if kind in ("colours", "opaque")):
        counts = Counter[int]()
        for kind in plain:
            scale = GREY if kind == "labels" else 1
            counts.update({value * scale: n for value, n in seen[kind].counts.items()})
            of[kind] = "colours"
        said += _of_colours(counts)
        return Reading(of, tuple(said))
    for kind in plain:
        if seen[kind].counts:
            of[kind], words = _of_labels(seen[kind])
            said += words
    return Reading(of, tuple(said))


def _of_labels(seen: _Seen) -> tuple[How, list[str]]:
    top = max(seen.counts)
    n_grey, n_apart = seen.grey
    if n_grey and n_apart <= MOST_APART * n_grey:
        return "threshold", [
            "masks have grey levels between black and white along outlines: object from"
            f" {HALF} of 255 on"
        ]
    n_pairs, n_unequal = seen.neighbours
    if n_unequal > MOST_UNEQUAL * n_pairs:
        raise UserError(
            f"masks have up to {seen.most} values each, which look like grey levels, not labels:"
            " write masks of 0 and 255, or labels of areas"
        )
    if top == WHITE and len(seen.counts.keys() - {0, WHITE}):
        return "void", ["255 in masks is void: nothing is known there, and nothing counts"]
    return "labels", []


def _of_colours(counts: Counter[int]) -> list[str]:
    if len(counts) > MOST_COLOURS:
        raise UserError(
            f"masks have {len(counts)} colours in all, as pictures have: labels are few colours,"
            " saved without loss"
        )
    if len(counts) <= 2:
        return []
    return [f"masks have {len(counts)} colours: each but black is a label"]


def _is_coloured(counts: Mapping[int, int]) -> bool:
    return any(value % GREY for value in counts)


def _grey_pixels(values: Values) -> NDArray[np.float64]:
    """Count pixels that are neither black nor white, and those of them apart from outlines."""
    inside = values >= HALF
    near = ndimage.binary_dilation(inside, iterations=EDGE)
    near &= ~ndimage.binary_erosion(inside, iterations=EDGE, border_value=1)
    between = (values > 5) & (values < WHITE - 5)
    return np.array([between.sum(), (between & ~near).sum()], float)


def _neighbours(values: Values) -> NDArray[np.float64]:
    """Count pairs of neighbours that are not black, and those of them that differ."""
    left, right = values[:, :-1], values[:, 1:]
    inside = (left > 0) & (right > 0)
    return np.array([inside.sum(), (inside & (left != right)).sum()], float)


def _levels(kind: Kind, values: Values) -> Values:
    """Return levels from 0 to 255; what is opaque everywhere is white."""
    if kind == "opaque":
        return np.full(values.shape[:2], WHITE, np.int64)
    return values


def _codes(values: Values) -> Values:
    """Return values as one number each: colours as 0xRRGGBB."""
    if values.ndim == 2:
        return values
    codes: Values = values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2]
    return codes
