"""A run's fixed concepts found in new images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.images import DecodeError, fit_to_square, read_original
from pipeline.jobs.workspace import Workspace

ImageLike = str | Path | NDArray[np.uint8]

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
        float32 (n, h, w), ‖v − D(W h)‖ / ‖v‖ a position.
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

    def encode(self, images: Sequence[ImageLike]) -> Encoding:
        """Find the fixed concepts in new images.

        Parameters
        ----------
        images : sequence
            Paths, or arrays uint8 (height, width, 3), RGB.

        Raises
        ------
        UserError
            An image cannot be read.
        """
        workspace = self._workspace
        config = workspace.config
        squares = []
        for image in images:
            pixels = torch.from_numpy(load_image(image)).permute(2, 0, 1).contiguous()
            squares.append(
                fit_to_square(pixels, workspace.cut.network.image_size, config.resize)[0]
            )
        maps = [
            workspace.cut.forward(torch.stack(squares[i : i + BATCH])).V
            for i in range(0, len(squares), BATCH)
        ]
        H, residual = workspace.bank.encode(torch.cat(maps))
        return Encoding(H.permute(0, 3, 1, 2).contiguous().numpy(), residual.numpy())


def load_image(image: ImageLike) -> NDArray[np.uint8]:
    """Return pixels as uint8 (height, width, 3), RGB, of a path or of such an array.

    Raises
    ------
    UserError
        The file cannot be read, or the array is no such image.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"an image is uint8 (height, width, 3), this is {image.dtype} {image.shape}"
            )
        return np.ascontiguousarray(image)
    try:
        return read_original(Path(image))
    except DecodeError as error:
        raise UserError(f"IMAGE={image} cannot be used: {error}") from error
