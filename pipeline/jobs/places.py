"""Moves pictures of a run in their frames, to see which concepts stay where they were."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..analysis.samples import RunSamples
from ..classify import Place, places
from ..classify.place import DIRECTIONS, Maps, Shift
from ..errors import UserError
from ..images import reading_ahead
from ..images.geometry import mirrored
from ..runs.workspace import Workspace
from .batch import decode_image

N_PICTURES, FEWEST = 192, 48
"""Pictures that are moved, as many passes through the network: at most; and at least, each in
several ways, where there are fewer images."""

AT_ONCE = 16
"""Moved pictures that go through the network together."""


def find_places(sample: RunSamples) -> list[Place]:
    """Tell which of a run's concepts are places in the frame.

    Returns
    -------
    list of Place
        One per concept; none where too few images can be read now, or the layer has one cell.
    """
    cut = sample.workspace.cut
    step = _quarter(cut.height), _quarter(cut.width)
    return places(_moved(sample, step), sample.workspace.config.seed) if any(step) else []


def _quarter(n: int) -> int:
    """Return by how many of n cells a picture is moved."""
    return min(n - 1, max(1, round(n / 4)))


def _moved(sample: RunSamples, step: Shift) -> Iterator[tuple[Maps, Maps, Shift]]:
    """Give heatmaps (h, w, k) of pictures, of the same moved, and by how many cells they were."""
    workspace = sample.workspace
    image_ids = sample.image_ids(N_PICTURES)
    n_each = min(len(DIRECTIONS), max(1, FEWEST // max(1, len(image_ids))))
    ways = itertools.cycle([(step[0] * down, step[1] * right) for down, right in DIRECTIONS])
    for images in sample.read(image_ids):
        H = workspace.bank.strengths(images.V)
        moves = [
            (h, pixels, shift)
            for h, pixels in zip(H.numpy(), _pixels(workspace, images.image_id), strict=True)
            if pixels is not None
            for shift in itertools.islice(ways, n_each)
        ]
        for start in range(0, len(moves), AT_ONCE):
            part = moves[start : start + AT_ONCE]
            after = _maps(workspace, [(pixels, shift) for _, pixels, shift in part])
            yield from ((h, g, shift) for (h, _, shift), g in zip(part, after, strict=True))


def _pixels(workspace: Workspace, image_ids: NDArray[np.int64]) -> list[torch.Tensor | None]:
    """Return the network's inputs of images; None of those that cannot be read now."""
    records = workspace.listing.records(workspace.listing.places(image_ids))
    try:
        with reading_ahead(workspace.source, records):
            return [decode_image(workspace, record).pixels for record in records]
    except UserError as error:  # they may be anywhere: a finished extraction needs them no more
        workspace.log(f"classify: {len(records)} images could not be moved: {error}")
        return [None] * len(records)


def _maps(workspace: Workspace, moves: Sequence[tuple[torch.Tensor, Shift]]) -> Maps:
    """Return heatmaps of inputs of the network, each moved by so many cells: (n, h, w, k)."""
    moved = []
    for pixels, shift in moves:
        height, width = pixels.shape[-2:]
        down, right = (
            round(n * stride) for n, stride in zip(shift, workspace.cut.stride, strict=True)
        )
        moved.append(mirrored(pixels, range(-down, height - down), range(-right, width - right)))
    H = workspace.bank.strengths(workspace.trunk.forward(torch.stack(moved)).V)
    return H.numpy()
