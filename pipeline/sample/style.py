"""What all parts share: an object's style, worn surfaces, and the placing of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .render import Layer, Material
from .shapes import Point
from .textures import Colour, Pattern, grain, mix, plain, random_colour


@dataclass(frozen=True)
class Style:
    """The colours and the finish of one object: three paints, a dark, a light and a gloss."""

    paints: tuple[Colour, Colour, Colour]
    dark: Colour
    light: Colour
    gloss: float

    def paint(self, rng: np.random.Generator) -> Colour:
        """Choose one of the paints."""
        return self.paints[int(rng.integers(len(self.paints)))]


def random_style(rng: np.random.Generator) -> Style:
    """Draw a style of any colours."""
    first = random_colour(rng, (0.2, 0.9), (0.35, 0.95))
    second = random_colour(rng, (0.0, 0.8), (0.3, 0.95))
    return Style(
        paints=(first, second, mix(first, second, rng.uniform(0.2, 0.8))),
        dark=random_colour(rng, (0.0, 0.6), (0.1, 0.3)),
        light=random_colour(rng, (0.0, 0.35), (0.75, 1.0)),
        gloss=rng.uniform(0.15, 0.7),
    )


def numbered(layers: Sequence[Layer], part: int) -> list[Layer]:
    """Return the layers as belonging to a part."""
    return [replace(layer, part=part) for layer in layers]


def placed(layers: Sequence[Layer], offset: Point, angle: float = 0.0) -> list[Layer]:
    """Turn the layers around their common origin and then move them."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return [
        replace(
            layer,
            offset=(
                offset[0] + cosine * layer.offset[0] - sine * layer.offset[1],
                offset[1] + sine * layer.offset[0] + cosine * layer.offset[1],
            ),
            angle=layer.angle + angle,
        )
        for layer in layers
    ]


def surface(
    rng: np.random.Generator,
    base: Colour,
    accent: Colour | None = None,
    pattern: Pattern = plain,
    *,
    bevel: float = 0.1,
    dome: float = 0.9,
    bump: float = 0.0,
    gloss: float = 0.3,
) -> Material:
    """Return a slightly worn material; see `Material` for what its numbers mean."""
    worn = grain(rng, rng.uniform(1.5, 4.0))
    second = base if accent is None else accent
    return Material(base, second, pattern, bevel, dome, bump, gloss, worn)
