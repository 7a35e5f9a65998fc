"""A run's fixed concepts found in new images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..errors import UserError
from ..images import ImageLike, load_image, network_input
from ..runs.workspace import Workspace

BATCH = 32
"""Images that go through the network together."""


@dataclass(frozen=True)
class Encoding:
    """Fixed concepts found in new images.

    Parameters
    ----------
    H : ndarray
        float32 (n, k, h, w), gauge units, on the layer's grid.
    residual : ndarray
        float32 (n, h, w), ‖v − D(W h)‖ / ‖v‖ per position.
    """

    H: NDArray[np.float32]
    residual: NDArray[np.float32]


class RunBank:
    """A run's fixed concepts, for new images."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def W(self) -> NDArray[np.float32]:
        """Directions of the concepts, float32 (channels after the transform, k)."""
        return self._workspace.bank.W

    def encode(self, images: ImageLike | Sequence[ImageLike]) -> Encoding:
        """Find the fixed concepts in new images.

        Parameters
        ----------
        images : str, Path, PIL.Image.Image, ndarray or a sequence of these
            As of `pipeline.images.load_image`; one by itself is a batch of one.

        Raises
        ------
        UserError
            An image cannot be read, or there is none.
        """
        workspace = self._workspace
        config = workspace.config
        size, scaling = workspace.cut.network.image_size, workspace.cut.network.scaling
        inputs = [
            network_input(load_image(image, workspace.pixel_rule), size, config.resize, scaling)[0]
            for image in _as_list(images)
        ]
        maps = [
            workspace.cut.forward(torch.stack(inputs[i : i + BATCH])).V
            for i in range(0, len(inputs), BATCH)
        ]
        H, residual = workspace.bank.encode(torch.cat(maps))
        return Encoding(H.permute(0, 3, 1, 2).contiguous().numpy(), residual.numpy())


def _as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """Return images as a list of them; an array of four axes holds several."""
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim == 3:
        return [images]
    found = list(images)
    if not found:
        raise UserError("no image was given")
    return found
