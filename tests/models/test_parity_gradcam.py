"""Parity with pytorch-grad-cam's Deep Feature Factorization: same image, same layer, same k."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import DeepFeatureFactorization
from pytorch_grad_cam.feature_factorization.deep_feature_factorization import dff
from pytorch_grad_cam.utils.image import preprocess_image, show_factorization_on_image
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF
from torch import nn
from torchvision.models import resnet50

import pipeline
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


class Tutorial:
    """The code of pytorch-grad-cam's notebook "Deep Feature Factorizations", on an image."""

    def __init__(self, model: nn.Module, layer: nn.Module, head: nn.Module, image: Any) -> None:
        pixels = np.float32(image) / 255
        tensor = preprocess_image(pixels, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        peer = DeepFeatureFactorization(
            model=model, target_layer=layer, computation_on_concepts=head
        )
        self.concepts, explanations, outputs = peer(tensor, K)
        self.scores = torch.softmax(torch.from_numpy(outputs), dim=-1).numpy()
        self.V = peer.activations_and_grads.activations[0][0].numpy()
        self.maps = dff(self.V[None].copy(), K)[1][0]
        colours = [np.array(plt.get_cmap("gist_rainbow")(i / K)) for i in range(K)]
        visualization = show_factorization_on_image(
            pixels,
            explanations[0],
            colors=colours,  # theirs by default ask for what matplotlib no longer has
            image_weight=0.3,
            concept_labels=[f"{row.argmax()}:{row.max():.2f}" for row in self.scores],
        )
        self.result = np.hstack((image, visualization))

    @property
    def error(self) -> float:
        """What their concepts leave of the activations, as `Explanation.residual` has it."""
        flat = self.V.reshape(len(self.V), -1)
        offset = flat.min(1, keepdims=True)
        left = flat - offset - (self.concepts - offset) @ self.maps.reshape(K, -1)
        return float(np.linalg.norm(left) / np.linalg.norm(flat))


def matched(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pair rows by their cosines; return these and which row of `b` each of `a` is."""
    cosines = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    rows, columns = linear_sum_assignment(-cosines)
    return cosines[rows, columns], columns


@pytest.fixture(params=["puppies.jpg", pytest.param("both.png", marks=pytest.mark.slow)])
def photograph(request: pytest.FixtureRequest, assets: Path) -> NDArray[np.uint8]:
    """An image of the tutorial, at the network's size: theirs sees it as it is, ours squashes."""
    image = Image.open(assets / "images" / "tutorial" / request.param).convert("RGB")
    return np.array(image.resize((224, 224), Image.Resampling.BICUBIC))


def test_the_four_lines_find_the_tutorials_concepts(
    assets: Path, photograph: NDArray[np.uint8]
) -> None:
    model: Any = load_network(
        "mobilenet_v2", assets / "weights" / "mobilenet_v2.safetensors"
    ).module
    head = nn.Sequential(model.classifier)  # wraps a part: nothing is added to the network
    peer = Tutorial(model, model.features, head, photograph)
    found = pipeline.explain(
        photograph, network=model, layer=model.features, head=model.classifier, k=K, top=2
    )
    flat = np.ascontiguousarray(peer.V.reshape(len(peer.V), -1))
    assert found.residual <= peer.error * 1.001

    # Both to the end: theirs stops after 200 passes, and need not have the best of its starts.
    bank = fit_bank(torch.from_numpy(flat.T.copy()), nmf.Transform("none"), "features", K, 0)
    fits = [NMF(K, init="random", random_state=s, max_iter=3000, tol=1e-6) for s in range(3)]
    ends = [(fit.fit_transform(flat), fit.reconstruction_err_) for fit in fits]
    best = min(ends, key=lambda end: end[1])
    cosines, _ = matched(bank.W.T, best[0].T)
    print(f"ours {found.residual:.4f}, theirs {peer.error:.4f}, cosines {cosines.round(4)}")
    assert found.residual <= best[1] / np.linalg.norm(flat) * 1.001
    assert cosines.min() >= 0.98

    cosines, order = matched(bank.W.T, peer.concepts.T)
    assert cosines.min() >= 0.98
    lengths = np.linalg.norm(peer.concepts, axis=0)[order] / np.linalg.norm(bank.W, axis=0)
    layer = cut(
        load_network("mobilenet_v2", assets / "weights" / "mobilenet_v2.safetensors"), "features"
    )
    scores = score_vectors(layer, torch.from_numpy(bank.W * lengths).T.float()).softmax(1).numpy()
    assert np.abs(scores - peer.scores[order]).max() < 0.05
    assert (scores.argmax(1) == peer.scores[order].argmax(1)).all()

    # A pixel in the middle of a cell shows the cell's own value; centres are every 32 pixels.
    cells = found.heatmaps[:, ::32, ::32].reshape(K, -1)
    theirs_ = peer.maps.reshape(K, -1)
    cells, theirs_ = (each - each.mean(1, keepdims=True) for each in (cells, theirs_))
    correlations, _ = matched(cells, theirs_)
    print(f"heatmaps correlate by {correlations.round(4)}")
    assert correlations.min() > 0.99


@pytest.mark.slow
def test_the_picture_is_an_array_as_the_tutorials(assets: Path) -> None:
    image = Image.open(assets / "images" / "tutorial" / "puppies.jpg").convert("RGB")
    pixels = np.array(image.resize((480, 384), Image.Resampling.BICUBIC))
    torch.manual_seed(0)
    model: Any = resnet50().eval()
    peer = Tutorial(model, model.layer4, model.fc, pixels)
    found = pipeline.explain(pixels, network=model, layer=model.layer4, head=model.fc, k=K, top=2)
    assert found.picture.dtype == peer.result.dtype == np.uint8
    assert found.picture.ndim == peer.result.ndim == 3
    assert found.picture.shape[0] == peer.result.shape[0] == 384
    assert (found.picture[:, :480] == peer.result[:, :480]).all(), "the image comes first"
    assert (found.picture[:, :480] == pixels).all()
    assert found.picture.shape[1] > 960, "image, composite and legend"
    assert found.heatmaps.shape == (K, 384, 480)
