"""The shipped network: small, accurate on fresh scenes, and its last grid localizes parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF
from torch import fx, nn

from pipeline.sample import CLASSES, PARTS
from pipeline.sample.network import IMAGE_SIZE, MEAN, PARTS_LAYER, STD, WEIGHTS, load
from pipeline.sample.scenes import Scene
from tests.sample.parts import part_ious

N_PARTS = 192


def batch(scenes: list[Scene]) -> torch.Tensor:
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (images / 255 - mean) / std


def activations(scenes: list[Scene]) -> torch.Tensor:
    """Return the activations of the parts layer, (n, channels, height, width)."""
    network, seen = load(), []
    layer = network.get_submodule(PARTS_LAYER)
    layer.register_forward_hook(lambda module, given, result: seen.append(result))
    with torch.inference_mode():
        for start in range(0, len(scenes), 48):
            network(batch(scenes[start : start + 48]))
    return torch.cat(seen)


def test_weights_are_small_and_finite() -> None:
    assert WEIGHTS.stat().st_size <= 3 * 2**20
    assert all(torch.isfinite(value).all() for value in load().state_dict().values())


def test_the_network_can_be_traced() -> None:
    network = load()
    images = torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.inference_mode():
        assert torch.equal(fx.symbolic_trace(network)(images), network(images))
    layer = network.get_submodule(PARTS_LAYER)
    assert isinstance(layer, nn.Sequential)
    assert isinstance(layer[-1], nn.ReLU)


@pytest.mark.slow
def test_fresh_scenes_are_recognised(scenes: list[Scene]) -> None:
    network, right = load(), np.zeros(len(CLASSES))
    with torch.inference_mode():
        for start in range(0, len(scenes), 48):
            some = scenes[start : start + 48]
            for scene, logits in zip(some, network(batch(some)), strict=True):
                right[scene.class_id] += int(logits.argmax()) == scene.class_id
    assert right.sum() / len(scenes) >= 0.95
    assert right.min() / (len(scenes) / len(CLASSES)) >= 0.8


@pytest.mark.slow
def test_factors_of_the_parts_layer_are_parts(scenes: list[Scene]) -> None:
    """Matched on half of the scenes, scored on the other; beside pytorch-grad-cam's rule."""
    some = scenes[:N_PARTS]
    V = activations(some).permute(0, 2, 3, 1)
    assert float(V.min()) == 0
    model = NMF(len(PARTS) + 2, init="nndsvda", max_iter=2000, tol=1e-3, random_state=0)
    truth = np.stack([scene.parts for scene in some])
    ours, shuffled, gradcam = part_ious(V.numpy(), truth, model)
    assert ours >= 3 * shuffled
    assert ours >= 1.15 * gradcam
