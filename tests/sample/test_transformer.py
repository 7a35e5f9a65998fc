"""The shipped transformer: small, right on fresh scenes, its parts found, its class token apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx

from pipeline import NMF, discover
from pipeline.errors import UserError
from pipeline.images import InputSize, sides
from pipeline.models import cut, list_models, load_network
from pipeline.sample import CLASSES, write_sample
from pipeline.sample.batches import normalised
from pipeline.sample.scenes import Scene
from pipeline.sample.transformer import PARTS_LAYER, WEIGHTS, SampleViT, load
from tests.models.test_positions import check_positions
from tests.sample.parts import part_ious

N_PARTS = 192
AT_ONCE = 32

K = 32
"""What K=auto comes to on the bundled sample."""


def pixels(scenes: list[Scene]) -> torch.Tensor:
    return torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)


def test_weights_are_small_and_finite() -> None:
    assert WEIGHTS.stat().st_size <= 3 * 2**20
    assert all(torch.isfinite(value).all() for value in load().state_dict().values())


def test_the_network_can_be_traced() -> None:
    network, images = load(), torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(fx.symbolic_trace(network)(images), network(images))
    assert cut(load_network("sample-vit"), "auto").layer == PARTS_LAYER
    assert "sample-vit" in list_models()


@pytest.mark.slow
def test_fresh_scenes_are_recognised(scenes: list[Scene]) -> None:
    network, right = load(), np.zeros(len(CLASSES))
    with torch.inference_mode():
        for start in range(0, len(scenes), AT_ONCE):
            some = scenes[start : start + AT_ONCE]
            answers = network(normalised(pixels(some))).argmax(1)
            for scene, answer in zip(some, answers.tolist(), strict=True):
                right[scene.class_id] += answer == scene.class_id
    assert right.sum() / len(scenes) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["blocks.1", PARTS_LAYER])
def test_factors_of_its_positions_are_parts(scenes: list[Scene], layer: str) -> None:
    """As those of the convolutional network are; positive and negative parts kept apart."""
    made = cut(load_network("sample-vit"), layer)
    some = scenes[:N_PARTS]
    V = torch.cat([made.forward(each).V for each in pixels(some).split(AT_ONCE)])
    assert V.shape[1:3] == (20, 20)
    if bool((V < 0).any()):
        V = torch.cat([V.relu(), (-V).relu()], dim=-1)
    truth = np.stack([scene.parts for scene in some])
    ours, shuffled, gradcam = part_ious(V.numpy(), truth, NMF(K, random_state=0))
    assert ours >= 3 * shuffled
    assert ours >= 1.15 * gradcam


@pytest.mark.slow
def test_its_class_token_stays_apart_from_positions(scenes: list[Scene]) -> None:
    network = load_network("sample-vit")
    made, images = cut(network, PARTS_LAYER), pixels(scenes[:4])
    forward = made.forward(images)
    assert made.n_prefix == 1
    assert forward.prefix is not None
    module = network.module
    assert isinstance(module, SampleViT)
    tokens = module.tokens(normalised(images))
    torch.testing.assert_close(forward.prefix, tokens[:, :1])
    torch.testing.assert_close(forward.V.flatten(1, 2), tokens[:, 1:])
    torch.testing.assert_close(made.head(forward.V, forward.prefix), forward.logits)
    # The token is learnt: with another one positions are as they were, the answer is not.
    with torch.no_grad():
        module.class_token.add_(torch.randn(module.class_token.shape))
    other = made.forward(images)
    assert torch.equal(other.V, forward.V)
    assert not torch.allclose(other.prefix, forward.prefix)  # type: ignore[arg-type]
    assert not torch.allclose(other.logits, forward.logits)


@pytest.mark.parametrize("size", [160, 96, (80, 128)])
def test_images_of_other_sizes(size: InputSize) -> None:
    network = load_network("sample-vit", image_size=size)
    made = cut(network, "auto")
    assert (made.height * 8, made.width * 8) == sides(size)
    check_positions(network)


def test_sizes_that_no_tokens_fit_are_refused() -> None:
    with pytest.raises(UserError, match="takes images of multiples of 8 pixels"):
        load_network("sample-vit", image_size=100)


def test_random_weights_follow_the_seed() -> None:
    sums = [load_network("sample-vit", Path("random"), seed=n).weights_sha256 for n in (0, 0, 1)]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.slow
def test_it_goes_to_the_atlas(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=32)
    run = discover(tmp_path / "sample" / "images", model="sample-vit", k=6, run=tmp_path / "run")
    assert run.workspace.record.layer.head == "general"
    assert len(run.table("concepts")) == 6
    right = run.sql("select avg((pred_label = label)::double) as share from images")["share"]
    assert right.iloc[0] >= 0.8
    assert (run.folder / "atlas" / "index.html").is_file()
