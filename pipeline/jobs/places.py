"""Moves pictures of a run in their frames, to see which concepts stay where they were."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..analysis.samples import RunSamples
from ..classify.place import DIRECTIONS, Place, places
from ..images.geometry import mirrored
from ..runs.workspace import Workspace
from .batch import decode_image

Maps = NDArray[np.float32]
Shift = tuple[int, int]

N_PICTURES = 192
"""Pictures that are moved: as many passes through the network."""

FEWEST = 6
"""Moved pictures below which no concept can be told from chance."""


def find_places(sample: RunSamples) -> list[Place] | None:
    """Tell which of a run's concepts are places in the frame.

    Returns
    -------
    list of Place or None
        None where too few of the images can be read now, or the layer has one cell.
    """
    cut = sample.workspace.cut
    step = _quarter(cut.height), _quarter(cut.width)
    if not any(step):
        return None
    seed, found = sample.workspace.config.seed, [*_moved(sample, step)]
    if len(found) < FEWEST:
        return None
    still, moved, shifts = zip(*found, strict=True)

    return places(np.stack(still), np.stack(moved), np.array(shifts, dtype=np.int64), seed)


def _quarter(n: int) -> int:
    """Return by how many of n cells a picture is moved."""
    return min(n - 1, max(1, round(n / 4)))


def _moved(sample: RunSamples, step: Shift) -> Iterator[tuple[Maps, Maps, Shift]]:
    """Give heatmaps (h, w, k) of pictures, of the same moved, and by how many cells they were."""
    workspace = sample.workspace
    image_ids = sample.image_ids(N_PICTURES)
    n_each = min(len(DIRECTIONS), max(1, N_PICTURES // max(1, len(image_ids))))
    ways = itertools.cycle([(step[0] * down, step[1] * right) for down, right in DIRECTIONS])
    for images in sample.read(image_ids):
        H, _ = workspace.bank.encode(images.V)
        records = workspace.listing.records(workspace.listing.places(images.image_id))
        for h, record in zip(H.numpy(), records, strict=True):
            pixels = decode_image(workspace, record).pixels
            if pixels is None:
                continue
            shifts = [*itertools.islice(ways, n_each)]
            for g, shift in zip(_maps(workspace, pixels, shifts), shifts, strict=True):
                yield h, g, shift


def _maps(workspace: Workspace, pixels: torch.Tensor, shifts: Sequence[Shift]) -> Maps:
    """Return heatmaps of the network's input moved by so many cells, float32 (n, h, w, k)."""
    height, width = pixels.shape[-2:]
    moved = []
    for shift in shifts:
        down, right = (
            round(n * stride) for n, stride in zip(shift, workspace.cut.stride, strict=True)
        )
        moved.append(mirrored(pixels, range(-down, height - down), range(-right, width - right)))
    H, _ = workspace.bank.encode(workspace.trunk.forward(torch.stack(moved)).V)
    return H.numpy()
