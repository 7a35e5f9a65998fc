"""One colour per concept: apart for every kind of colour vision, and visible on photographs."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

# The first ones are those of Okabe and Ito, moved until farthest apart; the rest are computed.
_FIRST = ("#f2382c", "#1fa2ff", "#dcea1e", "#098e5f", "#d966b5", "#5b38ef", "#f59a1b", "#6ff2ea")

# Linear sRGB as seen without long-, medium- or short-wave cones (Machado et al. 2009).
_VISIONS = np.array(
    [
        np.eye(3),
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0519]],
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6726, 0.0472], [-0.0118, 0.0429, 0.9689]],
        [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
    ]
)
_WEIGHTS = np.array([1.0, 0.7, 0.7, 0.4])  # how much each vision's distance counts

# A tint takes its light and shade from the photograph, so hue must do most of the telling apart;
# without colour vision lightness is half of what there is.
_LIGHTNESS = 0.5

_RGB_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_CONES_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def concept_colours(k: int) -> Bytes:
    """Give `k` colours that stay apart on photographs and under colour-vision deficiency.

    The first eight are fixed. Each further colour is, of a grid of vivid sRGB colours, the one
    farthest from all before it in OKLab, where the distance of two colours is the smallest over
    normal, protan, deutan and tritan vision. Colour j does not depend on k.

    Parameters
    ----------
    k : int
        How many colours, at least 0. Beyond some 50 no palette keeps every pair apart.

    Returns
    -------
    numpy.ndarray
        uint8 (k, 3), RGB.
    """
    n = max(64, 1 << max(k - 1, 0).bit_length())
    return _palette(n)[:k].copy()


def as_hex(colour: npt.ArrayLike) -> str:
    """Write an RGB colour (three values in 0..255) as ``#rrggbb``."""
    red, green, blue = (int(each) for each in np.asarray(colour))
    return f"#{red:02x}{green:02x}{blue:02x}"


def oklab(colours: Bytes) -> Floats:
    """Convert sRGB colours, uint8 (n, 3), to OKLab, float64 (n, 3) (Ottosson 2020)."""
    return _linear_to_oklab(_linear(colours))


def seen_apart(a: Bytes, b: Bytes) -> Floats:
    """Distance of every colour in `a` (n, 3) to every one in `b` (m, 3), for the worst vision.

    Returns
    -------
    numpy.ndarray
        float64 (n, m): the smallest OKLab distance over normal, protan, deutan and tritan vision,
        the rarer ones counting less.
    """
    first, second = _seen(a), _seen(b)
    apart = np.linalg.norm(first[:, :, None, :] - second[:, None, :, :], axis=-1)
    return np.asarray((apart / _WEIGHTS[:, None, None]).min(axis=0))


@cache
def _palette(n: int) -> Bytes:
    candidates = _candidates()
    chosen = np.array([_parse(text) for text in _FIRST], np.uint8)[:n]
    nearest = seen_apart(candidates, chosen).min(axis=1)
    for _ in range(n - len(chosen)):
        colour = candidates[int(nearest.argmax())][None]
        chosen = np.concatenate([chosen, colour])
        nearest = np.minimum(nearest, seen_apart(candidates, colour)[:, 0])
    return chosen


def _candidates() -> Bytes:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, green_red, blue_yellow = oklab(grid).T
    chroma = np.hypot(green_red, blue_yellow)
    return np.asarray(
        grid[(lightness > 0.50) & (lightness < 0.90) & (chroma > 0.125) & (chroma < 0.25)]
    )


def _seen(colours: Bytes) -> Floats:
    seen = np.einsum("vij,nj->vni", _VISIONS, _linear(colours)).clip(0.0, 1.0)
    lab = np.stack([_linear_to_oklab(each) for each in seen])
    lab[0, :, 0] *= _LIGHTNESS
    return lab


def _linear(colours: Bytes) -> Floats:
    share = np.asarray(colours, np.float64) / 255.0
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _linear_to_oklab(linear: Floats) -> Floats:
    return np.asarray(np.cbrt(linear @ _RGB_TO_CONES.T) @ _CONES_TO_LAB.T)


def _parse(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
