"""Where in an object a concept sits: words, from its heatmaps and the object's masks.

Notation, for one image: s (Y, X) strength, where it is below the presence threshold 0; O (Y, X) the
object. Measures (see `MEASURES`), each in [0, 1]:

    inside   Σ s O / Σ s
    area     share of the image that is O
    down     share of O above the middle Σ y s / Σ s;  right: share of O left of Σ x s / Σ s
    left_third, right_third
             share of Σ s O in the leftmost and the rightmost third of O's area
    depth    share of O that is nearer to O's edge than the concept is, in the mean over s O
    cover    share of O where the concept is present

A word holds in an image by one of these; it is said where it holds in `MOST` of the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .known import Frame, Place

Floats = NDArray[np.float64]

MEASURES = (
    "inside", "area", "down", "right", "left_third", "right_third", "depth", "cover", "x", "y",
)  # fmt: skip
"""What is measured in an image, in order; x and y are the middle in shares of the image."""

MOST = 2 / 3
"""Share of images in which a word has to hold: a clear majority."""

LEAST_IMAGES = 6
"""Images that words need, at least."""

INSIDE = 0.5
"""Background has less of its strength inside the object in most of the images; where in the object
it is can be said of what has more of it inside in most of them."""

OFF = 1 / 8
"""A middle so far from the object's own is off it: nearer to that of what fills a half of the
object, a quarter off, than to that of what fills all of it."""

BOTH, BETWEEN = 0.3, 1 / 6
"""Shares of the strength of what is on both sides, in each outer third at least and in the one
between them at most; even strength has a third in each, and a ring on the rim a fifth between."""

WHOLE = 0.6
"""Share of the object that is covered by what is all of it."""

RIM, DEEP = 0.35, 0.65
"""Depth up to which a concept lies on the rim, and from which in the middle; even strength: 0.5."""

LEAST_AREA, MOST_AREA = 0.01, 0.95
"""Objects that are smaller or larger, in shares of the image, tell no place."""

FIXED = 0.05
"""How far, in shares of the picture's sides, the middle of what stands at one place may move from
its median (the median of that): a watermark's moves by 0.02, parts of centred objects by 0.1."""

EDGE = 0.25
"""Middles nearer to an edge of the picture, in shares of its side, are at that edge."""


@dataclass(frozen=True)
class Shape:
    """An object in an image, and what is measured of it alone, once for all concepts.

    Parameters
    ----------
    mask : ndarray
        bool (Y, X), within what the network saw.
    """

    mask: NDArray[np.bool_]

    @cached_property
    def n(self) -> int:
        """Cells of it."""
        return int(self.mask.sum())

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Cells in each row, int64 (Y,)."""
        found: NDArray[np.int64] = self.mask.sum(1)
        return found

    @cached_property
    def columns(self) -> NDArray[np.int64]:
        """Cells in each column, int64 (X,)."""
        found: NDArray[np.int64] = self.mask.sum(0)
        return found

    @cached_property
    def depth(self) -> Floats:
        """Share of the object that is nearer to its edge, float64 (Y, X)."""
        deep = ndimage.distance_transform_edt(np.pad(self.mask, 1))[1:-1, 1:-1]
        order = np.sort(deep[self.mask])
        nearer = np.searchsorted(order, deep, "left") + np.searchsorted(order, deep, "right")
        share: Floats = nearer / 2 / len(order)
        return share


def measure(strength: NDArray[np.float32], shape: Shape, threshold: float) -> Floats:
    """Measure a concept in an image.

    Parameters
    ----------
    strength : ndarray
        float32 (Y, X), gauge units; NaN where the network did not see the image.
    shape : Shape
        The object.
    threshold : float
        From which on the concept is present.

    Returns
    -------
    ndarray
        float64, `MEASURES`; NaN where there is none: all without the concept, those of the object
        without an object.
    """
    found = np.full(len(MEASURES), np.nan)
    seen = ~np.isnan(strength)
    s = np.where(seen & (np.nan_to_num(strength) >= threshold), strength, 0).astype(np.float64)
    total = s.sum()
    if not total > 0:
        return found
    rows, columns = s.sum(1), s.sum(0)
    y, x = (_middle(each) for each in (rows, columns))
    found[-2:] = (x + 0.5) / len(columns), (y + 0.5) / len(rows)
    area = shape.n / max(1, seen.sum())
    found[:2] = (s[shape.mask].sum() / total), area
    if LEAST_AREA <= area <= MOST_AREA:
        found[2:4] = _rank(shape.rows, y), _rank(shape.columns, x)
        found[4:8] = _within(s, shape)
    return found


def _within(s: Floats, shape: Shape) -> Floats:
    """Return left_third, right_third, depth and cover; NaN where nothing is inside the object."""
    inside = np.where(shape.mask, s, 0)
    total = inside.sum()
    if not total > 0:
        return np.full(4, np.nan)
    share = (np.cumsum(shape.columns) - 0.5 * shape.columns) / shape.n  # of the object, left of it
    columns = inside.sum(0) / total
    return np.array(
        [
            columns[share < 1 / 3].sum(),
            columns[share > 2 / 3].sum(),
            (inside * shape.depth).sum() / total,
            (inside > 0).sum() / shape.n,
        ]
    )


def _middle(weights: Floats) -> float:
    return float((np.arange(len(weights)) * weights).sum() / weights.sum())


def _rank(counts: NDArray[np.int64], at: float) -> float:
    """Return the share of an object's cells before a place along an axis, cells being spread."""
    edges = np.concatenate([[0], np.cumsum(counts)])
    return float(np.interp(at + 0.5, np.arange(len(edges)), edges) / edges[-1])


def _is_on_both(left: Floats, right: Floats) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (np.minimum(left, right) >= BOTH) & (1 - left - right <= BETWEEN)
    return found


Test = Callable[[dict[str, Floats]], NDArray[np.bool_]]

_WORDS: tuple[tuple[tuple[str, Test], ...], ...] = (
    (("all of it", lambda m: m["cover"] >= WHOLE),),
    (
        ("top", lambda m: m["down"] <= 0.5 - OFF),
        ("low", lambda m: m["down"] >= 0.5 + OFF),
    ),
    (
        ("left side", lambda m: m["right"] <= 0.5 - OFF),
        ("right side", lambda m: m["right"] >= 0.5 + OFF),
        ("both sides", lambda m: _is_on_both(m["left_third"], m["right_third"])),
    ),
    (
        ("rim", lambda m: m["depth"] <= RIM),
        ("middle", lambda m: m["depth"] >= DEEP),
    ),
)
"""Words that exclude each other stand together. What is all of it is nothing else, and what is off
the middle up, down or to a side is not said to be on the rim or in the middle."""


def place_in_object(measures: Floats) -> Place:
    """Say where in the object a concept sits.

    Parameters
    ----------
    measures : ndarray
        float64 (images, `MEASURES`).

    Returns
    -------
    Place
    """
    n, by_name = _with_object(measures)
    if n < LEAST_IMAGES:
        return Place((), n, (), *([np.nan] * 6))
    outside = int((by_name["inside"] < INSIDE).sum())
    told = [("background", outside)] if outside >= MOST * n else []
    if n - outside >= MOST * n:
        told = _words(by_name, n)
    return Place(
        tuple(word for word, _ in told),
        n,
        tuple(count for _, count in told),
        float(by_name["inside"].mean()),
        float(by_name["area"].mean()),
        *(_median(by_name[name]) for name in ("down", "right", "depth", "cover")),
    )


def _with_object(measures: Floats) -> tuple[int, dict[str, Floats]]:
    area = measures[:, MEASURES.index("area")]
    kept = measures[(area >= LEAST_AREA) & (area <= MOST_AREA)]  # false of NaN
    return len(kept), dict(zip(MEASURES, kept.T, strict=True))


def _words(by_name: dict[str, Floats], n: int) -> list[tuple[str, int]]:
    told: list[tuple[str, int]] = []
    for words in _WORDS:
        counts = [(word, int(holds(by_name).sum())) for word, holds in words]
        word, count = max(counts, key=lambda each: each[1])
        if count >= MOST * n:
            told.append((word, count))
        if told and words is not _WORDS[1]:  # beside top or low there may be a side
            break
    return told


def place_in_frame(measures: Floats) -> Frame:
    """Say where in the picture a concept sits; `measures` as of `place_in_object`."""
    x, y = (measures[:, MEASURES.index(name)] for name in "xy")
    x, y = x[~np.isnan(x)], y[~np.isnan(y)]
    if len(x) < LEAST_IMAGES:
        return Frame("", len(x), np.nan, np.nan)
    at = [
        word
        for word, near in (
            ("top", y <= EDGE), ("bottom", y >= 1 - EDGE), ("left", x <= EDGE),
            ("right", x >= 1 - EDGE),
        )
        if near.mean() >= MOST
    ]  # fmt: skip
    in_picture, in_object = (_spread(measures, *names) for names in (("x", "y"), ("right", "down")))
    is_fixed = in_picture <= FIXED and not in_object <= in_picture
    word = " ".join(at) or ("middle" if is_fixed else "")
    return Frame(word, len(x), _median(x), _median(y), is_fixed)


def _spread(measures: Floats, *names: str) -> float:
    """Return how far from their medians two measures lie in most images; NaN of too few."""
    values = measures[:, [MEASURES.index(name) for name in names]]
    values = values[~np.isnan(values).any(1)]
    if len(values) < LEAST_IMAGES:
        return float("nan")
    off = np.abs(values - np.median(values, axis=0))
    return float(np.hypot(*np.median(off, axis=0)))


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")
