"""A map of the concepts: like ones near each other, none on top of another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]

_ROUNDS = 8
"""How often every name may move; on maps of 16 and 32 concepts none did after the sixth time."""

_SETTLED = 1e-3
"""Of the map's width: a step of majorization that moves no concept further is the last."""


def concept_map(vectors: npt.ArrayLike, *, aspect: float = 1.6, steps: int = 300) -> Floats:
    """Place concepts in a plane by the cosine of their vectors.

    Classical scaling gives the start, stress majorization (SMACOF; de Leeuw 1977) the shape, and a
    few rounds of pushing apart make room for a picture at every point.

    Parameters
    ----------
    vectors : array_like
        (k, channels), one row per concept.
    aspect : float
        Width of the map over its height.
    steps : int
        Rounds of majorization, at most.

    Returns
    -------
    numpy.ndarray
        float64 (k, 2): x in 0..aspect, y in 0..1. Deterministic.
    """
    rows = np.asarray(vectors, np.float64)
    k = len(rows)
    if k < 3:
        return np.stack([np.linspace(0.3, 0.7, k) * aspect, np.full(k, 0.5)], axis=1)
    unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12)
    target = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * (unit @ unit.T).clip(-1.0, 1.0)))
    points = _majorize(_classical(target), target, steps)
    points = _fit_box(points, aspect)
    room = 0.92 * np.sqrt(aspect / k)
    for _ in range(200):
        points = _fit_box(_push_apart(points, room), aspect, stretch=False)
    return points


def label_places(discs: npt.ArrayLike, widths: npt.ArrayLike, size: float, right: float) -> Floats:
    """Set a name below or above each disc, or a little aside, where it hides least of the others.

    Names are placed one after the other, and then moved as long as that uncovers something.

    Parameters
    ----------
    discs : array_like
        (k, 3): x, y and radius of each; those that matter most come first and choose first.
    widths : array_like
        (k,) of the names.
    size : float
        Of the letters.
    right : float
        Where the map ends; it begins at 0.

    Returns
    -------
    numpy.ndarray
        float64 (k, 2): where each name's middle and baseline are, in the units of `discs`.
    """
    circles = np.asarray(discs, np.float64).reshape(-1, 3)
    middles, radii = circles[:, :2], circles[:, 2:]
    squares = np.concatenate([middles - radii, middles + radii], axis=1)
    options = [
        _name_places(x, y, radius, width, size, right)
        for (x, y, radius), width in zip(circles, np.asarray(widths), strict=True)
    ]
    chosen: dict[int, int] = {}
    for _ in range(_ROUNDS):
        for at, (_, boxes, cost) in enumerate(options):
            names = [options[other][1][place] for other, place in chosen.items() if other != at]
            hidden = cost + 0.5 * _overlap(boxes, np.delete(squares, at, axis=0))
            if names:
                hidden = hidden + _overlap(boxes, np.stack(names))
            chosen[at] = int(np.argmin(hidden))
    return np.array([places[chosen[at]] for at, (places, *_) in enumerate(options)]).reshape(-1, 2)


def _name_places(
    x: float, y: float, radius: float, width: float, size: float, right: float
) -> tuple[Floats, Floats, Floats]:
    """Where a disc's name may stand, the box it then fills, and what standing aside costs."""
    asides = [0.0, -width / 4, width / 4, -width / 2, width / 2]
    baselines = [y + radius + 1.25 * size, y - radius - 0.5 * size]
    places = np.array([(x + aside, base) for base in baselines for aside in asides])
    low = places - [width / 2, 0.8 * size]
    high = places + [width / 2, 0.2 * size]
    outside = np.maximum(-low[:, 0], 0.0) + np.maximum(high[:, 0] - right, 0.0)
    cost = size * (np.abs(places[:, 0] - x) / 8 + outside)
    return places, np.concatenate([low, high], axis=1), cost


def _overlap(boxes: Floats, others: Floats) -> Floats:
    """Areas that each of the boxes x0, y0, x1, y1 shares with all others together."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0.0).prod(axis=2).sum(axis=1))


def _classical(target: Floats) -> Floats:
    squares = np.square(target)
    centred = squares - squares.mean(0) - squares.mean(1, keepdims=True) + squares.mean()
    values, vectors = np.linalg.eigh(-0.5 * centred)
    axes = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 1e-9))
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return np.asarray(axes * np.where(signs == 0, 1.0, signs))


def _majorize(points: Floats, target: Floats, steps: int) -> Floats:
    k = len(points)
    for _ in range(steps):
        ratio = target / np.maximum(_distances(points), 1e-9)
        np.fill_diagonal(ratio, 0.0)
        before, points = points, (ratio.sum(1, keepdims=True) * points - ratio @ points) / k
        if np.abs(points - before).max() < _SETTLED * np.ptp(points):
            break
    return points


def _push_apart(points: Floats, room: float) -> Floats:
    """Move points apart of which pairs are nearer than `room`, a quarter of what is lacking."""
    pairs = cKDTree(points).query_pairs(room, output_type="ndarray")
    first, second = pairs[np.lexsort(pairs.T[::-1])].T
    offsets = points[first] - points[second]
    distance = np.linalg.norm(offsets, axis=1)
    angle = 2.4 * (first - second)
    nudge = -np.stack([np.cos(angle), np.sin(angle)], axis=1)  # of points on top of each other
    away = np.where(distance[:, None] < 1e-6, nudge, offsets / np.maximum(distance, 1e-6)[:, None])
    move = 0.25 * away * (room - distance)[:, None]
    moved = points.copy()
    np.add.at(moved, first, move)
    np.subtract.at(moved, second, move)
    return moved


def _fit_box(points: Floats, aspect: float, *, stretch: bool = True) -> Floats:
    """Scale into the box; with `stretch` each axis fills it, else points are only kept inside."""
    low, high = points.min(axis=0), points.max(axis=0)
    box = np.array([aspect, 1.0])
    span = np.maximum(high - low, 1e-9)
    if stretch or (span > box).any():
        return np.asarray((points - low) / span * box)
    return np.asarray(points - low + (box - span) / 2)


def _distances(points: Floats) -> Floats:
    across, down = (np.subtract.outer(each, each) for each in points.T)
    return np.asarray(np.sqrt(across * across + down * down))
