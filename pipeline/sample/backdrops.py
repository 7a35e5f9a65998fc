"""Backdrops: skies, hills, water, walls, foliage, night; the same at every size of scene."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .shapes import Field
from .textures import Colour, cellular, fractal, hsv, mix, random_colour, smoothstep

Backdrop = Callable[[np.random.Generator, int], Field]


def backdrop(rng: np.random.Generator, size: int) -> Field:
    """Draw one backdrop of a random kind: float32 (3, size, size), in [0, 1]."""
    picture = KINDS[int(rng.integers(len(KINDS)))](rng, size)
    tint = mix(hsv(0, 0, 1), random_colour(rng, (0.3, 0.9), (1, 1)), rng.uniform(0.0, 0.5))
    slope = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    x, y = _grid(size)
    shade = 1 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5)
    exposure = np.float32(rng.uniform(0.7, 1.2))
    lit: Field = np.clip(picture * tint * shade * exposure, 0, 1)
    return lit


def _grid(size: int) -> tuple[Field, Field]:
    at = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return np.meshgrid(at, at)


def _blend(first: Colour | Field, second: Colour | Field, share: Field) -> Field:
    return first + (second - first) * share


def _relief(height: Field, strength: float) -> Field:
    """Return the light on a height field lit from the upper left, around 1."""
    slope: Field = np.gradient(height, axis=0) + np.gradient(height, axis=1)
    light: Field = np.clip(1 + slope * np.float32(strength * len(height)), 0.4, 1.6)
    return light


def _sky(rng: np.random.Generator, size: int) -> Field:
    _, y = _grid(size)
    zenith = hsv(rng.uniform(0.5, 0.68), rng.uniform(0.3, 0.75), rng.uniform(0.5, 0.95))
    haze = hsv(rng.uniform(0.0, 0.7), rng.uniform(0.05, 0.35), rng.uniform(0.8, 1.0))
    noise = fractal(rng, size, (3, 2), 5)
    cover = rng.uniform(0.42, 0.6)
    clouds = smoothstep(cover, cover + 0.2, noise) * 0.9
    lit = hsv(0, 0, 1) * _relief(noise, 0.05)
    return _blend(_blend(zenith, haze, y), lit, clouds)


def _landscape(rng: np.random.Generator, size: int) -> Field:
    _, y = _grid(size)
    picture = _sky(rng, size)
    horizon = rng.uniform(0.45, 0.7)
    hue = rng.uniform(0.1, 0.45)
    for depth in range(3):
        profile = fractal(rng, size, (1, 3 + depth), 3)[size // 2]
        crest = horizon + 0.12 * depth - 0.25 * (profile - 0.3) * (1 - 0.3 * depth)
        ground = hsv(hue + rng.uniform(-0.04, 0.04), 0.25 + 0.2 * depth, rng.uniform(0.35, 0.7))
        coat = fractal(rng, size, (10 + 6 * depth, 8 + 4 * depth), 3, 0.7)
        slope = ground * _relief(coat, 0.035) * (0.6 + 0.8 * coat)
        inside = smoothstep(-0.003, 0.003, y - crest[None, :])
        picture = _blend(picture, slope, inside)
    return picture


def _sea(rng: np.random.Generator, size: int) -> Field:
    _, y = _grid(size)
    horizon = rng.uniform(0.3, 0.6)
    deep = hsv(rng.uniform(0.45, 0.65), rng.uniform(0.4, 0.8), rng.uniform(0.25, 0.6))
    shallow = hsv(rng.uniform(0.4, 0.6), 0.35, rng.uniform(0.6, 0.9))
    waves = fractal(rng, size, (26, 5), 3, 0.7)
    glint = smoothstep(0.62, 0.75, waves) * 0.7
    water = _blend(_blend(shallow, deep, y) * (0.7 + 0.6 * waves), hsv(0, 0, 1), glint)
    return _blend(_sky(rng, size), water, smoothstep(-0.003, 0.003, y - horizon))


def _bricks(rng: np.random.Generator, size: int) -> Field:
    x, y = _grid(size)
    rows = int(rng.integers(8, 15))
    ratio, joint = rng.uniform(1.8, 2.8), rng.uniform(0.06, 0.12)
    v = y * rows + rng.random()
    row = np.floor(v).astype(np.int64)
    u = x * rows / ratio + 0.5 * (row % 2) + rng.random()
    column = np.floor(u).astype(np.int64)
    tones = rng.random((64, 64), dtype=np.float32)[row % 64, column % 64]
    edge = np.minimum(
        np.minimum(v - row, row + 1 - v), ratio * np.minimum(u - column, column + 1 - u)
    )
    inside = smoothstep(joint * 0.5, joint * 1.5, edge.astype(np.float32))
    rough = fractal(rng, size, (24, 24), 3, 0.7)
    clay = random_colour(rng, (0.2, 0.7), (0.35, 0.85))
    mortar = random_colour(rng, (0, 0.2), (0.4, 0.9))
    brick = clay * (0.65 + 0.5 * tones + 0.25 * rough)
    wall = _blend(mortar * (0.8 + 0.3 * rough), brick, inside)
    return wall * _relief(0.012 * inside + 0.008 * rough, 0.5)


def _planks(rng: np.random.Generator, size: int) -> Field:
    x, y = _grid(size)
    if rng.random() < 0.5:
        x, y = y, x
    count = int(rng.integers(4, 9))
    v = y * count
    row = np.floor(v).astype(np.int64)
    tone: Field = rng.random(16, dtype=np.float32)[row % 16]
    lattice = fractal(rng, size, (40, 2), 3, 0.7)
    streaks = lattice if x[0, 0] == x[-1, 0] else lattice.T
    rings: Field = 0.5 + 0.5 * np.sin((streaks * 9 + tone * 20) * 3)
    wood = random_colour(rng, (0.2, 0.65), (0.45, 0.85))
    gap = smoothstep(0.0, 0.05, np.minimum(v - row, row + 1 - v).astype(np.float32))
    shade: Field = (0.6 + 0.35 * tone + 0.15 * rings + 0.2 * streaks) * (0.25 + 0.75 * gap)
    return wood * shade


def _foliage(rng: np.random.Generator, size: int) -> Field:
    picture = np.zeros((3, size, size), dtype=np.float32)
    picture += random_colour(rng, (0.3, 0.7), (0.1, 0.25))
    hue = rng.uniform(0.0, 0.5)
    for cells in (7, 11, 17):
        near, second, number = cellular(rng, size, cells)
        leaf = smoothstep(0.05, 0.2, second - near) * smoothstep(0.25, 0.45, number)
        green = hsv(hue + rng.uniform(-0.05, 0.05), rng.uniform(0.35, 0.8), rng.uniform(0.45, 0.85))
        shade = np.clip(1.15 - 0.9 * near, 0.2, 1.2) * (0.6 + 0.7 * number)
        picture = _blend(picture, green * shade, leaf)
    return picture


def _bokeh(rng: np.random.Generator, size: int) -> Field:
    x, y = _grid(size)
    low, high = random_colour(rng, value=(0.1, 0.5)), random_colour(rng, value=(0.3, 0.8))
    picture = _blend(low, high, fractal(rng, size, (2, 2), 2))
    hue = rng.random()
    for _ in range(int(rng.integers(14, 26))):
        cx, cy, radius = rng.random(), rng.random(), rng.uniform(0.03, 0.11)
        glow = hsv(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.1, 0.7), 1.0)
        d = np.hypot(x - cx, y - cy) / radius
        disc = (1 - smoothstep(0.85, 1.05, d)) * (0.6 + 0.4 * smoothstep(0.5, 1.0, d))
        picture = _blend(picture, glow, disc * np.float32(rng.uniform(0.15, 0.6)))
    return picture


def _plaster(rng: np.random.Generator, size: int) -> Field:
    base = random_colour(rng, (0.05, 0.7), (0.4, 0.95))
    stain = random_colour(rng, (0.05, 0.6), (0.3, 0.8))
    rough = fractal(rng, size, (8, 8), 5, 0.7)
    patches = smoothstep(0.45, 0.6, fractal(rng, size, (3, 3), 4))
    return _blend(base, stain, patches * 0.8) * _relief(rough, 0.03)


def _stones(rng: np.random.Generator, size: int) -> Field:
    near, second, number = cellular(rng, size, int(rng.integers(7, 15)))
    gap = smoothstep(0.03, 0.16, second - near)
    stone = random_colour(rng, (0.0, 0.45), (0.45, 0.9))
    rough = fractal(rng, size, (20, 20), 3, 0.7)
    tone: Field = (0.55 + 0.5 * number + 0.25 * rough) * (0.2 + 0.8 * gap)
    return stone * (tone * _relief(0.03 * gap + 0.01 * rough, 0.35))


def _night(rng: np.random.Generator, size: int) -> Field:
    _, y = _grid(size)
    near, _, number = cellular(rng, size, 22)
    stars = (1 - smoothstep(0.0, 0.13, near)) * smoothstep(0.6, 1.0, number)
    deep = random_colour(rng, (0.4, 0.9), (0.08, 0.25))
    glow = random_colour(rng, (0.3, 0.8), (0.4, 0.8))
    clouds = smoothstep(0.4, 0.75, fractal(rng, size, (3, 3), 5))
    return _blend(_blend(deep, glow, 0.25 * y + 0.7 * clouds * y), hsv(0.13, 0.1, 1.0), stars)


def _dunes(rng: np.random.Generator, size: int) -> Field:
    x, y = _grid(size)
    bend = fractal(rng, size, (2, 2), 3)
    count, lean = rng.uniform(12, 28), rng.uniform(-0.6, 0.6)
    ripple: Field = 0.5 + 0.5 * np.sin((y + lean * x + 0.5 * bend) * np.float32(2 * np.pi * count))
    sand = random_colour(rng, (0.1, 0.6), (0.5, 0.95))
    rough = fractal(rng, size, (40, 40), 2)
    return sand * (0.6 + 0.3 * ripple * (0.5 + bend) + 0.25 * rough)


KINDS: tuple[Backdrop, ...] = (
    _landscape,
    _sea,
    _bricks,
    _planks,
    _foliage,
    _bokeh,
    _plaster,
    _stones,
    _night,
    _dunes,
)
