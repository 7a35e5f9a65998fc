"""How the parts of land vehicles and vessels look: wheels, hulls, cabins, sails and more.

Every function draws one part facing right, with variation from `rng`, around the part's own origin,
and returns its layers, hindmost first. Colours come from the object's `Style`, which knows nothing
of classes.
"""

from __future__ import annotations

import math

import numpy as np

from .render import Layer
from .shapes import capsule, curve, ellipse, polygon, rectangle, within, without
from .style import Style, surface
from .textures import hsv, mix, random_colour, rays, stripes


def wheel(rng: np.random.Generator, style: Style, radius: float) -> list[Layer]:
    """Draw a tyre with treads around a bright spoked rim."""
    tyre = mix(style.dark, style.paint(rng), 0.25 * rng.random())
    tread = rays((0, 0), int(rng.integers(20, 30)), 0.5)
    rim, hub = 0.66 * radius, 0.2 * radius
    spokes = rays((0, 0), int(rng.integers(5, 9)), 0.42, rng.random())
    return [
        Layer(
            ellipse(radius),
            surface(rng, tyre, 0.55 * tyre, tread, bevel=0.3 * radius, bump=0.01, gloss=0.1),
        ),
        Layer(
            ellipse(rim),
            surface(
                rng, 0.35 * tyre, style.light, spokes, bevel=0.1 * radius, bump=0.012, gloss=0.5
            ),
        ),
        Layer(
            without(ellipse(rim), ellipse(0.82 * rim)),
            surface(rng, style.light, bevel=0.09 * rim, gloss=0.6),
        ),
        Layer(ellipse(hub), surface(rng, style.light, style.dark, bevel=hub, gloss=0.6)),
    ]


def chassis(rng: np.random.Generator, style: Style, half: float) -> list[Layer]:
    """Draw the long low body of a land vehicle: deck at y = 0, lamps, a skirt with panels."""
    depth = rng.uniform(0.26, 0.34)
    nose, lip = rng.uniform(0.03, 0.12), rng.uniform(0.0, 0.08)
    outline = [
        (-half, -depth + 0.04),
        (-half - lip, -0.1),
        (-half + 0.05, 0.0),
        (half - nose, 0.0),
        (half + lip, -0.12),
        (half, -depth + 0.03),
    ]
    skirt = rectangle((-half + 0.04, -depth, half - 0.04, -depth + 0.09), 0.03)
    seams = stripes(rng.uniform(0.3, 0.5), 0.05)
    paint = style.paints[0]
    lamps = [
        Layer(ellipse(0.06, 0.05), surface(rng, style.light, bevel=0.05), 0, at)
        for at in ((half - 0.05, -0.12), (-half + 0.04, -0.12))
    ]
    return [
        Layer(
            polygon([(x * 0.98, y * 0.96) for x, y in outline], 0.02),
            surface(rng, paint, 0.55 * paint, seams, bevel=0.12, bump=-0.01, gloss=style.gloss),
        ),
        Layer(skirt, surface(rng, style.dark, style.light, stripes(0.09, 0.4), bevel=0.03)),
        *lamps,
    ]


def cabin(rng: np.random.Generator, style: Style, width: float, height: float) -> list[Layer]:
    """Draw a roofed house standing on y = 0, with one to three mirroring window panes."""
    half, lean, front = width / 2, rng.uniform(0.0, 0.12), rng.uniform(0.02, 0.2)
    outline = [(-half, 0.0), (-half + lean, height), (half - front, height), (half, 0.0)]
    house = polygon([(x * 0.95, y) for x, y in outline], 0.025)
    opening = polygon([(x * 0.74, 0.56 * height + (y - height / 2) * 0.66) for x, y in outline])
    roof = rectangle((-half + lean - 0.07, height, half - front + 0.07, height + 0.07), 0.03)
    paint, sky = style.paint(rng), random_colour(rng, (0.1, 0.5), (0.6, 1.0))
    pane = random_colour(rng, (0.2, 0.7), (0.15, 0.4))
    glare = stripes(rng.uniform(0.25, 0.5), 0.4, rng.uniform(0.5, 0.9), 0.6)
    wall = surface(rng, paint, bevel=0.06, gloss=style.gloss)
    layers = [
        Layer(house, wall),
        Layer(opening, surface(rng, pane, sky, glare, bevel=0.02, dome=0.3, gloss=0.9)),
    ]
    count = 1 if width < 0.45 else int(rng.integers(1, 4))
    for i in range(1, count):
        x = 1.4 * half * (i / count - 0.5)
        post = rectangle((x - 0.025, 0.2 * height, x + 0.025, 0.95 * height))
        layers.append(Layer(post, surface(rng, paint, bevel=0.02)))
    return layers + [Layer(roof, surface(rng, style.paint(rng), bevel=0.035, gloss=0.4))]


def cargo(rng: np.random.Generator, style: Style, width: float, height: float) -> list[Layer]:
    """Draw a crate standing on y = 0: upright slats in a frame with a diagonal brace."""
    half, edge = width / 2, 0.06
    wood = mix(style.paint(rng), hsv(0.09, 0.5, 0.65), 0.5 * rng.random())
    slats = stripes(rng.uniform(0.1, 0.14), 0.3)
    box = rectangle((-half, 0, half, height), 0.02)
    frame = without(box, rectangle((-half + edge, edge, half - edge, height - edge)))
    brace = capsule((-half + edge, edge), (half - edge, height - edge), 0.035)
    bar = surface(rng, mix(wood, style.light, 0.35), wood, bevel=0.03, gloss=0.15)
    return [
        Layer(box, surface(rng, wood, 0.45 * wood, slats, bevel=0.04, bump=-0.02, gloss=0.1)),
        Layer(within(brace, box), bar),
        Layer(frame, bar),
    ]


def funnel(rng: np.random.Generator, style: Style, height: float) -> list[Layer]:
    """Draw a smokestack standing on y = 0: a round tapering tube with bands and a flared rim."""
    bottom, top = rng.uniform(0.13, 0.16), rng.uniform(0.1, 0.15)
    tube = polygon([(-bottom, 0), (-top, height), (top, height), (bottom, 0)], 0.01)
    hoops = stripes(rng.uniform(0.2, 0.28), 0.45, math.pi / 2)
    rim = rectangle((-top - 0.05, height - 0.05, top + 0.05, height + 0.06), 0.03)
    mouth = ellipse(top + 0.02, 0.035, (0, height + 0.05))
    return [
        Layer(
            tube,
            surface(rng, style.paint(rng), style.light, hoops, bevel=0.14, dome=1.3, gloss=0.5),
        ),
        Layer(rim, surface(rng, style.dark, bevel=0.05, gloss=0.4)),
        Layer(mouth, surface(rng, 0.3 * style.dark, style.dark, bevel=0.02, dome=0, gloss=0.0)),
    ]


def hull(rng: np.random.Generator, style: Style, half: float) -> list[Layer]:
    """Draw a boat's hull with planks, a rubbing strake and a raised bow; deck at y = 0."""
    depth, rake = rng.uniform(0.34, 0.44), rng.uniform(0.15, 0.28)
    outline = [
        (-half, 0.02),
        (-0.4 * half, -0.005),
        (0.4 * half, 0.0),
        (half, 0.12),
        (half - 0.45 * rake, -0.16),
        (half - 1.3 * rake, -depth),
        (0.0, -depth - 0.03),
        (-half + 0.12, -depth),
        (-half + 0.02, -0.18),
    ]
    paint = style.paints[0]
    side = curve(outline)
    planks = stripes(0.1, 0.16, math.pi / 2)
    bottom = within(side, rectangle((-2, -2, 2, -0.62 * depth)))
    strake = without(side, curve([(x, y - 0.07) for x, y in outline]))
    return [
        Layer(
            side,
            surface(rng, paint, 0.5 * paint, planks, bevel=0.2, bump=-0.012, gloss=style.gloss),
        ),
        Layer(bottom, surface(rng, style.dark, 0.5 * style.dark, planks, bevel=0.1, gloss=0.2)),
        Layer(strake, surface(rng, style.light, bevel=0.04, gloss=0.4)),
    ]


def sail(rng: np.random.Generator, style: Style, width: float, height: float) -> list[Layer]:
    """Draw a mast with a billowing seamed sail, standing on y = 0."""
    belly = rng.uniform(0.04, 0.16)
    foot = 0.12
    cloth = curve(
        [
            (0.03, foot),
            (0.02, height * 0.5),
            (0.04, height),
            (0.06, height),
            (0.45 * width + belly, height * 0.55),
            (0.85 * width + belly, foot + 0.2),
            (width, foot + 0.02),
            (width * 0.5, foot - 0.03),
        ]
    )
    back = curve(
        [
            (-0.03, foot + 0.06),
            (-0.05, height * 0.8),
            (-0.07, height * 0.8),
            (-0.3 * width - belly, height * 0.4),
            (-0.5 * width, foot + 0.06),
        ]
    )
    white = mix(style.light, style.paint(rng), 0.35 * rng.random())
    seams = stripes(rng.uniform(0.13, 0.18), 0.16, rng.uniform(1.2, 1.9))
    canvas = surface(
        rng, white, mix(white, style.dark, 0.6), seams, bevel=0.3, dome=0.5, bump=0.004, gloss=0.1
    )
    wood = surface(rng, style.dark, bevel=0.03, gloss=0.3)
    return [
        Layer(back, canvas),
        Layer(cloth, canvas),
        Layer(rectangle((-0.028, -0.02, 0.028, height + 0.08), 0.02), wood),
        Layer(capsule((0, foot - 0.04), (width * 0.95, foot - 0.04), 0.022), wood),
    ]
