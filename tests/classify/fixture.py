"""Networks, banks and images that the tests of classification share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch

from pipeline.models import Cut, cut, load_network
from pipeline.nmf import Transform
from pipeline.store import Bank

SIZE = 96
LAYERS = {"resnet18": "layer4", "mobilenet_v2": "features", "squeezenet1_1": "features"}


@cache
def make_cut(model: str, layer: str = "") -> Cut:
    network = load_network(model, Path("random"), image_size=SIZE)
    return cut(network, layer or LAYERS[model])


def make_bank(channels: int, k: int, kind: str = "none", seed: int = 0) -> Bank:
    rng = np.random.default_rng(seed)
    offset = torch.full((channels,), -0.1) if kind == "shift" else None
    transform = Transform(kind, offset)
    W = rng.gamma(0.5, 1.0, (transform.n_channels_out(channels), k)).astype(np.float32)
    nothing = np.zeros(k)
    return Bank(
        layer="x",
        seed=0,
        transform=transform,
        W=W,
        context=W,
        thresholds=np.full(k, 0.5, np.float32),
        threshold_reasons=("given",) * k,
        energies=nothing,
        stability=nothing,
        error=0.5,
        heldout_error=0.5,
        svd_error=0.4,
        k_is_stable=True,
    )


def images(n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)


def seen(layer: Cut, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return activations (n, h, w, channels) of size 1 and the head's logits on them.

    Networks with random weights give next to nothing at their last layers, and then any split of
    their logits is exact.
    """
    V = layer.forward(images(n)).V
    V = V / V.square().mean().sqrt()
    return V, layer.head(V)
