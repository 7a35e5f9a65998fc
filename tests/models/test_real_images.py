"""Real networks on photographs: cut at any layer that can be, they answer what they did whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.images import load_image, network_input
from pipeline.models import cut, list_layers, load_network

NETWORKS = {
    "mobilenet_v2": "mobilenet_v2",
    "squeezenet1_1": "squeezenet1_1",
    "timm:tf_efficientnet_lite0": "tf_efficientnet_lite0",
    "sample": None,
    "sample-vit": None,
}
"""Names, and of which file of the assets their weights are; the sample's are shipped."""

N_IMAGES = 3


SLOW = ("mobilenet_v2", "timm:tf_efficientnet_lite0")


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.slow if each in SLOW else []) for each in NETWORKS],
)
def test_the_head_of_every_layer_is_the_network(assets: Path, name: str) -> None:
    known = NETWORKS[name]
    weights = None if known is None else assets / "weights" / f"{known}.safetensors"
    network = load_network(name, weights)
    photographs = sorted((assets / "images" / "imagenet_samples").glob("*.JPEG"))[
        :: 200 // N_IMAGES
    ]
    images = torch.stack(
        [
            network_input(load_image(each), network.image_size, "squash", network.scaling)[0]
            for each in photographs[:N_IMAGES]
        ]
    )
    whole, n_layers = None, 0
    for layer in list_layers(network):
        if not layer.usable:
            continue
        made = cut(network, layer.name)
        forward = made.forward(images)
        whole = forward.logits if whole is None else whole
        scale = float(whole.abs().max())
        answer = made.head(forward.V, forward.prefix)
        np.testing.assert_allclose(answer, whole, atol=2e-5 * scale, err_msg=layer.name)
        n_layers += 1
    assert n_layers >= 5
    assert whole is not None
    assert len(set(whole.argmax(1).tolist())) > 1 or "sample" in name
