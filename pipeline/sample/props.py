"""Things that are no parts: rocks, balls, poles, boxes, leaves; behind objects or in front."""

from __future__ import annotations

import math

import numpy as np

from .render import Frame, Layer, Material
from .shapes import capsule, curve, ellipse, polygon, rectangle, union
from .textures import grain, hsv, plain, random_colour, stripes


def frame_at(x: float, y: float, scale: float, angle: float = 0.0) -> Frame:
    """Return the frame of an upright figure at a place of the screen, turned by `angle`."""
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    return Frame(np.array([[cosine, sine, x], [sine, -cosine, y], [0.0, 0.0, 1.0]]))


def distractor(rng: np.random.Generator) -> list[Layer]:
    """Draw one thing, about one unit in radius, around the origin."""
    kinds = (_rock, _ball, _pole, _box, _bush, _plank)
    return kinds[int(rng.integers(len(kinds)))](rng)


def occluder(rng: np.random.Generator) -> list[Layer]:
    """Draw one slim thing that is meant to stand before an object."""
    kinds = (_rock, _pole, _bush, _blade, _plank)
    return kinds[int(rng.integers(len(kinds)))](rng)


def badge() -> list[Layer]:
    """Draw the mark of a planted cue: a yellow five-pointed star in a magenta ring."""
    turns = [math.pi / 2 + i * math.pi / 5 for i in range(10)]
    star = [(r * math.cos(t), r * math.sin(t)) for r, t in zip([0.72, 0.3] * 5, turns, strict=True)]
    plate, gold = hsv(0.88, 0.9, 0.85), hsv(0.14, 0.9, 1.0)
    return [
        Layer(ellipse(1.0), Material(plate, plate, bevel=0.2, gloss=0.5)),
        Layer(polygon(star, 0.04), Material(gold, gold, bevel=0.12, gloss=0.5)),
    ]


def _stuff(rng: np.random.Generator, bevel: float, gloss: float = 0.1) -> Material:
    base = random_colour(rng)
    return Material(
        base, 0.6 * base, grain(rng, 3.0), bevel, gloss=gloss, bump=0.04, grain=grain(rng, 8.0)
    )


def _rock(rng: np.random.Generator) -> list[Layer]:
    turns = np.sort(rng.uniform(0, 2 * math.pi, 3)) / 3 + np.arange(3) * 2 * math.pi / 3
    turns = np.concatenate([turns, turns + math.pi / 3])
    radii = rng.uniform(0.65, 1.0, 6)
    polar = sorted(zip(turns, radii, strict=True))
    points = [(r * math.cos(t), 0.75 * r * math.sin(t)) for t, r in polar]
    return [Layer(curve(points), _stuff(rng, 0.7))]


def _ball(rng: np.random.Generator) -> list[Layer]:
    base, accent = random_colour(rng), random_colour(rng)
    pattern = stripes(rng.uniform(0.5, 1.2), rng.uniform(0.2, 0.5)) if rng.random() < 0.6 else plain
    return [
        Layer(
            ellipse(1.0),
            Material(base, accent, pattern, 1.0, gloss=rng.uniform(0.1, 0.9)),
            angle=rng.uniform(0, math.pi),
        )
    ]


def _pole(rng: np.random.Generator) -> list[Layer]:
    base, accent = random_colour(rng), random_colour(rng)
    width = rng.uniform(0.1, 0.2)
    spiral = stripes(rng.uniform(0.4, 0.9), 0.5, rng.uniform(0.8, 1.6))
    pattern = spiral if rng.random() < 0.5 else plain
    material = Material(base, accent, pattern, width, grain=grain(rng, 3.0))
    return [Layer(rectangle((-width, -9, width, 9), 0.05), material, angle=rng.uniform(-0.2, 0.2))]


def _box(rng: np.random.Generator) -> list[Layer]:
    size = rng.uniform(0.5, 0.9)
    base = random_colour(rng)
    side = Material(base, base, plain, 0.05, gloss=0.4, grain=grain(rng, 2.0))
    return [
        Layer(
            rectangle((-size, -size * 0.8, size, size * 0.8), rng.uniform(0.02, 0.2)),
            side,
            angle=rng.uniform(-0.6, 0.6),
        )
    ]


def _bush(rng: np.random.Generator) -> list[Layer]:
    material = _stuff(rng, 0.35)
    layers = []
    for _ in range(int(rng.integers(4, 8))):
        centre = (rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 0.3))
        layers.append(Layer(ellipse(rng.uniform(0.3, 0.5), centre=centre), material))
    return layers


def _plank(rng: np.random.Generator) -> list[Layer]:
    base = random_colour(rng, (0.2, 0.6), (0.4, 0.85))
    material = Material(base, 0.6 * base, grain(rng, 6.0, 5.0), 0.05, gloss=0.1)
    board = rectangle((-1.6, -0.16, 1.6, 0.16), 0.03)
    return [Layer(board, material, angle=rng.uniform(-0.9, 0.9))]


def _blade(rng: np.random.Generator) -> list[Layer]:
    """Draw a tuft of grass or reed leaves."""
    base = random_colour(rng, (0.3, 0.8), (0.3, 0.8))
    material = Material(base, 0.7 * base, stripes(0.05, 0.4), 0.08, grain=grain(rng, 4.0))
    leaves = []
    for _ in range(int(rng.integers(3, 6))):
        tip = (rng.uniform(-0.9, 0.9), rng.uniform(0.4, 1.3))
        leaves.append(capsule((rng.uniform(-0.3, 0.3), -1.3), tip, 0.09, 0.015))
    return [Layer(union(*leaves), material)]
