"""The catalogue: which parts each class of object has, and how the parts are put together.

Where several classes share parts, they share the code that arranges them, with one distribution of
sizes and places: nothing tells a truck from a car but the cargo.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from . import flyers, machines
from .render import Layer
from .style import Style, numbered, placed, random_style

PARTS = (
    "wheel",
    "chassis",
    "cabin",
    "cargo",
    "funnel",
    "hull",
    "sail",
    "fuselage",
    "wing",
    "fin",
    "rotor",
    "body",
    "head",
    "leg",
)
CLASS_PARTS: dict[str, frozenset[str]] = {
    "car": frozenset({"chassis", "wheel", "cabin"}),
    "truck": frozenset({"chassis", "wheel", "cabin", "cargo"}),
    "locomotive": frozenset({"chassis", "wheel", "cabin", "funnel"}),
    "motorboat": frozenset({"hull", "cabin"}),
    "steamer": frozenset({"hull", "cabin", "funnel"}),
    "yacht": frozenset({"hull", "cabin", "sail"}),
    "dinghy": frozenset({"hull", "sail"}),
    "longship": frozenset({"hull", "sail", "head"}),
    "glider": frozenset({"fuselage", "wing", "fin"}),
    "plane": frozenset({"fuselage", "wing", "fin", "wheel"}),
    "helicopter": frozenset({"fuselage", "fin", "rotor"}),
    "airship": frozenset({"fuselage", "fin"}),
    "duck": frozenset({"body", "head", "wing"}),
    "stork": frozenset({"body", "head", "wing", "leg"}),
    "fish": frozenset({"body", "head", "fin"}),
    "flyingfish": frozenset({"body", "head", "fin", "wing"}),
}
CLASSES = tuple(CLASS_PARTS)
SINGLE_PART_PAIRS = (
    ("car", "truck"),
    ("car", "locomotive"),
    ("motorboat", "steamer"),
    ("motorboat", "yacht"),
    ("yacht", "dinghy"),
    ("dinghy", "longship"),
    ("glider", "plane"),
    ("glider", "airship"),
    ("helicopter", "airship"),
    ("duck", "stork"),
    ("duck", "flyingfish"),
    ("fish", "flyingfish"),
)

Painted = list[Layer]


def assemble(class_id: int, rng: np.random.Generator) -> Painted:
    """Put together one object of a class.

    Parameters
    ----------
    class_id : int
        Index into `CLASSES`.
    rng : numpy.random.Generator
        Source of every choice.

    Returns
    -------
    list of Layer
        Hindmost first, about two units wide, around the origin; each layer's `part` is 1 + the
        index of its part in `PARTS`.
    """
    parts = CLASS_PARTS[CLASSES[class_id]]
    style = random_style(rng)
    if "chassis" in parts:
        return _land_vehicle(parts, rng, style)
    if "hull" in parts:
        return _vessel(parts, rng, style)
    if "fuselage" in parts:
        return _aircraft(parts, rng, style)
    return _animal(parts, rng, style)


def _is(part: str, layers: Painted) -> Painted:
    return numbered(layers, 1 + PARTS.index(part))


def _land_vehicle(parts: frozenset[str], rng: np.random.Generator, style: Style) -> Painted:
    half = rng.uniform(0.85, 1.0)
    wheel = _is("wheel", machines.wheel(rng, style, rng.uniform(0.21, 0.28)))
    count = int(rng.integers(2, 4))
    layers = _deck(parts, half, rng, style) + _is("chassis", machines.chassis(rng, style, half))
    for i in range(count):
        x = (half - 0.3) * (2 * i / (count - 1) - 1) + rng.uniform(-0.06, 0.06)
        layers += placed(wheel, (x, -0.3), rng.uniform(0, 2 * math.pi))
    return layers


def _vessel(parts: frozenset[str], rng: np.random.Generator, style: Style) -> Painted:
    half = rng.uniform(0.88, 1.0)
    layers = _deck(parts, 0.85 * half, rng, style)
    if "head" in parts:
        figurehead = _is("head", flyers.head(rng, style, rng.uniform(0.23, 0.28)))
        layers += placed(figurehead, (half + 0.04, 0.36), rng.uniform(-0.2, 0.2))
    return layers + _is("hull", machines.hull(rng, style, half))


def _deck(parts: frozenset[str], half: float, rng: np.random.Generator, style: Style) -> Painted:
    """Stand what belongs on a deck side by side, in any order."""
    makers: dict[str, Callable[[float], Painted]] = {
        "cabin": lambda width: machines.cabin(rng, style, width, rng.uniform(0.38, 0.52)),
        "cargo": lambda width: machines.cargo(rng, style, width, rng.uniform(0.42, 0.62)),
        "funnel": lambda width: machines.funnel(rng, style, rng.uniform(0.5, 0.7)),
        "sail": lambda width: machines.sail(rng, style, width, rng.uniform(1.1, 1.4)),
    }
    present = [name for name in makers if name in parts]
    order = [present[i] for i in rng.permutation(len(present))]
    room = 2 * half / max(len(order), 2)
    layers: Painted = []
    for i, name in enumerate(order):
        width = min(rng.uniform(0.75, 0.95) * room, 0.85)
        centre = (i + 0.5 - len(order) / 2) * room
        if len(order) == 1:
            centre = rng.uniform(-0.5, 0.5) * room
        start = centre - 0.1 if name == "sail" else centre
        layers += placed(_is(name, makers[name](width)), (start, -0.04))
    return layers


def _aircraft(parts: frozenset[str], rng: np.random.Generator, style: Style) -> Painted:
    half = rng.uniform(0.88, 1.0)
    trunk = _is("fuselage", flyers.fuselage(rng, style, half))
    fin = _is("fin", flyers.fin(rng, style, rng.uniform(0.5, 0.6)))
    behind: Painted = placed(fin, (-half + 0.16, 0.06), rng.uniform(1.75, 2.1))
    before: Painted = []
    if "wheel" in parts:
        wheel = _is("wheel", machines.wheel(rng, style, rng.uniform(0.17, 0.22)))
        for x in (rng.uniform(-0.5, -0.3), rng.uniform(0.4, 0.6)):
            behind += placed(wheel, (x * half, -0.34), rng.uniform(0, 2 * math.pi))
    if "wing" in parts:
        far, near = _wings(rng, style, 0.95)
        behind, before = far + behind, near
    if "rotor" in parts:
        rotor = _is("rotor", flyers.rotor(rng, style, rng.uniform(0.75, 0.9)))
        behind += placed(rotor, (0.12, 0.16))
    return behind + trunk + before


def _wings(rng: np.random.Generator, style: Style, length: float) -> tuple[Painted, Painted]:
    """Return the far wing and the near one, raised or lowered, both rooted near the origin."""
    wing = _is("wing", flyers.wing(rng, style, length * rng.uniform(0.85, 1.05)))
    raised = rng.random() < 0.5
    turn = rng.uniform(1.9, 2.6) if raised else rng.uniform(-2.4, -1.7)
    other = turn - rng.uniform(0.3, 0.6) if raised else -turn - rng.uniform(0.0, 0.3)
    return placed(wing, (0.1, 0.05), other), placed(wing, (0.08, 0.0), turn)


def _animal(parts: frozenset[str], rng: np.random.Generator, style: Style) -> Painted:
    half = rng.uniform(0.58, 0.66)
    tilt = rng.uniform(-0.1, 0.35)
    coat = placed(_is("body", flyers.body(rng, style, half)), (0, 0), tilt)
    forward = (0.98 * half * math.cos(tilt), 0.98 * half * math.sin(tilt))
    head = _is("head", flyers.head(rng, style, rng.uniform(0.23, 0.28)))
    front = placed(head, (forward[0] + 0.02, forward[1] + 0.22), rng.uniform(-0.3, 0.15))
    behind: Painted = []
    before: Painted = []
    if "leg" in parts:
        length, spread = rng.uniform(0.5, 0.7), rng.uniform(0.1, 0.2)
        for x in (-spread, spread):
            leg = _is("leg", flyers.leg(rng, style, length, rng.uniform(-0.1, 0.1)))
            behind += placed(leg, (x, -0.22))
    if "fin" in parts:
        fin = _is("fin", flyers.fin(rng, style, rng.uniform(0.5, 0.6)))
        behind += placed(fin, (-half + 0.08, -0.05 * half), math.pi + tilt)
        behind += placed(fin, (-0.05, 0.3 * half), rng.uniform(1.7, 2.2))
    if "wing" in parts:
        far, before = _wings(rng, style, 0.85)
        behind = far + behind
    return behind + front + coat + before
