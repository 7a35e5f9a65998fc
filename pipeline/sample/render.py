"""Paints layers of shaded shapes into a figure: normals, light, highlights, contact shadows.

A figure is painted at `SUPERSAMPLE` times the size of its scene; a layer costs only the pixels of
its own bounding box. Screen coordinates run over the unit square, x right and y down; the layers
of a figure share a plane of their own, y up, which a homography carries to the screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .shapes import Box, Field, Point, Shape
from .textures import Colour, Pattern, plain

SUPERSAMPLE = 2
CONTACT = 0.05  # how far, in the plane's units, a layer darkens what lies right behind it


@dataclass(frozen=True)
class Material:
    """What a surface looks like.

    Attributes
    ----------
    base, accent : ndarray
        The two colours, float32 (3, 1, 1), that `pattern` mixes.
    pattern : callable
        Share of the accent at a point of the layer's own plane, in [0, 1].
    bevel : float
        How far from the outline the surface bends towards the viewer, in the plane's units.
    dome : float
        How steeply it bends; 0 is flat.
    bump : float
        Height of the pattern, in the plane's units; negative is engraved.
    gloss : float
        Strength of the highlight, 0 to 1.
    grain : callable
        Fine variation of brightness at a point, in [0, 1], or `plain`.
    """

    base: Colour
    accent: Colour
    pattern: Pattern = plain
    bevel: float = 0.1
    dome: float = 1.0
    bump: float = 0.0
    gloss: float = 0.3
    grain: Pattern = plain


@dataclass(frozen=True)
class Layer:
    """One shape of one material, turned and then moved into its figure's plane."""

    shape: Shape
    material: Material
    part: int = 0
    offset: Point = (0.0, 0.0)
    angle: float = 0.0

    def corners(self) -> npt.NDArray[np.float64]:
        """Return the corners of the layer's box in the figure's plane, (4, 2)."""
        x0, y0, x1, y1 = self.shape.box
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([(cosine, sine), (-sine, cosine)])
        box = np.array([(x0, y0), (x0, y1), (x1, y0), (x1, y1)]) @ turn
        corners: npt.NDArray[np.float64] = box + np.array(self.offset)
        return corners

    def local(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Carry points of the figure's plane to the layer's own."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        u, v = x - self.offset[0], y - self.offset[1]
        return u * cosine + v * sine, v * cosine - u * sine


@dataclass(frozen=True)
class Light:
    """One directional light and the light from all around.

    Attributes
    ----------
    direction : tuple of float
        Unit vector towards the light: right, down, towards the viewer.
    colour, ambient : ndarray
        float32 (3, 1, 1), strength by colour.
    """

    direction: tuple[float, float, float]
    colour: Colour
    ambient: Colour


@dataclass
class Figure:
    """What has been painted so far, at supersampled resolution (n × n).

    Attributes
    ----------
    colour : ndarray
        float32 (3, n, n), premultiplied by `alpha`.
    alpha : ndarray
        float32 (n, n), coverage in [0, 1].
    part : ndarray
        uint8 (n, n), the part seen at each point, 0 where it is none.
    """

    n: int
    colour: Field = field(init=False)
    alpha: Field = field(init=False)
    part: npt.NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.colour = np.zeros((3, self.n, self.n), dtype=np.float32)
        self.alpha = np.zeros((self.n, self.n), dtype=np.float32)
        self.part = np.zeros((self.n, self.n), dtype=np.uint8)


@dataclass(frozen=True)
class Frame:
    """Where a figure's plane lies on the screen.

    Attributes
    ----------
    matrix : ndarray
        float64 (3, 3): homography from the plane to the unit square of the screen.
    """

    matrix: npt.NDArray[np.float64]

    def to_screen(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Carry points (m, 2) of the plane to the screen."""
        mapped: npt.NDArray[np.float64] = np.c_[points, np.ones(len(points))] @ self.matrix.T
        return mapped[:, :2] / mapped[:, 2:]

    def bounds(self, points: npt.NDArray[np.float64]) -> Box:
        """Return the screen's bounding box of points (m, 2) of the plane: x0, y0, x1, y1."""
        seen = self.to_screen(points)
        (left, top), (right, bottom) = seen.min(axis=0), seen.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def to_plane(self, columns: Field, rows: Field) -> tuple[Field, Field]:
        """Carry a grid of screen points, columns (c,) and rows (r,), to the plane: (r, c) each."""
        m = np.linalg.inv(self.matrix)
        m = (m / m[2, 2]).astype(np.float32)
        u, v = columns[None, :], rows[:, None]
        depth = 1 / (m[2, 0] * u + m[2, 1] * v + 1)
        return (
            (m[0, 0] * u + m[0, 1] * v + m[0, 2]) * depth,
            (m[1, 0] * u + m[1, 1] * v + m[1, 2]) * depth,
        )

    def unit(self) -> float:
        """Return the length on the screen, at the plane's origin, of one unit of the plane."""
        corners = self.to_screen(np.array([(0.0, 0.0), (0.01, 0.0), (0.0, 0.01)]))
        (ax, ay), (bx, by) = (corners[1:] - corners[0]) * 100
        return math.sqrt(abs(float(ax * by - ay * bx)))


def paint(figure: Figure, layers: Sequence[Layer], frame: Frame, light: Light) -> None:
    """Paint layers, hindmost first, over what the figure already holds."""
    pixel = 1 / (frame.unit() * figure.n)
    margin = 3 + math.ceil(2 * CONTACT / pixel)
    for layer in layers:
        window = _window(frame.bounds(layer.corners()), figure.n, margin)
        if window is not None:
            _paint_layer(figure, layer, frame, light, window, pixel)


def _window(bounds: Box, n: int, margin: int) -> tuple[slice, slice] | None:
    """Return the rows and columns of pixels that a box of the screen touches, or None."""
    left, top = (math.floor(v * n) - margin for v in bounds[:2])
    right, bottom = (math.ceil(v * n) + margin for v in bounds[2:])
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, n), min(bottom, n)
    if right - left < 2 or bottom - top < 2:
        return None
    return slice(top, bottom), slice(left, right)


def _paint_layer(
    figure: Figure,
    layer: Layer,
    frame: Frame,
    light: Light,
    window: tuple[slice, slice],
    pixel: float,
) -> None:
    rows, columns = (
        ((np.arange(s.start, s.stop) + 0.5) / figure.n).astype(np.float32) for s in window
    )
    x, y = layer.local(*frame.to_plane(columns, rows))
    distance = layer.shape.distance(x, y)
    alpha = np.clip(0.5 - distance * (1 / pixel), 0, 1)
    colour = _shade(layer.material, distance, x, y, light, pixel)
    seen = figure.colour[:, *window]
    below = seen * _contact(distance, light, pixel)
    seen[:] = below + (colour - below) * alpha
    figure.alpha[window] += alpha * (1 - figure.alpha[window])
    figure.part[window][alpha >= 0.5] = layer.part


def _shade(
    material: Material, distance: Field, x: Field, y: Field, light: Light, pixel: float
) -> Field:
    """Return the lit colour of every point: Lambert's law, a Blinn highlight, light from above."""
    pattern = material.pattern(x, y)
    edge = np.clip(1 + distance / material.bevel, 0, 0.96)
    height = (material.dome * material.bevel) * np.sqrt(1 - edge * edge) + material.bump * pattern
    down, across = np.gradient(height / np.float32(pixel))
    toward = 1 / np.sqrt(1 + down * down + across * across)
    lx, ly, lz = light.direction
    diffuse = np.maximum((lz - across * lx - down * ly) * toward, 0)
    half = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    shine = np.maximum(((lz + 1) - across * lx - down * ly) * toward * (1 / half), 0)
    for _ in range(5):
        shine *= shine
    sky = 0.75 + 0.25 * down * toward
    albedo = material.base
    if material.pattern is not plain:
        albedo = albedo + pattern * (material.accent - material.base)
    lit: Field = diffuse * light.colour + sky * light.ambient
    if material.grain is not plain:
        lit *= 0.85 + 0.3 * material.grain(x, y)
    lit *= albedo
    lit += (material.gloss * shine) * light.colour
    return lit


def _contact(distance: Field, light: Light, pixel: float) -> Field:
    """Return how much light a layer leaves to what lies right behind it, 0 to 1."""
    height, width = distance.shape
    right, down = (round(v * 0.6 * CONTACT / pixel) for v in light.direction[:2])
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    near = distance[rows][:, columns]
    dark: Field = np.clip(1 - np.maximum(near, 0) / CONTACT, 0, 1)
    return 1 - np.float32(0.45) * dark * dark
