"""What a loaded network is: a frozen module, its input, and the names of its classes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from ..images import InputSize, Scaling, sides, size_of
from .link import Link
from .tracing import TracedNetwork, trace_network


@dataclass(frozen=True, eq=False)
class Network:
    """A network ready for inference: a classifier, or a backbone without classes.

    Attributes
    ----------
    name : str
        What the user calls it: a torchvision model or ``sample``.
    module : Module
        In `eval` mode, float32, no parameter requires gradients. Takes normalised images
        (batch, 3, height, width) and returns logits (batch, classes); a backbone returns features.
    image_size : int or (int, int)
        Side of the square input, or its height and width, pixels.
    mean, std : tuple of float
        Normalisation of an RGB image in [0, 1]: (image − mean) / std.
    scaling : Scaling
        How images are brought to that size.
    classes : tuple of str
        Class names in the order of the logits; none of a backbone.
    weights_sha256 : str
        SHA-256 of the weights file, or of the tensors where there is no file.
    weights_source : str
        Name of the file, torchvision's name of the weights, or how they were drawn.
    notes : tuple of str
        What was assumed of it, for the user to know.
    link : {'softmax', 'sigmoid'}
        Whether one of the classes holds, or each of them is a yes or no by itself.
    has_spare_head : bool
        Whether it answers with logits that are left aside; it is a backbone then.
    margin : int
        Pixels that images are mirrored beyond their borders before it sees them; see
        `pipeline.models.margin`.
    """

    name: str
    module: nn.Module
    image_size: InputSize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[str, ...]
    weights_sha256: str
    weights_source: str
    scaling: Scaling = field(default_factory=Scaling)
    notes: tuple[str, ...] = ()
    link: Link = "softmax"
    has_spare_head: bool = False
    margin: int = 0

    @property
    def wide_size(self) -> InputSize:
        """The size of its images with their margin."""
        height, width = sides(self.image_size)
        return size_of(height + 2 * self.margin, width + 2 * self.margin)

    @functools.cached_property
    def traced(self) -> TracedNetwork:
        """The network's graph with every layer found in it; worked out once, on first use."""
        return self._trace(self.image_size)

    @functools.cached_property
    def traced_wide(self) -> TracedNetwork:
        """The same for images with their margin."""
        return self._trace(self.wide_size) if self.margin else self.traced

    def _trace(self, size: InputSize) -> TracedNetwork:
        return trace_network(
            self.module,
            self.name,
            size,
            has_classes=bool(self.classes),
            has_spare_head=self.has_spare_head,
        )


class Normalize(nn.Module):
    """Turns uint8 RGB images (batch, 3, size, size) into what a network takes.

    Computed in float32 as torchvision does, (image / 255 − mean) / std, then cast to `dtype`; with
    the network's margin around them.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Network, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(network.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(network.std).view(3, 1, 1))
        self.dtype = dtype
        self.margin = network.margin

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the normalised images, (batch, 3, size, size), larger by the margin."""
        normal = ((images.to(torch.float32) / 255 - self.mean) / self.std).to(self.dtype)
        if not self.margin:
            return normal
        return functional.pad(normal, (self.margin,) * 4, mode="reflect")
