"""Signed distances against outlines drawn point by point."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from pipeline.sample import shapes
from pipeline.sample.shapes import Shape

AXIS = np.linspace(-1.5, 1.5, 41, dtype=np.float32)
X, Y = np.meshgrid(AXIS, AXIS)


def drawn_distance(corners: list[tuple[float, float]]) -> npt.NDArray[np.float64]:
    """Signed distance to a polygon: nearest of many points on its outline, sign by its inside."""
    closed = np.array([*corners, corners[0]])
    steps = np.linspace(0, 1, 400)[:, None]
    points = np.concatenate([a + (b - a) * steps for a, b in itertools.pairwise(closed)])
    grid = np.stack([X.ravel(), Y.ravel()], axis=1)
    nearest = np.sqrt(((grid[:, None] - points[None]) ** 2).sum(-1)).min(axis=1)
    inside = Outline(closed).contains_points(grid)
    signed: npt.NDArray[np.float64] = np.where(inside, -nearest, nearest)
    return signed.reshape(X.shape)


STAR = [
    (r * math.cos(i * math.pi / 5 + 0.1), r * math.sin(i * math.pi / 5 + 0.1))
    for i, r in enumerate([1.1, 0.45] * 5)
]


@pytest.mark.parametrize("corners", [STAR, STAR[::-1]], ids=["anticlockwise", "clockwise"])
def test_polygon_distance_is_that_of_its_outline(corners: list[tuple[float, float]]) -> None:
    np.testing.assert_allclose(
        shapes.polygon(corners).distance(X, Y), drawn_distance(corners), atol=5e-3
    )


def test_rectangle_is_the_polygon_of_its_corners() -> None:
    box = (-0.7, -0.2, 0.4, 0.9)
    corners = [(-0.7, -0.2), (0.4, -0.2), (0.4, 0.9), (-0.7, 0.9)]
    np.testing.assert_allclose(
        shapes.rectangle(box).distance(X, Y), shapes.polygon(corners).distance(X, Y), atol=1e-5
    )


def test_disc_and_rod_have_exact_distances() -> None:
    disc = shapes.ellipse(0.6, centre=(0.2, -0.1)).distance(X, Y)
    np.testing.assert_allclose(disc, np.hypot(X - 0.2, Y + 0.1) - 0.6, atol=1e-5)
    rod = shapes.capsule((-0.5, 0), (0.5, 0), 0.2).distance(X, Y)
    along = np.clip(X, -0.5, 0.5)
    np.testing.assert_allclose(rod, np.hypot(X - along, Y) - 0.2, atol=1e-5)


@given(
    rx=st.floats(0.1, 1.2),
    ry=st.floats(0.1, 1.2),
    cx=st.floats(-0.3, 0.3),
    cy=st.floats(-0.3, 0.3),
)
def test_ellipse_has_the_right_inside(rx: float, ry: float, cx: float, cy: float) -> None:
    level = ((X - cx) / rx) ** 2 + ((Y - cy) / ry) ** 2
    found = shapes.ellipse(rx, ry, (cx, cy)).distance(X, Y)
    clear = np.abs(level - 1) > 1e-3
    assert ((found < 0) == (level < 1))[clear].all()


SAMPLES = [
    shapes.ellipse(0.8, 0.3, (0.1, 0.2)),
    shapes.rectangle((-0.5, -0.8, 0.2, 0.6), 0.1),
    shapes.capsule((-0.4, -0.5), (0.6, 0.3), 0.2, 0.1),
    shapes.polygon(STAR, 0.05),
    shapes.curve([(-0.8, 0), (0, 0.7), (0.9, 0.1), (0.1, -0.6)]),
]


@pytest.mark.parametrize("shape", SAMPLES)
def test_box_holds_the_shape_and_little_more(shape: Shape) -> None:
    rows, columns = np.nonzero(shape.distance(X, Y) < 0)
    x0, y0, x1, y1 = shape.box
    found = (AXIS[columns.min()], AXIS[rows.min()], AXIS[columns.max()], AXIS[rows.max()])
    step = float(AXIS[1] - AXIS[0])
    np.testing.assert_array_less((x0 - 1e-6, y0 - 1e-6), found[:2])
    np.testing.assert_array_less(found[2:], (x1 + 1e-6, y1 + 1e-6))
    np.testing.assert_allclose(found, shape.box, atol=2.1 * step)


@pytest.mark.parametrize("first", SAMPLES)
@pytest.mark.parametrize("second", SAMPLES)
def test_shapes_combine_as_sets(first: Shape, second: Shape) -> None:
    a, b = first.distance(X, Y) < 0, second.distance(X, Y) < 0
    assert ((shapes.union(first, second).distance(X, Y) < 0) == (a | b)).all()
    assert ((shapes.within(first, second).distance(X, Y) < 0) == (a & b)).all()
    outside = second.distance(X, Y) > 0
    assert ((shapes.without(first, second).distance(X, Y) < 0) == (a & outside)).all()
