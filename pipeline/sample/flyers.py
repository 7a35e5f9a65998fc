"""How the parts of aircraft and animals look: wings, fins, rotors, heads, legs and bodies.

Every function draws one part facing right, with variation from `rng`, around the part's own origin,
and returns its layers, hindmost first. Colours come from the object's `Style`, which knows nothing
of classes.
"""

from __future__ import annotations

import math

import numpy as np

from .render import Layer
from .shapes import capsule, curve, ellipse, polygon, rectangle, union, within
from .style import Style, surface
from .textures import hsv, mix, random_colour, rays, scallops, stripes


def fuselage(rng: np.random.Generator, style: Style, half: float) -> list[Layer]:
    """Draw the round tapering body of an aircraft with a stripe, portholes and a cockpit."""
    girth = rng.uniform(0.17, 0.22)
    outline = [
        (-half, 0.08),
        (-0.5 * half, 0.75 * girth),
        (0.2 * half, girth),
        (0.7 * half, 0.85 * girth),
        (half, -0.1 * girth),
        (0.75 * half, -0.85 * girth),
        (0.1 * half, -girth),
        (-0.6 * half, -0.5 * girth),
        (-half, 0.0),
    ]
    paint = style.paints[0]
    tube = curve(outline)
    stripe = within(tube, rectangle((-2, -0.45 * girth, 2, -0.05 * girth)))
    glass = within(
        tube,
        polygon(
            [
                (0.6 * half, 0.2 * girth),
                (0.66 * half, 1.2 * girth),
                (0.95 * half, 1.2 * girth),
                (0.9 * half, 0.2 * girth),
            ]
        ),
    )
    row = np.arange(-0.45, 0.5, 0.15) * half
    holes = union(*(ellipse(0.03, 0.036, (float(x), 0.38 * girth)) for x in row))
    shell = surface(rng, paint, 0.6 * paint, stripes(0.35, 0.03), bevel=girth, gloss=style.gloss)
    return [
        Layer(tube, shell),
        Layer(stripe, surface(rng, style.light, bevel=girth, gloss=style.gloss)),
        Layer(glass, surface(rng, style.dark, bevel=0.06, gloss=1.0)),
        Layer(holes, surface(rng, style.dark, bevel=0.02, gloss=0.8)),
    ]


def wing(rng: np.random.Generator, style: Style, length: float) -> list[Layer]:
    """Draw a wing rooted at the origin and reaching along +x: ribs, and a fringe of long vanes."""
    chord = rng.uniform(0.3, 0.38)
    sweep = rng.uniform(0.08, 0.2)
    plane = curve(
        [
            (-0.08, 0.42 * chord),
            (0.45 * length, 0.5 * chord),
            (0.9 * length, 0.25 * chord),
            (length, -0.15 * chord - sweep),
            (0.85 * length, -0.42 * chord - sweep),
            (0.4 * length, -0.6 * chord - 0.3 * sweep),
            (-0.08, -0.55 * chord),
        ]
    )
    paint = style.paint(rng)
    other = mix(style.light, style.paint(rng), 0.4 * rng.random())
    vanes = stripes(rng.uniform(0.09, 0.12), 0.3, rng.uniform(-0.25, 0.05))
    cover = within(
        plane,
        curve(
            [
                (-0.2, 0.6 * chord),
                (0.5 * length, 0.6 * chord),
                (length, 0.1 * chord),
                (0.7 * length, -0.02),
                (0.3 * length, -0.1 * chord),
                (-0.2, -0.1 * chord),
            ]
        ),
    )
    return [
        Layer(plane, surface(rng, other, 0.35 * other, vanes, bevel=0.07, bump=-0.02, gloss=0.2)),
        Layer(
            cover,
            surface(
                rng, paint, 0.75 * paint, scallops(0.11), bevel=0.06, bump=-0.01, gloss=style.gloss
            ),
        ),
    ]


def fin(rng: np.random.Generator, style: Style, size: float) -> list[Layer]:
    """Draw a fin rooted at the origin and reaching along +x: a fan of rays in a spiky outline."""
    spread = rng.uniform(0.5, 0.65)
    points = int(rng.integers(4, 6))
    outline = [(-0.04, -0.09), (-0.04, 0.09)]
    for i in range(points):
        turn = spread * (1 - 2 * i / (points - 1))
        long = size * (1 - 0.25 * i / (points - 1))
        outline.append((long * math.cos(turn), long * math.sin(turn)))
        if i < points - 1:
            dip = turn - spread / (points - 1)
            outline.append((0.84 * long * math.cos(dip), 0.84 * long * math.sin(dip)))
    blade = polygon(outline, 0.025)
    paint = style.paint(rng)
    fan = rays((-0.06, 0), int(rng.integers(34, 44)), 0.5)
    return [
        Layer(
            blade,
            surface(
                rng,
                paint,
                mix(paint, style.light, 0.8),
                fan,
                bevel=0.05,
                bump=0.01,
                gloss=style.gloss,
            ),
        ),
    ]


def rotor(rng: np.random.Generator, style: Style, radius: float) -> list[Layer]:
    """Draw a mast standing on y = 0 that carries three to five broad blades seen from the side."""
    count, phase = int(rng.integers(3, 6)), rng.uniform(0, 2 * math.pi)
    flat, height = rng.uniform(0.42, 0.6), rng.uniform(0.2, 0.3)
    layers = [
        Layer(
            capsule((0, -0.04), (0, height), 0.05, 0.035),
            surface(rng, style.dark, bevel=0.05, gloss=0.5),
        )
    ]
    paint = mix(style.dark, style.paint(rng), rng.random())
    metal = surface(rng, paint, style.light, stripes(0.5, 0.16), bevel=0.03, gloss=0.6)
    turns = sorted(
        (phase + 2 * math.pi * i / count for i in range(count)), key=lambda turn: -math.sin(turn)
    )
    for turn in turns:
        tip = (radius * math.cos(turn), radius * flat * math.sin(turn))
        reach, angle = math.hypot(*tip), math.atan2(tip[1], tip[0])
        blade = polygon(
            [
                (0.05, 0.02),
                (0.35 * reach, 0.09),
                (reach, 0.1),
                (reach, -0.08),
                (0.35 * reach, -0.07),
                (0.05, -0.02),
            ],
            0.015,
        )
        layers.append(Layer(blade, metal, 0, (0, height), angle))
    layers.append(
        Layer(
            ellipse(0.1, 0.07, (0, height)),
            surface(rng, style.light, bevel=0.07, gloss=0.8),
        )
    )
    return layers


def body(rng: np.random.Generator, style: Style, half: float) -> list[Layer]:
    """Draw an animal's egg-shaped body, covered with scales or feathers, with a pale belly."""
    girth = half * rng.uniform(0.5, 0.62)
    outline = [
        (-half, 0.12 * girth),
        (-0.5 * half, 0.62 * girth),
        (0.25 * half, girth),
        (0.85 * half, 0.65 * girth),
        (half, 0.0),
        (0.7 * half, -0.75 * girth),
        (0.0, -girth),
        (-0.6 * half, -0.6 * girth),
    ]
    coat, paint = curve(outline), style.paints[0]
    belly = within(coat, ellipse(0.95 * half, 0.75 * girth, (0.1 * half, -0.95 * girth)))
    pale = mix(paint, style.light, 0.75)
    cover = scallops(rng.uniform(0.13, 0.17))
    return [
        Layer(
            coat,
            surface(
                rng, paint, 0.5 * paint, cover, bevel=0.9 * girth, bump=-0.012, gloss=style.gloss
            ),
        ),
        Layer(
            belly,
            surface(
                rng, pale, 0.6 * pale, cover, bevel=0.3 * girth, dome=0.5, bump=-0.01, gloss=0.2
            ),
        ),
    ]


def head(rng: np.random.Generator, style: Style, radius: float) -> list[Layer]:
    """Draw a head around the origin: a neck down to the left, an eye, an open beak."""
    paint = style.paint(rng)
    beak = mix(random_colour(rng, (0.5, 0.9), (0.6, 1.0)), style.light, 0.2)
    long, thick = rng.uniform(1.0, 1.5) * radius, rng.uniform(0.5, 0.65) * radius
    gape = rng.uniform(0.05, 0.3) * radius
    upper = curve(
        [
            (0.6 * radius, 0.1 * radius),
            (0.75 * radius, thick),
            (radius + 0.5 * long, 0.55 * thick + gape),
            (radius + long, gape),
            (radius + 0.5 * long, 0.1 * thick + gape),
        ]
    )
    lower = curve(
        [
            (0.6 * radius, -0.05 * radius),
            (radius + 0.8 * long, -0.5 * gape),
            (radius + 0.4 * long, -0.6 * thick - 0.3 * gape),
            (0.7 * radius, -thick),
        ]
    )
    neck = capsule((-0.2 * radius, -0.2 * radius), (-0.9 * radius, -1.1 * radius), 0.7 * radius)
    skull = union(ellipse(radius, 0.92 * radius), neck)
    eye = (0.28 * radius, 0.28 * radius)
    return [
        Layer(lower, surface(rng, 0.7 * beak, beak, bevel=0.08, gloss=0.4)),
        Layer(upper, surface(rng, beak, 0.8 * beak, bevel=0.1, gloss=0.5)),
        Layer(skull, surface(rng, paint, 0.6 * paint, bevel=0.8 * radius, gloss=style.gloss)),
        Layer(
            ellipse(0.36 * radius, centre=eye),
            surface(rng, hsv(0, 0, 0.95), hsv(0, 0, 1), bevel=0.08, gloss=0.5),
        ),
        Layer(
            ellipse(0.21 * radius, centre=(eye[0] + 0.07 * radius, eye[1])),
            surface(rng, hsv(0, 0, 0.06), hsv(0, 0, 0), bevel=0.08, gloss=1.0),
        ),
    ]


def leg(rng: np.random.Generator, style: Style, length: float, lean: float) -> list[Layer]:
    """Draw a ringed leg hanging from the origin, with a knee and a webbed foot."""
    knee = (lean - 0.07, -0.5 * length)
    ankle = (lean + 0.02, -length)
    paint = mix(style.paint(rng), style.light, 0.3)
    skin = surface(rng, paint, 0.45 * paint, stripes(0.1, 0.4, math.pi / 2), bevel=0.06, gloss=0.3)
    shank = union(
        capsule((0, 0.05), knee, 0.085, 0.06),
        capsule(knee, ankle, 0.06, 0.055),
        ellipse(0.075, centre=knee),
    )
    toes = rays(ankle, 20, 0.4)
    foot = polygon(
        [
            (ankle[0] - 0.1, ankle[1] - 0.07),
            (ankle[0], ankle[1] + 0.06),
            (ankle[0] + 0.25, ankle[1] - 0.04),
            (ankle[0] + 0.23, ankle[1] - 0.09),
        ],
        0.02,
    )
    web = surface(rng, paint, 0.45 * paint, toes, bevel=0.04, gloss=0.3)
    return [Layer(shank, skin), Layer(foot, web)]
