"""Every network of torchvision: cut at the layer taken by default, its head is the network's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from pipeline.models import cut, list_models, load_network

TOO_LARGE = {
    "regnet_y_128gf": "645 million weights take 2.6 GB thrice",
    "vit_h_14": "632 million weights take 2.5 GB thrice",
    "vit_l_16": "305 million weights, of the family of vit_b_16",
    "vit_l_32": "307 million weights, of the family of vit_b_32",
}
"""Networks that are left out, and why; others of their families are not."""

SIZES = {"inception_v3": 299, "googlenet": 224, "alexnet": 224, "maxvit_t": 224}
SIZES |= {"ssd300_vgg16": 300}
"""Sides of the input where 128 pixels, or 256, are too few."""

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
OTHERS = [
    name
    for module in (torchvision.models.segmentation, torchvision.models.detection)
    for name in torchvision.models.list_models(module=module)
]


def test_every_network_is_offered() -> None:
    assert {*CLASSIFIERS, *OTHERS, "sample", "sample-vit"} == {*list_models()}
    assert TOO_LARGE.keys() <= {*CLASSIFIERS}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", [each for each in CLASSIFIERS if each not in TOO_LARGE])
def test_the_head_of_every_classifier_is_exact(name: str) -> None:
    size = SIZES.get(name, 128)
    network = load_network(name, Path("random"), image_size=size)
    layer = cut(network, "auto")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)
    forward = layer.forward(images)
    again = layer.head(forward.V, forward.prefix)
    assert torch.allclose(again, forward.logits, atol=1e-5 * float(forward.logits.abs().max()))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_every_trunk_has_layers(name: str) -> None:
    size = SIZES.get(name, 256)
    network = load_network(name, Path("random"), image_size=size)
    layer = cut(network, "auto")
    images = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)
    assert layer.forward(images).V.shape[-1] == layer.channels
