"""Renders one scene with exact masks: a backdrop, distractors, one object, occluders."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .backdrops import backdrop
from .objects import CLASSES, PARTS, assemble
from .props import badge, distractor, frame_at, occluder
from .render import SUPERSAMPLE, Figure, Frame, Layer, Light, paint
from .shapes import Field
from .textures import hsv

GENERATOR_VERSION = 2
MOST_HIDDEN = 0.35  # of any part of the object, by things in front of it
MARK = 255  # the planted mark among the parts of a figure
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cue:
    """A mark beside the object that co-occurs with one class: a planted spurious cue.

    Attributes
    ----------
    class_id : int
        The class that the mark goes with.
    probability : float
        How often scenes of that class carry it.
    elsewhere : float
        How often scenes of other classes do.
    """

    class_id: int
    probability: float = 0.9
    elsewhere: float = 0.0

    def chance(self, class_id: int) -> float:
        """Return how often scenes of a class carry the mark."""
        return self.probability if class_id == self.class_id else self.elsewhere


@dataclass(frozen=True)
class Scene:
    """A rendered scene and what is to be seen in it.

    Attributes
    ----------
    image : ndarray
        uint8 (size, size, 3), RGB.
    parts : ndarray
        uint8 (size, size): 0 where no part is visible, else 1 + the index of the part in `PARTS`.
    objects : ndarray
        bool (size, size): the visible object, which is where `parts` is not 0.
    cue : ndarray
        bool (size, size): the planted mark, all false where there is none.
    class_id : int
        Index into `CLASSES`.
    """

    image: npt.NDArray[np.uint8]
    parts: npt.NDArray[np.uint8]
    objects: Mask
    cue: Mask
    class_id: int

    @property
    def label(self) -> str:
        """The name of the class."""
        return CLASSES[self.class_id]


def render_scene(seed: int, index: int, size: int, cue: Cue | None = None) -> Scene:
    """Render one scene; seed and index decide everything but the resolution.

    Parameters
    ----------
    seed, index : int
        Which scene; not negative. Scene i shows an object of class i modulo the number of classes.
    size : int
        Pixels along each side, at least 32.
    cue : Cue, optional
        A mark to plant; the scene is otherwise the same with and without.

    Returns
    -------
    Scene
        The picture and its masks.

    Raises
    ------
    ValueError
        `size` is below 32.
    """
    if size < 32:
        raise ValueError(f"a scene of {size} pixels shows nothing: give a size of 32 or more")
    class_id = index % len(CLASSES)
    sources = [
        np.random.Generator(np.random.PCG64(child))
        for child in np.random.SeedSequence([seed, index]).spawn(6)
    ]
    setting, behind, subject, pose, before, mark = sources
    light = _light(setting)
    figure = Figure(size * SUPERSAMPLE)
    picture = backdrop(setting, size)
    for _ in range(int(behind.integers(0, 5))):
        paint(figure, distractor(behind), _anywhere(behind), light)
    layers = assemble(class_id, subject)
    frame = _pose(layers, pose)
    picture *= _cast_shadow(layers, frame, light, setting, size)
    paint(figure, layers, frame, light)
    _occlude(figure, before, light)
    if cue is not None and mark.random() < cue.chance(class_id):
        _plant(figure, mark, light)
    return _develop(figure, picture, class_id, setting)


def _light(rng: np.random.Generator) -> Light:
    around, up = rng.uniform(-2.6, -0.5), rng.uniform(0.55, 1.0)
    level = math.cos(up)
    direction = (math.cos(around) * level, math.sin(around) * level, math.sin(up))
    strength = rng.uniform(0.55, 0.95)
    colour = hsv(rng.random(), rng.uniform(0.0, 0.15), strength)
    ambient = hsv(rng.random(), rng.uniform(0.0, 0.2), rng.uniform(0.3, 0.6))
    return Light(direction, colour, ambient)


def _anywhere(rng: np.random.Generator) -> Frame:
    return frame_at(rng.random(), rng.random(), rng.uniform(0.05, 0.17), rng.uniform(-0.4, 0.4))


def _pose(layers: list[Layer], rng: np.random.Generator) -> Frame:
    """Choose where and how the object stands; its extent on the screen is that of any class."""
    corners = np.concatenate([layer.corners() for layer in layers])
    x, y = (corners.min(axis=0) + corners.max(axis=0)) / 2
    centred = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1.0]])
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    turn, shear = rng.uniform(-0.35, 0.35), rng.uniform(-0.15, 0.15)
    bend = np.array([[mirror, shear, 0], [0, -rng.uniform(0.88, 1.0), 0], [0, 0, 1.0]])
    cosine, sine = math.cos(turn), math.sin(turn)
    spin = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    lens = np.array([[1, 0, 0], [0, 1, 0], [*rng.uniform(-0.12, 0.12, 2), 1.0]])
    shape = Frame(lens @ spin @ bend @ centred)
    left, top, right, bottom = shape.bounds(corners)
    extent = rng.uniform(0.72, 1.02)
    scale = extent / max(right - left, bottom - top)
    free_x, free_y = 1 - scale * (right - left), 1 - scale * (bottom - top)
    at_x, at_y = rng.uniform(0, 1) * free_x - scale * left, rng.uniform(0, 1) * free_y - scale * top
    return Frame(np.array([[scale, 0, at_x], [0, scale, at_y], [0, 0, 1.0]]) @ shape.matrix)


def _cast_shadow(
    layers: list[Layer], frame: Frame, light: Light, rng: np.random.Generator, size: int
) -> Field:
    """Return the light that the object leaves to the backdrop: its outline, moved and blurred."""
    strength, reach, blur = rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.06), rng.uniform(0.01, 0.03)
    low = max(size // 4, 16)
    at = ((np.arange(low) + 0.5) / low).astype(np.float32)
    x, y = frame.to_plane(*(at + np.float32(reach * v) for v in light.direction[:2]))
    solid = np.full((low, low), np.inf, dtype=np.float32)
    for layer in layers:
        np.minimum(solid, layer.shape.distance(*layer.local(x, y)), out=solid)
    soft = np.clip(0.5 - solid * np.float32(frame.unit() / (2 * blur)), 0, 1)
    rows = (np.arange(size) + 0.5) * low / size - 0.5
    grid = np.meshgrid(rows, rows, indexing="ij")
    wide: Field = ndimage.map_coordinates(soft, grid, order=1, mode="nearest")
    return 1 - np.float32(strength) * wide


def _occlude(figure: Figure, rng: np.random.Generator, light: Light) -> None:
    """Paint up to two things in front, unless one would hide too much of a part."""
    full = np.bincount(figure.part.ravel(), minlength=len(PARTS) + 1)
    for _ in range(int(rng.integers(0, 3))):
        trial = Figure(figure.n)
        paint(trial, occluder(rng), _anywhere(rng), light)
        part = np.where(trial.alpha >= 0.5, np.uint8(0), figure.part)
        left = np.bincount(part.ravel(), minlength=len(PARTS) + 1)
        if (left[1:] < (1 - MOST_HIDDEN) * full[1:]).any():
            continue
        see = 1 - trial.alpha
        figure.colour = figure.colour * see + trial.colour
        figure.alpha = figure.alpha * see + trial.alpha
        figure.part = part


def _plant(figure: Figure, rng: np.random.Generator, light: Light) -> None:
    """Paint the mark of a cue where it hides least of the object."""
    scale = rng.uniform(0.07, 0.09)
    places = rng.uniform(1.1 * scale, 1 - 1.1 * scale, (16, 2))
    reach = math.ceil(scale * figure.n)
    seen = []
    for x, y in (places * figure.n).astype(int):
        window = figure.part[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach]
        seen.append(np.count_nonzero(window))
    x, y = places[int(np.argmin(seen))]
    mark = [replace(layer, part=MARK) for layer in badge()]
    paint(figure, mark, frame_at(float(x), float(y), scale, rng.uniform(-0.3, 0.3)), light)


def _develop(figure: Figure, picture: Field, class_id: int, rng: np.random.Generator) -> Scene:
    """Average the supersamples, put the figure before its backdrop, grade the colours."""
    size = picture.shape[-1]
    colour, alpha = (sum(_samples(each)) / SUPERSAMPLE**2 for each in (figure.colour, figure.alpha))
    image = colour + picture * (1 - alpha)
    at = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    vignette = 1 - np.float32(rng.uniform(0.0, 0.7)) * (at[:, None] ** 2 + at[None, :] ** 2)
    graded = np.clip(image * vignette, 0, 1) ** np.float32(rng.uniform(0.7, 1.05))
    pixels = np.round(graded * 255).astype(np.uint8).transpose(1, 2, 0)
    ids = np.flatnonzero(np.bincount(figure.part.ravel()))
    counts = np.stack([sum(_samples((figure.part == i).view(np.uint8))) for i in ids])
    nothing = counts[0] * 2 > SUPERSAMPLE**2
    winner = np.where(nothing, 0, ids[1:][counts[1:].argmax(axis=0)]).astype(np.uint8)
    cue = winner == MARK
    parts = np.where(cue, np.uint8(0), winner)
    return Scene(np.ascontiguousarray(pixels), parts, parts > 0, cue, class_id)


def _samples(field: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return the supersamples of a field, each of the scene's own size."""
    steps = range(SUPERSAMPLE)
    return [field[..., i::SUPERSAMPLE, j::SUPERSAMPLE] for i in steps for j in steps]
