"""A map of the concepts: like ones near each other, none on top of another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def concept_map(vectors: npt.ArrayLike, *, aspect: float = 1.6, steps: int = 300) -> Floats:
    """Place concepts in a plane by the cosine of their vectors.

    Classical scaling gives the start, stress majorization (SMACOF; de Leeuw 1977) the shape, and a
    few rounds of pushing apart make room for a picture at every point.

    Parameters
    ----------
    vectors : array_like
        (k, channels), one row a concept.
    aspect : float
        Width of the map over its height.
    steps : int
        Rounds of majorization.

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


def label_baselines(discs: npt.ArrayLike, widths: npt.ArrayLike, size: float) -> Floats:
    """Set a name below or above each disc, wherever it hides least of other names and discs.

    Parameters
    ----------
    discs : array_like
        (k, 3): x, y and radius of each; those that matter most come first and choose first.
    widths : array_like
        (k,) of the names, which are centred on their discs.
    size : float
        Of the letters.

    Returns
    -------
    numpy.ndarray
        float64 (k,): y of the names' baselines, in the units of `discs`.
    """
    circles = np.asarray(discs, np.float64).reshape(-1, 3)
    middles, radii = circles[:, :2], circles[:, 2:]
    squares = np.concatenate([middles - radii, middles + radii], axis=1)
    names: list[Floats] = []
    baselines = []
    for at, ((x, y, radius), width) in enumerate(zip(circles, np.asarray(widths), strict=True)):
        others = np.concatenate([np.delete(squares, at, axis=0), *names])
        weights = np.where(np.arange(len(others)) < len(squares) - 1, 0.5, 1.0)
        places = [y + radius + 1.25 * size, y - radius - 0.5 * size]
        boxes = [
            np.array([[x - width / 2, base - 0.8 * size, x + width / 2, base + 0.2 * size]])
            for base in places
        ]
        hidden = [float((weights * _overlap(box, others)).sum()) for box in boxes]
        best = int(np.argmin(hidden))
        names.append(boxes[best])
        baselines.append(places[best])
    return np.array(baselines)


def _overlap(box: Floats, others: Floats) -> Floats:
    """Areas that a box x0, y0, x1, y1 shares with others."""
    low = np.maximum(box[:, :2], others[:, :2])
    high = np.minimum(box[:, 2:], others[:, 2:])
    return np.asarray(np.maximum(high - low, 0.0).prod(axis=1))


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
        points = (ratio.sum(1, keepdims=True) * points - ratio @ points) / k
    return points


def _push_apart(points: Floats, room: float) -> Floats:
    offsets = points[:, None, :] - points[None, :, :]
    distance = _distances(points)
    np.fill_diagonal(distance, np.inf)
    angle = np.arange(len(points))[:, None] - np.arange(len(points))[None, :]
    nudge = (
        np.stack([np.cos(angle * 2.4), np.sin(angle * 2.4)], axis=-1) * np.sign(angle)[..., None]
    )
    away = np.where(
        distance[..., None] < 1e-6, nudge, offsets / np.maximum(distance, 1e-6)[..., None]
    )
    overlap = np.maximum(0.0, room - distance)
    return np.asarray(points + 0.25 * (away * overlap[..., None]).sum(axis=1))


def _fit_box(points: Floats, aspect: float, *, stretch: bool = True) -> Floats:
    """Scale into the box; with `stretch` each axis fills it, else points are only kept inside."""
    low, high = points.min(axis=0), points.max(axis=0)
    box = np.array([aspect, 1.0])
    span = np.maximum(high - low, 1e-9)
    if stretch or (span > box).any():
        return np.asarray((points - low) / span * box)
    return np.asarray(points - low + (box - span) / 2)


def _distances(points: Floats) -> Floats:
    return np.asarray(np.linalg.norm(points[:, None, :] - points[None, :, :], axis=-1))
