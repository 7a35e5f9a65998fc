"""A network cut in two computes what it did whole, and gives the layer's own activations."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.images import sides
from pipeline.models import Cut, Network, cut, load_network
from pipeline.models.head import linear_relu_pool, pool_linear

ASSETS = Path(os.environ.get("CONCORDANCE_ASSETS", "../shared/assets"))
REAL = pytest.mark.skipif(
    not (ASSETS / "weights").is_dir(), reason=f"no real weights in {ASSETS}; set CONCORDANCE_ASSETS"
)
LAYERS = [
    ("resnet18", "auto"),
    ("resnet18", "layer2"),
    ("resnet18", "layer3.0"),
    ("resnet18", "conv1"),
    ("resnet50", "auto"),
    ("mobilenet_v2", "auto"),
    ("mobilenet_v2", "features.13"),
    ("squeezenet1_1", "auto"),
    ("squeezenet1_1", "features.7"),
    ("densenet121", "auto"),
    ("densenet121", "features"),
    ("densenet121", "features.denseblock3"),
    ("shufflenet_v2_x0_5", "stage3"),
    ("convnext_tiny", "auto"),
    ("convnext_tiny", "features.3"),
    ("swin_t", "auto"),
    ("swin_t", "features.3"),
    ("swin_t", "features.4"),
    ("vit_b_32", "auto"),
    ("vit_b_32", "encoder.layers.encoder_layer_3"),
]


@functools.cache
def _network(name: str, size: int = 64) -> Network:
    network = load_network(name, Path("random"), image_size=size)
    _wake(network.module)
    return network


def _wake(module: nn.Module) -> None:
    """Give an untrained network the liveliness of a trained one, or its head hardly matters."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.uniform_(0.5, 1.5, generator=generator)
            part.bias.normal_(0, 0.3, generator=generator)


def _images(n: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


def _whole(network: Network, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (network.mean, network.std))
    with torch.no_grad():
        logits: torch.Tensor = network.module((images.float() / 255 - mean) / std)
        return logits


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_the_two_parts_are_the_network(name: str, layer: str) -> None:
    network = _network(name)
    made = cut(network, layer)
    images = _images(3, sides(network.image_size)[0])
    forward = made.forward(images)
    assert forward.V.shape == (3, made.height, made.width, made.channels)
    assert forward.V.dtype == forward.logits.dtype == torch.float32
    assert forward.V.is_contiguous()
    assert forward.logits.shape == (3, made.n_classes)
    whole = _whole(network, images)
    assert whole.std() > 1e-3
    torch.testing.assert_close(forward.logits, whole, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        logits = made.head(forward.V, forward.prefix)
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_the_head_depends_on_the_positions(name: str, layer: str) -> None:
    made = cut(_network(name), layer)
    forward = made.forward(_images(1, 64))
    with torch.no_grad():
        changed = made.head(forward.V + forward.V.std() * _noise(forward.V), forward.prefix)
    assert (changed - forward.logits).abs().max() > 1e-4


def _noise(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(2))


def test_nothing_before_the_layer_is_in_the_head() -> None:
    made = cut(_network("resnet18"), "layer4")
    before = {id(each) for each in _network("resnet18").module.get_submodule("layer4").parameters()}
    assert made._head is not None
    weights = list(made._head.parameters())
    assert len(weights) == 2, "the linear layer's own"
    assert not any(id(each) in before for each in weights)


def test_only_positions_go_through_the_prefix() -> None:
    made = cut(_network("vit_b_32"), "auto")
    forward = made.forward(_images(2, 64))
    assert made.n_prefix == 1
    assert forward.prefix is not None
    assert forward.prefix.shape == (2, 1, 768)
    assert forward.V.shape == (2, 2, 2, 768)


@pytest.mark.parametrize("layer", ["encoder.layers.encoder_layer_2", "auto"])
def test_positions_of_tokens_are_row_by_row(layer: str) -> None:
    network = _network("vit_b_32", 96)
    made = cut(network, layer)
    images = _images(1, 96)
    values: list[torch.Tensor] = []
    index = {"auto": 10}.get(layer, 2)
    block = network.module.get_submodule(f"encoder.layers.encoder_layer_{index}")
    with block.register_forward_hook(lambda *given: values.append(given[2])):
        _whole(network, images)
    V = made.forward(images).V
    torch.testing.assert_close(V[0, 1, 2], values[0][0, 1 + 3 + 2], rtol=1e-5, atol=1e-5)


def test_a_layer_is_read_before_the_next_operation_overwrites_it() -> None:
    """torchvision's DenseNet applies an in-place ReLU to its last map."""
    made = cut(_network("densenet121"), "features", aux_layers=["relu"])
    forward = made.forward(_images(2, 64))
    assert forward.V.min() < 0
    assert torch.equal(forward.aux["relu"], forward.V.relu())


def test_the_head_leaves_its_input_alone() -> None:
    made = cut(_network("densenet121"), "features")
    V = made.forward(_images(1, 64)).V
    kept = V.clone()
    with torch.no_grad():
        made.head(V)
    assert torch.equal(V, kept)


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer3"), ("swin_t", "auto")])
def test_the_head_has_gradients(name: str, layer: str) -> None:
    made = cut(_network(name), layer)
    V = made.forward(_images(1, 64)).V.requires_grad_()
    made.head(V)[0, 3].backward()
    assert V.grad is not None
    assert V.grad.abs().sum() > 0


def test_auxiliary_layers_come_with_the_same_pass() -> None:
    network = _network("resnet18")
    inside = "layer2.0.conv1"
    made = cut(network, "layer4", aux_layers=["layer3", inside, "layer4.1", "layer3.1"])
    assert made.aux_layers == ("layer3", inside)
    images = _images(2, 64)
    aux = made.forward(images).aux
    assert set(aux) == {"layer3", inside}
    assert torch.equal(aux["layer3"], cut(network, "layer3").forward(images).V)
    assert aux[inside].shape == (2, 8, 8, 128)
    assert made.aux_centres["layer3"][0].tolist() == [0, 16, 32, 48]


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [
        ("resnet18", "layer4", "pool_linear"),
        ("resnet18", "layer3", "general"),
        ("mobilenet_v2", "features", "pool_linear"),
        ("squeezenet1_1", "features", "linear_relu_pool"),
        ("squeezenet1_1", "features.10", "general"),
        ("densenet121", "relu", "pool_linear"),
        ("densenet121", "features", "general"),
        ("swin_t", "norm", "pool_linear"),
        ("swin_t", "features", "general"),
        ("convnext_tiny", "features", "general"),
        ("vit_b_32", "auto", "general"),
    ],
)
def test_kinds_of_heads(name: str, layer: str, kind: str) -> None:
    made = cut(_network(name), layer)
    assert made.head_kind == kind
    assert (made.linear is None) == (kind == "general")


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("resnet18", pool_linear),
        ("mobilenet_v2", pool_linear),
        ("squeezenet1_1", linear_relu_pool),
    ],
)
def test_the_formula_of_a_head_holds(name: str, formula: object) -> None:
    made = cut(_network(name), "auto")
    assert made.linear is not None
    assert [tuple(each.shape) for each in made.linear] == [(1000, made.channels), (1000,)]
    forward = made.forward(_images(4, 64))
    assert callable(formula)
    torch.testing.assert_close(
        formula(forward.V, made.linear), forward.logits, rtol=1e-4, atol=1e-5
    )


class _Scaled(nn.Module):
    """Looks like pool and linear by its parameters, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.body(images).mean((2, 3)))
        return 2 * logits


def test_a_head_is_believed_only_if_its_numbers_agree() -> None:
    network = Network("x", _Scaled().eval(), 16, (0, 0, 0), (1, 1, 1), ("a", "b"), "", "")
    assert cut(network, "body").head_kind == "general"


def test_wrong_shapes_for_the_head() -> None:
    made = cut(_network("resnet18"), "layer4")
    with pytest.raises(ValueError, match=r"takes \(batch, 2, 2, 512\), not \(1, 7, 7, 512\)"):
        made.head(torch.zeros(1, 7, 7, 512))
    made = cut(_network("vit_b_32"), "auto")
    with pytest.raises(ValueError, match="takes 1 prefix tokens, not 0"):
        made.head(torch.zeros(1, 2, 2, 768))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121"])
def test_parity_with_pytorch_grad_cam(name: str) -> None:
    """The same layer gives the same activations there, positions and channels in place."""
    from pytorch_grad_cam.activations_and_gradients import ActivationsAndGradients

    network = load_network(name, Path("random"), image_size=64)
    target = {
        "resnet18": "layer4.1",
        "mobilenet_v2": "features.18",
        "squeezenet1_1": "features.12",
        "densenet121": "features.denseblock4",
    }[name]
    made = cut(network, target)
    images = _images(2, 64)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (network.mean, network.std))
    hooks = ActivationsAndGradients(network.module, [network.module.get_submodule(target)], None)
    try:
        logits = hooks((images.float() / 255 - mean) / std)
        theirs = hooks.activations[0].permute(0, 2, 3, 1)
    finally:
        hooks.release()
    forward = made.forward(images)
    torch.testing.assert_close(forward.V, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(forward.logits, logits, rtol=1e-5, atol=1e-6)


def _real(name: str) -> Cut:
    return cut(load_network(name, ASSETS / "weights" / f"{name}.safetensors"), "auto")


@REAL
@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1"])
def test_real_networks_recognise_real_images(name: str) -> None:
    """Checks the whole input side: channel order, scale, normalisation, class order."""
    import csv

    import numpy as np
    from PIL import Image

    folder = ASSETS / "images" / "imagenette224"
    with (ASSETS / "images" / "imagenette224_classes.csv").open() as file:
        class_of = {row["label"]: int(row["class_id"]) for row in csv.DictReader(file)}
    files = [sorted((folder / label).iterdir())[0] for label in sorted(class_of)]
    pixels = [np.array(Image.open(file).convert("RGB")) for file in files]
    images = torch.stack([torch.from_numpy(each).permute(2, 0, 1) for each in pixels])
    made = _real(name)
    forward = made.forward(images)
    truth = torch.tensor([class_of[file.parent.name] for file in files])
    assert (forward.logits.argmax(1) == truth).sum() >= 6
    with torch.no_grad():
        torch.testing.assert_close(made.head(forward.V), forward.logits, rtol=1e-4, atol=1e-4)
    if name == "mobilenet_v2":
        assert made.network.classes[int(truth[0])] == "tench"
