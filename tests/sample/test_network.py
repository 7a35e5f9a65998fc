"""The shipped network: small, accurate on fresh scenes, and its last grid localizes parts."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF
from torch import fx, nn
from torch.nn import functional

from pipeline.sample import CLASSES, PARTS, render_scene
from pipeline.sample.network import IMAGE_SIZE, MEAN, PARTS_LAYER, STD, WEIGHTS, load
from pipeline.sample.scenes import Scene

FRESH_SEED = 9_000  # no scene of the training or of the bundled sample starts here
N_FRESH, N_PARTS = 320, 192
Masks = npt.NDArray[np.bool_]


def fresh_scene(index: int) -> Scene:
    return render_scene(FRESH_SEED, index, IMAGE_SIZE)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Scenes that no training has seen."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(fresh_scene, range(N_FRESH), chunksize=8))


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


def test_fresh_scenes_are_recognised(scenes: list[Scene]) -> None:
    network, right = load(), np.zeros(len(CLASSES))
    with torch.inference_mode():
        for start in range(0, len(scenes), 48):
            some = scenes[start : start + 48]
            for scene, logits in zip(some, network(batch(some)), strict=True):
                right[scene.class_id] += int(logits.argmax()) == scene.class_id
    assert right.sum() / len(scenes) >= 0.95
    assert right.min() / (len(scenes) / len(CLASSES)) >= 0.8


def test_factors_of_the_parts_layer_are_parts(scenes: list[Scene]) -> None:
    """Matched on half of the scenes, scored on the other; beside pytorch-grad-cam's rule."""
    some = scenes[:N_PARTS]
    V = activations(some).permute(0, 2, 3, 1)
    n, height, width, channels = V.shape
    assert float(V.min()) == 0
    k = len(PARTS) + 2
    model = NMF(k, init="nndsvda", max_iter=2000, tol=1e-3, random_state=0)
    H = model.fit_transform(V.reshape(-1, channels).numpy())
    H /= (H**2).sum(0) / H.sum(0)
    maps = torch.from_numpy(H.reshape(n, height, width, k)).permute(0, 3, 1, 2)
    maps = functional.interpolate(maps.float(), size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear")
    truth = np.stack([scene.parts for scene in some])
    ours = matched_iou((maps >= 0.5).numpy(), truth)
    shuffled = matched_iou((maps >= 0.5).numpy(), np.random.default_rng(0).permutation(truth))
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    strongest = ((maps - low) / (high - low).clamp_min(1e-9)).argmax(1, keepdim=True)
    gradcam = matched_iou((strongest == torch.arange(k).view(k, 1, 1)).numpy(), truth)
    print(f"part IoU {ours:.3f}, shuffled {shuffled:.3f}, pytorch-grad-cam's rule {gradcam:.3f}")
    assert ours >= 3 * shuffled
    assert ours >= 1.15 * gradcam


def matched_iou(found: Masks, truth: npt.NDArray[np.uint8]) -> float:
    """Mean IoU over parts of masks (n, k, h, w) matched one to one on the first half."""
    half = len(truth) // 2
    concepts, parts = linear_sum_assignment(-ious(found[:half], truth[:half]))
    return float(ious(found[half:], truth[half:])[concepts, parts].sum() / len(PARTS))


def ious(found: Masks, truth: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """IoU of each concept with each part, over all pixels: (k, parts)."""
    counts = [np.bincount(truth[mask], minlength=len(PARTS) + 1) for mask in found.swapaxes(0, 1)]
    both = np.array(counts)
    part = np.bincount(truth.ravel(), minlength=len(PARTS) + 1)
    union = both.sum(axis=1, keepdims=True) + part - both
    shares: npt.NDArray[np.float64] = both / union
    return shares[:, 1:]
