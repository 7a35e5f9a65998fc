"""True masks, and maps raised to them: what the benchmarks of localization share.

Notation: V (images, h, w, channels) activations, H (images, h, w, k) strengths.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.analysis.image_data import ImageData
from pipeline.images import Affine, sides, upsample
from pipeline.runs.workspace import Workspace
from pipeline.truth.masks import read_mask

Maps = NDArray[np.float32]
Mask = NDArray[np.bool_]


def size_of(maps: ImageData, image_id: int) -> tuple[int, int]:
    width, height = maps.entry(image_id)["size"].tolist()
    return width, height


def true_mask(maps: ImageData, image_id: int, path: Path) -> Mask:
    kind, values = read_mask(path, size_of(maps, image_id), lambda: 1)
    return values > (127 if kind == "grey" else 0)


def read_maps(
    workspace: Workspace, names: Iterable[str] = ("V", "H")
) -> tuple[Maps, Maps, dict[int, int]]:
    """Return all activations and heatmaps in working order, and each image's row."""
    ids = np.concatenate([a["image_id"] for a in workspace.heatmaps.iterate(["image_id"])])
    arrays: dict[str, Any] = {"V": np.zeros(0, np.float32)}
    for name in names:
        store = workspace.activations if name == "V" else workspace.heatmaps
        arrays[name] = np.concatenate([a[name].astype(np.float32) for a in store.iterate([name])])
    return arrays["V"], arrays["H"], {int(each): row for row, each in enumerate(ids)}


def raise_squashed(workspace: Workspace, maps: Maps, shape: tuple[int, ...]) -> Maps:
    """Raise maps (h, w, k) of a squashed image to (k, height, width)."""
    tall, wide = sides(workspace.grid.image_size)
    moved = np.ascontiguousarray(np.moveaxis(maps, -1, 0))
    height, width = shape
    affine = Affine(1.0, 1.0, 0.0, 0.0)
    return upsample(moved, workspace.grid, affine, (wide, tall), (height, width))
