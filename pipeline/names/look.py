"""How a concept's places look: words of colour and texture, each by a written threshold.

Notation: L, C, h lightness (0 to 100), chroma and hue (degrees) of a pixel in CIELAB; J the mean of
∇L ∇Lᵀ over a pixel's surroundings, with eigenvalues λ₁ ≥ λ₂; g the mean of ∇L there.

    contrast      √(λ₁ + λ₂), lightness a pixel
    coherence     (λ₁ − λ₂) / (λ₁ + λ₂): 1 where all edges run one way
    alternation   1 − ‖g‖² / m²: 0 at an edge, ½ at a corner, 1 where L rises as often as it falls

References
----------
Berlin, B. & Kay, P. (1969). Basic Color Terms. Bigün, J. & Granlund, G. (1987). Optimal orientation
detection of linear symmetry (the structure tensor).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import bdtrc
from skimage.color import rgb2lab

from .known import Look

Floats = NDArray[np.float64]

SIDE = 96
"""Longer side at which pixels are looked at: a texture that is fine there is fine at a glance."""

COLOURS = (
    "black", "white", "grey", "red", "pink", "orange", "brown", "beige", "yellow", "green", "blue",
    "purple",
)  # fmt: skip
TEXTURES = ("smooth", "striped", "fine texture")
WORDS = (*COLOURS, *TEXTURES)

BLACK, WHITE, GREY = 18.0, 88.0, 9.0
"""L up to which all is black, L from which what is grey is white, C up to which all is grey."""

HUES = ((15.0, "pink"), (55.0, "red"), (80.0, "orange"), (105.0, "yellow"), (190.0, "green"),
        (310.0, "blue"), (335.0, "purple"), (360.0, "pink"))  # fmt: skip
"""Hues up to which a colour has a name, where it is neither dark nor pale."""

PINK = 62.0
"""L from which red is pink; below it, what is pink by hue is red."""

DARK, PALE = 52.0, 40.0
"""Orange and yellow are brown below this L, and beige above it where C is below `PALE`."""

SMOOTH, ROUGH = 1.5, 4.0
"""Contrast up to which a place is smooth, and from which it has a texture."""

ALONG, ACROSS = 0.65, 0.45
"""Coherence from which a texture is striped, and up to which it is fine texture."""

ALTERNATING = 0.8
"""Alternation of a texture, at least: an edge alone is none."""

WINDOW = 9
"""Side of a pixel's surroundings, pixels at `SIDE`."""

LEAST_PIXELS = 24
"""Pixels of a place, and elsewhere in its image, at least."""

LEAST_IMAGES, MOST = 8, 2 / 3
"""Images that a word needs, and the share of them in which most of the place has to be so."""

MORE, LEVEL = 0.2, 0.01
"""How much more of the place than of elsewhere has to be so, in shares; and the p of the sign test
of that over images."""


@dataclass(frozen=True)
class Worded:
    """A picture as words.

    Attributes
    ----------
    colour, texture : ndarray
        int8 (Y, X), places in `COLOURS` and `TEXTURES`; −1 for none.
    """

    colour: NDArray[np.int8]
    texture: NDArray[np.int8]


def worded(pixels: NDArray[np.uint8]) -> Worded:
    """Give every pixel its words.

    Parameters
    ----------
    pixels : ndarray
        uint8 (Y, X, 3), RGB; about `SIDE` pixels a side.
    """
    lab = rgb2lab(pixels.astype(np.float32) / 255)
    return Worded(colour_words(lab), texture_words(lab[..., 0]))


def colour_words(lab: NDArray[np.float32]) -> NDArray[np.int8]:
    """Name each colour of CIELAB (…, 3); int8, places in `COLOURS`."""
    L, a, b = np.moveaxis(lab, -1, 0)
    C, h = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    edges = np.array([edge for edge, _ in HUES])
    named = np.array([COLOURS.index(name) for _, name in HUES], dtype=np.int8)
    found: NDArray[np.int8] = named[np.searchsorted(edges, h).clip(max=len(edges) - 1)]
    at = COLOURS.index
    rosy = np.isin(found, (at("red"), at("pink")))
    warm = np.isin(found, (at("orange"), at("yellow")))
    found[rosy] = np.where(L[rosy] >= PINK, at("pink"), at("red"))
    found[warm & (L < DARK)] = at("brown")
    found[warm & (L >= DARK) & (C < PALE)] = at("beige")
    found[C < GREY] = at("grey")
    found[(C < GREY) & (L >= WHITE)] = at("white")
    found[L < BLACK] = at("black")
    return found


def texture_words(L: NDArray[np.float32]) -> NDArray[np.int8]:
    """Name the texture around each pixel of lightness (Y, X); int8, places in `TEXTURES`, or −1."""
    y, x = np.gradient(L) if min(L.shape) > 1 else (np.zeros_like(L), np.zeros_like(L))
    yy, xx, xy, gy, gx, m = (
        ndimage.uniform_filter(each, WINDOW, mode="nearest")
        for each in (y * y, x * x, x * y, y, x, np.hypot(y, x))
    )
    energy = np.maximum(yy + xx, 1e-6)
    coherence = np.hypot(xx - yy, 2 * xy) / energy
    alternation = 1 - (gy * gy + gx * gx) / np.maximum(m * m, 1e-6)
    is_texture = (np.sqrt(energy) >= ROUGH) & (alternation >= ALTERNATING)
    found = np.full(L.shape, -1, dtype=np.int8)
    found[np.sqrt(energy) <= SMOOTH] = TEXTURES.index("smooth")
    found[is_texture & (coherence >= ALONG)] = TEXTURES.index("striped")
    found[is_texture & (coherence <= ACROSS)] = TEXTURES.index("fine texture")
    return found


def shares(picture: Worded, strength: NDArray[np.float32], threshold: float) -> Floats | None:
    """Return what share of a concept's place is of each word, and of elsewhere.

    Its place is where it is present and at least half as strong as at its strongest; elsewhere is
    where it is not present.

    Parameters
    ----------
    picture : Worded
        Of (Y, X) pixels.
    strength : ndarray
        float32 (Y, X), NaN where the network did not see the image.
    threshold : float
        From which on the concept is present.

    Returns
    -------
    ndarray or None
        float64 (2, `WORDS`); None where one of the two is smaller than `LEAST_PIXELS`.
    """
    known = np.nan_to_num(strength, nan=-np.inf)
    here = known >= max(threshold, known.max(initial=0) / 2)
    elsewhere = (known < threshold) & ~np.isnan(strength)
    if min(here.sum(), elsewhere.sum()) < LEAST_PIXELS:
        return None
    kinds = ((picture.colour, COLOURS), (picture.texture, TEXTURES))
    rows = [
        np.concatenate([_counts(words[at], names) for words, names in kinds]) / at.sum()
        for at in (here, elsewhere)
    ]
    return np.stack(rows)


def _counts(words: NDArray[np.int8], names: tuple[str, ...]) -> NDArray[np.int64]:
    return np.bincount(words[words >= 0], minlength=len(names))


def looks(measured: Floats) -> tuple[Look, ...]:
    """Say how a concept looks, over its strongest images.

    A word is said where it holds for most of the place in a clear majority of the images, and for
    more of the place than of elsewhere in them.

    Parameters
    ----------
    measured : ndarray
        float64 (images, 2, `WORDS`), as of `shares`.

    Returns
    -------
    tuple of Look
        The best word of colour and the best of texture, of those that can be said.
    """
    n = len(measured)
    if n < LEAST_IMAGES:
        return ()
    here, elsewhere = measured[:, 0], measured[:, 1]
    holds, more, less = (here >= 0.5).sum(0), (here > elsewhere).sum(0), (here < elsewhere).sum(0)
    excess = (here - elsewhere).mean(0)
    sure = np.array([_p(*each) for each in zip(more.tolist(), less.tolist(), strict=True)]) <= LEVEL
    said = (holds >= MOST * n) & (excess >= MORE) & sure
    found = []
    for kind in (COLOURS, TEXTURES):
        told = [at for at in map(WORDS.index, kind) if said[at]]
        if told:
            at = max(told, key=lambda each: (holds[each], excess[each]))
            means = float(here[:, at].mean()), float(elsewhere[:, at].mean())
            found.append(Look(WORDS[at], int(holds[at]), n, *means))
    return tuple(found)


def _p(more: int, less: int) -> float:
    """Return the p of the sign test: the chance of as many or more by the toss of a coin."""
    return float(bdtrc(more - 1, more + less, 0.5)) if more else 1.0
