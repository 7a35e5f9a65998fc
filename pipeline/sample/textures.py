"""Colours, noise and patterns that materials and backdrops are made of.

A pattern maps coordinates to [0, 1]: the share of a material's second colour. Whatever is random
is drawn before the coordinates are seen, so that a scene is the same at every size. Pictures are
planar, (3, height, width), so that every operation runs over long rows.
"""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .shapes import Field, Point

Pattern = Callable[[Field, Field], Field]
Colour = npt.NDArray[np.float32]  # (3, 1, 1): broadcasts with a field of pixels to a picture
TILE = 256


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return an RGB colour, float32 (3, 1, 1), in [0, 1]; the hue is taken modulo 1."""
    rgb = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return np.array(rgb, dtype=np.float32).reshape(3, 1, 1)


def random_colour(
    rng: np.random.Generator,
    saturation: tuple[float, float] = (0.05, 0.85),
    value: tuple[float, float] = (0.25, 0.95),
) -> Colour:
    """Draw a colour of any hue."""
    return hsv(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour between two, `share` of the way from the first."""
    return (first + (second - first) * np.float32(share)).astype(np.float32)


def smoothstep(low: float, high: float, x: Field) -> Field:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t: Field = np.clip((x - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def fractal(
    rng: np.random.Generator,
    size: int,
    cells: tuple[int, int] = (4, 4),
    octaves: int = 4,
    gain: float = 0.5,
) -> Field:
    """Fractal value noise over the unit square, the same at every size.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the lattices.
    size : int
        Points along each side; they lie at (i + ½) / size.
    cells : tuple of int
        Lattice cells down and across in the first octave; each later one has twice as many.
    octaves, gain : int, float
        Number of octaves and the strength of each relative to the one before.

    Returns
    -------
    ndarray
        float32 (size, size), in [0, 1], mean near ½.
    """
    total = np.zeros((size, size), dtype=np.float32)
    weight = 0.0
    for octave in range(octaves):
        down, across = (n * 2**octave for n in cells)
        lattice = rng.random((down + 2, across + 2), dtype=np.float32)
        total += gain**octave * _stretch(_stretch(lattice, size).T, size).T
        weight += gain**octave
    return total * np.float32(1 / weight)


def _stretch(lattice: Field, size: int) -> Field:
    """Interpolate the first axis of a lattice smoothly at `size` points of the unit interval."""
    at = (np.arange(size) + 0.5) / size * (lattice.shape[0] - 2)
    cell = at.astype(np.int64)
    t: Field = (at - cell).astype(np.float32)[:, None]
    t = t * t * (3 - 2 * t)
    before: Field = lattice[cell]
    after: Field = lattice[cell + 1]
    return before + (after - before) * t


def cellular(rng: np.random.Generator, size: int, cells: int) -> tuple[Field, Field, Field]:
    """Worley noise on a jittered grid over the unit square.

    Returns
    -------
    tuple of ndarray
        Distance to the nearest and to the second nearest point, in cells, and a number in [0, 1)
        that belongs to the nearest point; each float32 (size, size).
    """
    jitter = rng.random((3, cells + 2, cells + 2), dtype=np.float32)
    at = ((np.arange(size) + 0.5) / size * cells).astype(np.float32)
    cell = at.astype(np.int64)
    nearest = np.full((size, size), 9, dtype=np.float32)
    second, number = nearest.copy(), np.zeros_like(nearest)
    for down in (0, 1, 2):
        for across in (0, 1, 2):
            rows, columns = cell[:, None] + down, cell[None, :] + across
            dy = jitter[0, rows, columns] + (rows - 1 - at[:, None]).astype(np.float32)
            dx = jitter[1, rows, columns] + (columns - 1 - at[None, :]).astype(np.float32)
            d = dx * dx + dy * dy
            closer = d < nearest
            second = np.where(closer, nearest, np.minimum(second, d))
            number = np.where(closer, jitter[2, rows, columns], number)
            nearest = np.minimum(nearest, d)
    return np.sqrt(nearest), np.sqrt(second), number


@functools.cache
def _tile() -> Field:
    """One fixed tile of fractal noise for the grain of surfaces."""
    return fractal(np.random.Generator(np.random.PCG64(20)), TILE, (8, 8), 4, 0.6)


def grain(rng: np.random.Generator, scale: float, stretch: float = 1.0) -> Pattern:
    """Irregular grain with features of about 1 / `scale`, drawn out `stretch`-fold along x."""
    ox, oy = (float(v) * TILE for v in rng.random(2))
    step = scale * TILE / 32

    def pattern(x: Field, y: Field) -> Field:
        column = (x * (step / stretch) + ox).astype(np.int32) % TILE
        row = (y * step + oy).astype(np.int32) % TILE
        worn: Field = _tile()[row, column]
        return worn

    return pattern


def plain(x: Field, y: Field) -> Field:
    """Nothing but the first colour."""
    return np.zeros(np.broadcast(x, y).shape, dtype=np.float32)


def stripes(period: float, width: float, angle: float = 0.0, soft: float = 0.15) -> Pattern:
    """Parallel stripes; `width` is the share of the period, `angle` 0 means upright stripes."""
    cosine, sine = math.cos(angle) / period, math.sin(angle) / period

    def pattern(x: Field, y: Field) -> Field:
        phase = x * cosine + y * sine
        offset = np.abs(phase - np.round(phase))
        return 1 - smoothstep(width / 2 * (1 - soft), width / 2 * (1 + soft), offset)

    return pattern


def rays(centre: Point, count: int, width: float = 0.35, phase: float = 0.0) -> Pattern:
    """`count` rays around a centre; `width` is the share of the circle they cover."""
    cx, cy = centre

    def pattern(x: Field, y: Field) -> Field:
        turn = np.arctan2(y - cy, x - cx) * (count / (2 * math.pi)) + phase
        offset = np.abs(turn - np.round(turn))
        return 1 - smoothstep(width * 0.4, width * 0.6, offset)

    return pattern


def scallops(pitch: float) -> Pattern:
    """Overlapping rounded scales in staggered rows; 1 along their rims."""

    def pattern(x: Field, y: Field) -> Field:
        row = y * (2 / pitch)
        level = np.floor(row)
        u = x / pitch + 0.5 * (level % 2)
        u = u - np.round(u)
        v = row - level
        edge = v - (1 - 1.9 * u * u)
        return smoothstep(-0.35, 0.05, edge)

    return pattern
