"""Where a layer's positions are: a picture that changes in one place changes the layer there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.models import cut, list_layers, load_network
from pipeline.models.given_source import give

hf: Any = import_module("transformers")
timm: Any = import_module("timm")

PLACES = [(0.22, 0.31), (0.3, 0.8), (0.78, 0.2)]
"""Height and width of what changes: far from the middle, and unlike their mirror images."""

SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96,
    "image_size": 96, "patch_size": 8,
}  # fmt: skip


def networks() -> dict[str, Any]:
    swin = hf.SwinConfig(
        image_size=96, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return {
        "hf vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SMALL)),
        "hf dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**SMALL)),
        "hf swin": lambda: hf.SwinForImageClassification(swin),
        "timm swin": lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=96,
            window_size=3,
            embed_dim=24,
            depths=(2, 2),
            num_heads=(2, 4),
        ),
        "timm same": lambda: timm.create_model("tf_efficientnet_lite0"),
        "timm nfnet": lambda: timm.create_model("test_nfnet"),
        "timm vit": lambda: timm.create_model("test_vit3", img_size=96),
    }


@pytest.mark.parametrize("name", networks())
def test_layers_change_where_the_picture_does(name: str) -> None:
    torch.manual_seed(0)
    network = load_network(give({}, networks()[name]())["model"], image_size=96)
    generator = torch.Generator().manual_seed(1)
    base = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8, generator=generator)
    layers = [layer for layer in list_layers(network) if layer.usable and layer.height > 2]
    assert layers
    for layer in layers[:: max(1, len(layers) // 6)]:
        made = cut(network, layer.name)
        whole = made.forward(base).V[0]
        for y, x in PLACES:
            row, column = int(96 * y), int(96 * x)
            other = base.clone()
            patch = other[0, :, row - 3 : row + 4, column - 3 : column + 4]
            patch.copy_(255 - patch)
            change = (made.forward(other).V[0] - whole).abs().sum(-1).numpy()
            found = np.unravel_index(int(change.argmax()), change.shape)
            for axis, at, place in zip((0, 1), (row, column), found, strict=True):
                off = abs(made.centres[axis][place] - at)
                assert off <= 2 * made.stride[axis] + 4, (layer.name, (y, x), axis, off)


@pytest.mark.parametrize("size", [96, 97])
def test_borders_that_are_added_move_no_position(size: int) -> None:
    """The first cell of a TF network stands where its window does, not half a cell beside it."""
    network = load_network("timm:tf_efficientnet_lite0", Path("random"), image_size=size)
    made = cut(network, "conv_stem")
    front = (2 * (-(-size // 2) - 1) + 3 - size) // 2  # TensorFlow's SAME, kernel 3, stride 2
    assert made.centres[0][0] == pytest.approx(1 - front)
    assert made.stride == (2, 2)
