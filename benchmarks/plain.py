"""The plain way to dump activations, as most people write it: the peer of the extraction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

BATCH = 32


class Images(Dataset[torch.Tensor]):
    """Image files through Pillow and torchvision's transforms.

    Parameters
    ----------
    paths : sequence of Path
    size : int
        Side of the square they are resized to, pixels.
    mean, std : sequence of float
        Of the network's preset, one per channel.
    """

    def __init__(
        self, paths: Sequence[Path], size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self._paths = paths
        self._transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return one image, float32 (3, size, size)."""
        with Image.open(self._paths[index]) as image:
            tensor: torch.Tensor = self._transform(image.convert("RGB"))
        return tensor


@torch.inference_mode()
def dump(images: Images, module: nn.Module, layer: str, target: Path, workers: int) -> None:
    """Write the activations of a layer to one gzipped dataset, a chunk per image.

    Parameters
    ----------
    images : Images
    module : Module
        In float32 and `eval` mode; run eagerly.
    layer : str
        The submodule whose output is kept by a forward hook.
    target : Path
        HDF5 file to write.
    workers : int
        Processes of the `DataLoader`; 0: none but this one.
    """
    kept: list[torch.Tensor] = []
    hook = module.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: kept.append(output)
    )
    loader = DataLoader(images, batch_size=BATCH, num_workers=workers)
    start = 0
    with h5py.File(target, "w") as file:
        for batch in loader:
            module(batch)
            maps = kept.pop()
            if "V" not in file:
                shape = tuple(maps.shape[1:])
                file.create_dataset(
                    "V", (len(images), *shape), "f4", chunks=(1, *shape), compression="gzip"
                )
            file["V"][start : start + len(maps)] = maps.numpy()
            start += len(maps)
    hook.remove()
