"""Where a layer's positions are: a picture that changes in one place changes the layer there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from pipeline.images import InputSize, sides
from pipeline.models import Network, cut, list_layers, load_network
from pipeline.models.given_source import give

hf: Any = import_module("transformers")
timm: Any = import_module("timm")

PLACES = [(0.22, 0.31), (0.3, 0.8), (0.78, 0.2)]
"""Height and width of what changes: far from the middle, and unlike their mirror images."""

SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96,
    "patch_size": 8,
}  # fmt: skip

SIZES: list[InputSize] = [96, (72, 120), (144, 48)]
"""Of the input: a side, or height and width."""


def networks(size: InputSize) -> dict[str, Any]:
    small = SMALL | {"image_size": size}
    swin = hf.SwinConfig(
        image_size=size, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return {
        "torchvision": lambda: torchvision.models.squeezenet1_1(),
        "hf vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**small)),
        "hf dinov2": lambda: hf.Dinov2ForImageClassification(
            hf.Dinov2Config(**SMALL, image_size=96, num_labels=3)
        ),
        "hf swin": lambda: hf.SwinForImageClassification(swin),
        "timm swin": lambda: timm.create_model(
            "swin_tiny_patch4_window7_224",
            img_size=size,
            window_size=3,
            embed_dim=24,
            depths=(2, 2),
            num_heads=(2, 4),
        ),
        "timm same": lambda: timm.create_model("tf_efficientnet_lite0"),
        "timm nfnet": lambda: timm.create_model("test_nfnet"),
        "timm vit": lambda: timm.create_model("test_vit3", img_size=size),
    }


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(name, size, marks=pytest.mark.slow if size == SIZES[-1] else [])
        for name in networks(96)
        for size in SIZES
    ],
)
def test_layers_change_where_the_picture_does(name: str, size: InputSize) -> None:
    torch.manual_seed(0)
    network = load_network(give({}, networks(size)[name]())["model"], image_size=size)
    check_positions(network)


def check_positions(network: Network) -> None:
    """Hold a network's layers to change where the picture does."""
    generator = torch.Generator().manual_seed(1)
    height, width = sides(network.image_size)
    base = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator)
    layers = [layer for layer in list_layers(network) if layer.usable]
    layers = [layer for layer in layers if min(layer.height, layer.width) > 2]
    assert layers
    for layer in layers[:: max(1, len(layers) // 6)]:
        made = cut(network, layer.name)
        whole = made.forward(base).V[0]
        for y, x in PLACES:
            row, column = int(height * y), int(width * x)
            other = base.clone()
            patch = other[0, :, row - 3 : row + 4, column - 3 : column + 4]
            patch.copy_(255 - patch)
            change = (made.forward(other).V[0] - whole).abs().sum(-1).numpy()
            found = np.unravel_index(int(change.argmax()), change.shape)
            for axis, at, place in zip((0, 1), (row, column), found, strict=True):
                off = abs(made.centres[axis][place] - at)
                assert off <= 2 * made.stride[axis] + 4, (layer.name, (y, x), axis, off)


@pytest.mark.parametrize("size", [64, (64, 96)])
def test_positions_are_interpolated_for_images_of_another_size(
    tmp_path: Path, size: InputSize
) -> None:
    torch.manual_seed(0)
    config = hf.ViTConfig(**SMALL, image_size=96, num_labels=3)
    module = hf.ViTForImageClassification(config).eval()
    module.save_pretrained(tmp_path)
    network = load_network(f"hf:{tmp_path}", image_size=size)
    images = torch.rand(2, 3, *sides(size))
    expected = module(images, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(network.module(images), expected)
    made = cut(network, "auto")
    forward = made.forward((images * 255).to(torch.uint8))
    torch.testing.assert_close(made.head(forward.V, forward.prefix), forward.logits)
    assert (made.height * 8, made.width * 8) == sides(size)
    check_positions(network)


@pytest.mark.parametrize("size", [96, 97])
def test_borders_that_are_added_move_no_position(size: int) -> None:
    """The first cell of a TF network stands where its window does, not half a cell beside it."""
    network = load_network("timm:tf_efficientnet_lite0", Path("random"), image_size=size)
    made = cut(network, "conv_stem")
    front = (2 * (-(-size // 2) - 1) + 3 - size) // 2  # TensorFlow's SAME, kernel 3, stride 2
    assert made.centres[0][0] == pytest.approx(1 - front)
    assert made.stride == (2, 2)
