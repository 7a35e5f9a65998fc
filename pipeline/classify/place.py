"""Tells concepts that are a place in the frame from those that are of what an image shows.

A network's padding is the same zeros around every image, and some concepts are about nothing else:
a strip along the top, the right edge, the corners. What is usual there, as sky at the top, looks
alike in the mean. So pictures are moved by whole cells, and it is looked where a concept goes.

Notation: h (h, w) a concept's heatmap of an image, g that of the image moved by d cells; of g the
cells that hold what the image showed before count. There ``c(y) = h(y − d)`` is what it would be if
the concept moved with the contents and ``f(y) = h(y)`` if it stayed in the frame, each less its
mean over these cells. g ≈ a c + b f, a, b ≥ 0, over all moved pictures at once:

    share = b / (a + b)

0 where it moves with the contents, 1 where it stays. Places are the concepts that stay more than
they move, and whose maps are like f, beyond what c says of them, in more than chance's way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .statistics import N_DRAWS, benjamini_hochberg

Maps = NDArray[np.float32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Shift = tuple[int, int]

DIRECTIONS = ((1, 1), (-1, -1), (1, -1), (-1, 1))
"""Ways to move a picture: along both axes at once, for edges and corners alike."""

HALF = 0.5
"""Share above which a concept stays more than it moves."""

FEWEST = 6
"""Moved pictures below which no concept can be told from chance: 1 of 64 draws is theirs."""

RATE = 0.05
"""False discovery rate of what is called a place."""


@dataclass(frozen=True)
class Place:
    """Whether a concept is a place in the frame.

    Attributes
    ----------
    is_place : bool
    share : float
        0 where it moves with the contents, 1 where it stays in the frame; NaN where nothing of it
        is seen.
    words : str
        The place that its mean map is most like: ``top edge``, ``corners``, ``centre``, …
    """

    is_place: bool
    share: float
    words: str


def places(pictures: Iterable[tuple[Maps, Maps, Shift]], seed: int = 0) -> list[Place]:
    """Find the concepts that stay in the frame when what is in it moves.

    Parameters
    ----------
    pictures : iterable of (ndarray, ndarray, (int, int))
        Heatmaps of a picture, float32 (h, w, k), those of the picture moved, and by how many cells
        it was: down, and to the right.
    seed : int
        Of the draws.

    Returns
    -------
    list of Place
        k of them; none of fewer than `FEWEST` pictures.
    """
    found, mean = [], np.zeros(())
    for h, g, shift in pictures:
        found.append(_products(h, g, shift))
        mean = mean + h
    if len(found) < FEWEST:
        return []
    products = np.stack(found)
    shares = _shares(products.sum(axis=0))
    q = benjamini_hochberg(_chance(products, seed))
    return [
        Place(
            bool(share > HALF and q[concept] <= RATE), float(share), place_words(mean[..., concept])
        )
        for concept, share in enumerate(shares)
    ]


def place_words(mean: Floats) -> str:
    """Name the place in the frame that a mean map, float64 (h, w), is most like.

    That is the one of `place_masks` with the highest correlation, the first of equal ones; no
    words where the map is the same everywhere.
    """
    centred = mean - mean.mean()
    best, words = 0.0, ""
    for name, mask in place_masks(*mean.shape):
        outline = mask - mask.mean()
        length = float(np.linalg.norm(outline))
        likeness = float((centred * outline).sum()) / length if length else 0.0
        if likeness > best * (1 + 1e-9):
            best, words = likeness, name
    return words


def place_masks(height: int, width: int) -> Iterator[tuple[str, Flags]]:
    """Give the places of a frame that have a name, and their cells, bool (height, width).

    Edges and corners are there twice, a cell and a quarter of the frame deep.
    """
    y, x = np.indices((height, width))
    up, left = 2 * y + 1 - height, 2 * x + 1 - width
    for share in (0.0, 0.25):
        deep, wide = (max(1, round(share * n)) for n in (height, width))
        edges = {"top": y < deep, "bottom": y >= height - deep}
        edges |= {"left": x < wide, "right": x >= width - wide}
        for name, edge in edges.items():
            yield f"{name} edge", edge
        for a, b in itertools.combinations(edges, 2):
            yield f"{a} and {b} edges", edges[a] | edges[b]
        for a, b in itertools.product(("top", "bottom"), ("left", "right")):
            yield f"{a} {b} corner", edges[a] & edges[b]
        yield "corners", (edges["top"] | edges["bottom"]) & (edges["left"] | edges["right"])
        yield "edges", np.any([*edges.values()], axis=0)
    yield "centre", (2 * np.abs(up) <= height) & (2 * np.abs(left) <= width)
    yield from (("upper half", up < 0), ("lower half", up > 0))
    yield from (("left half", left < 0), ("right half", left > 0))


def _products(h: Maps, g: Maps, shift: Shift) -> Floats:
    """Return ``⟨c,c⟩, ⟨c,f⟩, ⟨f,f⟩, ⟨c,g⟩, ⟨f,g⟩`` of a moved picture, float64 (5, k)."""
    slices = [
        (slice(max(0, -by), n - max(0, by)), slice(max(0, by), n - max(0, -by)))
        for by, n in zip(shift, h.shape, strict=False)
    ]
    before, after = zip(*slices, strict=True)
    cells = (
        each.reshape(-1, h.shape[-1]).astype(np.float64) for each in (h[before], h[after], g[after])
    )
    c, f, g_ = (each - each.mean(axis=0) for each in cells)
    pairs = ((c, c), (c, f), (f, f), (c, g_), (f, g_))
    return np.stack([(a * b).sum(axis=0) for a, b in pairs])


def _shares(products: Floats) -> Floats:
    """Solve non-negative least squares of two unknowns: (5, …) to shares (…), NaN of nothing."""
    cc, cf, ff, cg, fg = products
    with np.errstate(divide="ignore", invalid="ignore"):
        det = cc * ff - cf**2
        a, b = (ff * cg - cf * fg) / det, (cc * fg - cf * cg) / det
        a, b = np.where(b < 0, cg / cc, a), np.where(a < 0, fg / ff, b)
        a, b = np.maximum(a, 0), np.maximum(b, 0)
        share: Floats = b / (a + b)
    return share


def _chance(products: Floats, seed: int) -> Floats:
    """Return how often chance gives as much of f beyond c: each picture's part of it, of products
    (n, 5, k), has either sign as often; float64 (k,), NaN of nothing."""
    cc, cf, _, cg, fg = np.moveaxis(products, 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = fg - cf.sum(axis=0) / cc.sum(axis=0) * cg  # ⟨f less what is of c in it, g⟩
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (N_DRAWS, len(parts)))
    as_much = (signs @ parts >= parts.sum(axis=0)).sum(axis=0)
    return np.where(np.isnan(parts).any(axis=0), np.nan, (1 + as_much) / (1 + N_DRAWS))
