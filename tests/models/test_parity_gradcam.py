"""Parity with pytorch-grad-cam's Deep Feature Factorization: same image, same layer, same k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import DeepFeatureFactorization
from pytorch_grad_cam.feature_factorization.deep_feature_factorization import dff

from pipeline import nmf
from pipeline.analysis.explain import fit_bank
from pipeline.classify import score_vectors
from pipeline.images import fit_to_input, read_original
from pipeline.models import Cut, cut, load_network
from pipeline.models.network import Normalize

pytestmark = pytest.mark.filterwarnings("ignore:Maximum number of iterations:Warning")

K = 5
LAYERS = {"mobilenet_v2": "features", "squeezenet1_1": "features"}


def tutorial(assets: Path, model: str) -> tuple[Cut, torch.Tensor]:
    """Return a network with its real weights, and the tutorial's image as its input."""
    weights = assets / "weights" / f"{model}.safetensors"
    layer = cut(load_network(model, weights), LAYERS[model])
    image = read_original(assets / "images" / "tutorial" / "puppies.jpg")
    square, _ = fit_to_input(torch.from_numpy(image).permute(2, 0, 1), 224)
    return layer, square[None]


def theirs(layer: Cut, images: torch.Tensor) -> tuple[NDArray[np.float32], object]:
    """Run pytorch-grad-cam itself on the same network, layer and image."""
    module = layer.network.module
    target = module.get_submodule(layer.layer)
    concepts, maps = DeepFeatureFactorization(model=module, target_layer=target)(
        Normalize(layer.network)(images), K
    )
    return concepts, maps


def relative_error(V: torch.Tensor, W: torch.Tensor) -> float:
    """Best error for concepts W: the objective both solvers minimise, H solved exactly."""
    H = nmf.encode(V, W)
    return float((V - H @ W.T).norm() / V.norm())


@pytest.mark.parametrize("model", LAYERS)
def test_the_objective_is_not_worse(assets: Path, model: str) -> None:
    layer, images = tutorial(assets, model)
    V = layer.forward(images).V.reshape(-1, layer.channels)
    concepts, maps = dff(V.T.reshape(1, layer.channels, layer.height, layer.width).numpy(), K)
    offset = V.amin(0)
    their_H = torch.from_numpy(maps.reshape(K, -1).T)
    their_W = torch.from_numpy(concepts) - offset[:, None]
    their_error = float((V - offset - their_H @ their_W.T).norm() / (V - offset).norm())
    bank = fit_bank(V - offset, nmf.Transform("none"), layer.layer, K, seed=0)
    ours = relative_error(V - offset, torch.from_numpy(bank.W))
    print(f"{model}: ours {ours:.5f}, theirs {their_error:.5f}")
    assert ours <= their_error * 1.001


@pytest.mark.parametrize("model", LAYERS)
def test_the_same_concepts_get_the_same_class_scores(assets: Path, model: str) -> None:
    layer, images = tutorial(assets, model)
    concepts, _ = theirs(layer, images)
    W = torch.from_numpy(np.float32(concepts)).T
    classifier = layer.network.module.get_submodule("classifier")
    with torch.no_grad():
        # As the tutorial does: every concept an image of one position, through the network's head.
        maps = W[:, :, None, None]
        if model == "squeezenet1_1":
            expected = classifier(maps).flatten(1)
        else:
            expected = classifier(torch.flatten(maps, 1))
    assert torch.allclose(score_vectors(layer, W), expected, atol=1e-4)


def test_the_layer_gives_the_activations_they_hook(assets: Path) -> None:
    layer, images = tutorial(assets, "mobilenet_v2")
    module = layer.network.module
    peer = DeepFeatureFactorization(module, module.get_submodule(layer.layer))
    peer(Normalize(layer.network)(images), K)
    hooked = peer.activations_and_grads.activations[0]
    found = layer.forward(images).V.permute(0, 3, 1, 2)
    assert torch.allclose(found, hooked, atol=1e-5)


def test_heatmaps_of_a_batch_do_not_mix_its_images() -> None:
    # Each image has positions of its own concept alone; mixed maps would show the others'.
    rng = np.random.default_rng(0)
    directions = np.eye(3, 12, dtype=np.float32) + 0.01
    strength = rng.uniform(0.5, 2, (3, 4, 5)).astype(np.float32)
    maps = strength[..., None] * directions[:, None, None, :]
    bank = fit_bank(torch.from_numpy(maps.reshape(-1, 12)), nmf.Transform("none"), "x", 3, 0)
    H = bank.encode(torch.from_numpy(maps))[0].permute(0, 3, 1, 2).numpy()
    _, expected = dff(np.ascontiguousarray(maps.transpose(0, 3, 1, 2)), 3)
    assert H.shape == expected.shape
    for image in range(3):
        ours, peer = H[image], expected[image]
        own, theirs_ = ours.max((1, 2)).argmax(), peer.max((1, 2)).argmax()
        assert np.delete(ours, own, 0).max() < 0.05 * ours.max()
        assert np.corrcoef(ours[own].ravel(), peer[theirs_].ravel())[0, 1] > 0.999
        assert np.corrcoef(ours[own].ravel(), strength[image].ravel())[0, 1] > 0.999


def test_puppies_are_told_apart_from_what_is_around_them(assets: Path, tmp_path: Path) -> None:
    from pipeline.analysis.explain import explain_alone

    layer, _ = tutorial(assets, "mobilenet_v2")
    image = read_original(assets / "images" / "tutorial" / "puppies.jpg")
    found = explain_alone(layer, layer.network.classes, image, k=K)
    assert found.heatmaps.shape == (K, *image.shape[:2])
    assert len(found.legend) >= 3
    Image.fromarray(found.picture).save(tmp_path / "puppies.png")
    assert found.picture.shape[1] > 2 * image.shape[1]
