"""Plane shapes as signed distance functions: negative inside, zero on the outline.

Distances are in the units of the coordinates. The primitives follow Inigo Quilez, "2D distance
functions" (iquilezles.org/articles/distfunctions2d); an ellipse's distance is a close estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
TINY = 1e-6  # keeps the distance at an ellipse's centre from being 0 / 0


@dataclass(frozen=True)
class Shape:
    """A region of the plane.

    Attributes
    ----------
    distance : callable
        Maps two float32 arrays (x, y) of one shape to the signed distance, float32, same shape.
    box : tuple of float
        (x0, y0, x1, y1): holds the whole region.
    """

    distance: Callable[[Field, Field], Field]
    box: Box


def ellipse(radius_x: float, radius_y: float | None = None, centre: Point = (0.0, 0.0)) -> Shape:
    """Return an ellipse with the given half axes (a disc, if only one is given)."""
    rx, ry = radius_x, radius_x if radius_y is None else radius_y
    cx, cy = centre

    def distance(x: Field, y: Field) -> Field:
        u, v = (x - cx) / rx, (y - cy) / ry
        norm: Field = np.sqrt(u * u + v * v)
        if rx == ry:
            return (norm - 1) * rx
        u, v = u / rx, v / ry
        slope: Field = np.sqrt(u * u + v * v)
        reach: Field = (norm + TINY) / (slope + TINY / min(rx, ry))
        return (norm - 1) * reach

    return Shape(distance, (cx - rx, cy - ry, cx + rx, cy + ry))


def rectangle(box: Box, rounding: float = 0.0) -> Shape:
    """Return an upright rectangle, its corners rounded by the given radius."""
    x0, y0, x1, y1 = box
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    half_x, half_y = (x1 - x0) / 2 - rounding, (y1 - y0) / 2 - rounding

    def distance(x: Field, y: Field) -> Field:
        u, v = np.abs(x - cx) - half_x, np.abs(y - cy) - half_y
        outside: Field = np.hypot(np.maximum(u, 0), np.maximum(v, 0))
        inside: Field = np.minimum(np.maximum(u, v), 0)
        return outside + inside - np.float32(rounding)

    return Shape(distance, box)


def capsule(start: Point, end: Point, radius: float, end_radius: float | None = None) -> Shape:
    """Return a rod with round ends, tapering linearly from one radius to the other."""
    (ax, ay), (bx, by) = start, end
    last = radius if end_radius is None else end_radius
    ex, ey = bx - ax, by - ay
    length2 = max(ex * ex + ey * ey, 1e-12)

    def distance(x: Field, y: Field) -> Field:
        u, v = x - ax, y - ay
        t: Field = np.clip((u * ex + v * ey) / length2, 0, 1)
        away: Field = np.hypot(u - t * ex, v - t * ey)
        return away - (radius + (last - radius) * t)

    r = max(radius, last)
    box = (min(ax, bx) - r, min(ay, by) - r, max(ax, bx) + r, max(ay, by) + r)
    return Shape(distance, box)


def polygon(points: Sequence[Point], rounding: float = 0.0) -> Shape:
    """Return a simple polygon, grown by `rounding` with round corners."""
    corners = [(float(px), float(py)) for px, py in points]

    def distance(x: Field, y: Field) -> Field:
        nearest = np.full(x.shape, np.inf, dtype=np.float32)
        inside = np.zeros(x.shape, dtype=bool)
        (ax, ay) = corners[-1]
        above = y >= ay
        for bx, by in corners:
            length = max(math.hypot(bx - ax, by - ay), 1e-9)
            tx, ty = (bx - ax) / length, (by - ay) / length
            along = x * tx + y * ty
            along -= ax * tx + ay * ty
            across = y * tx - x * ty
            across -= ay * tx - ax * ty
            along -= np.minimum(np.maximum(along, 0), length)
            along *= along
            along += across * across
            np.minimum(nearest, along, out=nearest)
            above_next = y >= by
            inside ^= (above != above_next) & ((across > 0) == (by > ay))
            ax, ay, above = bx, by, above_next
        return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(nearest) - np.float32(rounding)

    xs, ys = [px for px, _ in corners], [py for _, py in corners]
    r = rounding
    return Shape(distance, (min(xs) - r, min(ys) - r, max(xs) + r, max(ys) + r))


def curve(points: Sequence[Point], steps: int = 3) -> Shape:
    """Return the region inside a smooth closed curve (Catmull-Rom) through the points."""
    p = np.asarray(points, dtype=np.float64)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    square, cube = 2 * before - 5 * p + 4 * after - beyond, 3 * p - before - 3 * after + beyond
    slope, times = after - before, np.arange(steps) / steps
    path = [p + (slope * t + square * t**2 + cube * t**3) / 2 for t in times]
    return polygon([(float(x), float(y)) for x, y in np.stack(path, axis=1).reshape(-1, 2)])


def union(*shapes: Shape) -> Shape:
    """Return everything that is in any of the shapes."""

    def distance(x: Field, y: Field) -> Field:
        result = shapes[0].distance(x, y)
        for shape in shapes[1:]:
            result = np.minimum(result, shape.distance(x, y))
        return result

    boxes = list(zip(*(shape.box for shape in shapes), strict=True))
    return Shape(distance, (min(boxes[0]), min(boxes[1]), max(boxes[2]), max(boxes[3])))


def without(shape: Shape, hole: Shape) -> Shape:
    """Return `shape` less what is in `hole`."""
    return Shape(lambda x, y: np.maximum(shape.distance(x, y), -hole.distance(x, y)), shape.box)


def within(shape: Shape, other: Shape) -> Shape:
    """Return what is in both shapes; the box is that of the first."""
    return Shape(lambda x, y: np.maximum(shape.distance(x, y), other.distance(x, y)), shape.box)
