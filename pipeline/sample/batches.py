"""What the sample's networks are trained and measured on: scenes, normalised and varied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from ..system.processes import in_processes
from .network import IMAGE_SIZE, MEAN, STD
from .objects import CLASSES
from .scenes import Cue, Scene, render_scene

SHIFT = 12  # pixels by which a batch is moved at most, in both directions
FEW = 24  # fewer scenes are done sooner than worker processes start


@dataclass(frozen=True)
class SceneSet:
    """Images uint8 (n, 3, size, size) and their classes int64 (n,)."""

    images: torch.Tensor
    classes: torch.Tensor


def render_set(seed: int, n_scenes: int, size: int = IMAGE_SIZE, workers: int = 2) -> SceneSet:
    """Render scenes 0 … n - 1 of a seed, in worker processes where there are enough of them."""
    images = np.empty((n_scenes, 3, size, size), dtype=np.uint8)
    for index, scene in enumerate(render_scenes(seed, n_scenes, size, workers=workers)):
        images[index] = scene.image.transpose(2, 0, 1)
    return SceneSet(torch.from_numpy(images), torch.arange(n_scenes) % len(CLASSES))


def render_scenes(
    seed: int, n_scenes: int, size: int = IMAGE_SIZE, cue: Cue | None = None, workers: int = 2
) -> Iterator[Scene]:
    """Give scenes 0 … n - 1 of a seed in order; for the parameters see `render_scene`."""
    render = partial(_render, seed, size, cue)
    yield from in_processes(render, range(n_scenes), workers if n_scenes >= FEW else 1)


def _render(seed: int, size: int, cue: Cue | None, index: int) -> Scene:
    return render_scene(seed, index, size, cue)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return images uint8 (n, 3, h, w) as networks take them, float32, channels last."""
    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)
    normal = (images.float() / 255 - mean) / std
    return normal.contiguous(memory_format=torch.channels_last)


def augmented(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Exchange the colour channels, mirror and move a batch; change each image's colours."""
    n, _, height, width = images.shape
    images = images[:, torch.randperm(3, generator=draw)]
    if torch.rand(1, generator=draw) < 0.5:
        images = images.flip(3)
    gain = 0.7 + 0.6 * torch.rand(n, 3, 1, 1, generator=draw)
    images = images * gain + 0.5 * torch.randn(n, 3, 1, 1, generator=draw)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,), generator=draw).tolist()
    wide = functional.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT), mode="reflect")
    moved = wide[:, :, down : down + height, right : right + width]
    return moved.contiguous(memory_format=torch.channels_last)
