"""Which layers are found, which can be cut, which one is chosen, and where their cells lie."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from pipeline.errors import UserError
from pipeline.models import (
    LayerInfo,
    Network,
    choose_layer,
    cut,
    describe_layers,
    list_layers,
    load_network,
    why_auto,
)
from pipeline.models.tracing import SCORES, SKIPPED, UNREACHED

RANDOM = Path("random")


@functools.cache
def _network(name: str, size: int = 64) -> Network:
    return load_network(name, RANDOM, image_size=size)


def _layers(name: str, size: int = 64) -> dict[str, LayerInfo]:
    return {layer.name: layer for layer in list_layers(_network(name, size))}


def _custom(module: nn.Module, size: int = 32) -> Network:
    return Network("custom", module.eval(), size, (0, 0, 0), (1, 1, 1), ("a", "b"), "", "")


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("resnet18", 64, "layer4"),
        ("mobilenet_v2", 64, "features"),
        ("squeezenet1_1", 64, "features"),
        ("densenet121", 64, "relu"),
        ("convnext_tiny", 64, "features"),
        ("swin_t", 64, "norm"),
        ("vit_b_32", 64, "encoder.layers.encoder_layer_10"),
        ("googlenet", 64, "inception5b"),
        ("inception_v3", 128, "Mixed_7c"),
        ("shufflenet_v2_x0_5", 64, "conv5"),
        ("efficientnet_b0", 64, "features"),
        ("regnet_y_400mf", 64, "trunk_output"),
        ("alexnet", 224, "features"),
    ],
)
def test_auto_takes_the_last_layer_of_positions(name: str, size: int, layer: str) -> None:
    assert choose_layer(_network(name, size)) == layer


@pytest.mark.parametrize(
    ("name", "given", "canonical"),
    [
        ("resnet18", "layer4.1", "layer4"),
        ("resnet18", "layer4.1.relu_1", "layer4"),
        ("resnet18", "layer3", "layer3"),
        ("mobilenet_v2", "features.18", "features"),
        ("mobilenet_v2", "features.18.2", "features"),
        ("squeezenet1_1", "features.12", "features"),
        ("squeezenet1_1", "classifier.0", "features"),
        ("swin_t", "permute", "norm"),
    ],
)
def test_all_names_of_a_layer_mean_it(name: str, given: str, canonical: str) -> None:
    assert choose_layer(_network(name), given) == canonical
    assert cut(_network(name), given).layer == canonical


def test_layers_are_described() -> None:
    layers = _layers("resnet18")
    assert layers["layer3"] == LayerInfo("layer3", "Sequential", 256, 4, 4, False, True, "")
    assert layers["layer1.0.bn1"] == LayerInfo(
        "layer1.0.bn1", "BatchNorm2d", 64, 16, 16, True, False, SKIPPED
    )
    assert layers["conv1"].usable
    assert "avgpool" not in layers, "one position is no map"
    assert "fc" not in layers


def test_signs() -> None:
    densenet = _layers("densenet121")
    assert (densenet["features"].signed, densenet["relu"].signed) == (True, False)
    assert _layers("convnext_tiny")["features"].signed
    assert not _layers("mobilenet_v2")["features"].signed


def test_class_scores_are_no_layer_to_cut_at() -> None:
    layers = _layers("squeezenet1_1")
    assert layers["classifier.1"].reason == SCORES
    assert layers["classifier.2"].reason == SCORES
    assert layers["features"].usable


def test_the_last_block_of_a_class_token_transformer_is_refused() -> None:
    network = _network("vit_b_32")
    layers = {layer.name: layer for layer in list_layers(network)}
    # The block's own output is the encoder's before its last normalisation.
    last = layers["encoder.layers"]
    assert (last.usable, last.reason) == (False, UNREACHED)
    assert layers["encoder"].reason == UNREACHED
    with pytest.raises(UserError) as caught:
        choose_layer(network, "encoder.layers.encoder_layer_11")
    assert str(caught.value) == (
        "layer 'encoder.layers.encoder_layer_11' of vit_b_32 cannot be used, since its positions"
        " cannot reach the logits (only the class token is read after it):"
        " describe_layers(model='vit_b_32') lists the ones that can"
    )


def test_a_layer_inside_a_residual_block_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        cut(_network("resnet18"), "layer4.1.conv1")
    assert str(caught.value) == (
        "layer 'layer4.1.conv1' of resnet18 cannot be used, since the head is not a function of"
        " this layer alone (skip connections lead around it):"
        " describe_layers(model='resnet18') lists the ones that can"
    )


def test_unknown_layer() -> None:
    with pytest.raises(UserError) as caught:
        choose_layer(_network("resnet18"), "layr4")
    text = str(caught.value)
    assert text.startswith(
        "resnet18 has no layer 'layr4' that is a map of positions: did you mean 'layer4'"
    )
    assert text.endswith("describe_layers(model='resnet18') lists its layers")
    with pytest.raises(UserError) as caught:
        cut(_network("resnet18"), "auto", aux_layers=["§"])
    assert str(caught.value) == (
        "resnet18 has no layer '§' that is a map of positions: 'layer4' is the last layer that can"
        " be used; describe_layers(model='resnet18') lists its layers"
    )


def test_a_module_that_gives_no_map_is_told_from_a_wrong_name() -> None:
    with pytest.raises(UserError) as caught:
        choose_layer(_network("resnet18"), "avgpool")
    assert str(caught.value) == (
        "what 'avgpool' of resnet18 gives is no map of positions: 'layer4' is the last layer that"
        " can be used; describe_layers(model='resnet18') lists all"
    )


NOT_NAMED = "'layer4' is the last layer that can be used"


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("resnet18", "fc", f"what 'fc' of resnet18 gives is no map of positions: {NOT_NAMED}"),
        ("resnet18", "avgpol", f"'avgpool', if that is meant, gives none, and {NOT_NAMED}"),
        ("resnet18", "head", NOT_NAMED),
        ("resnet18", "classifier", NOT_NAMED),
        ("resnet18", "maxpol", "did you mean 'maxpool'?"),
        ("resnet18", "layer5", "did you mean 'layer4' or 'layer3'?"),
        ("resnet18", "layer4.2", "did you mean 'layer4.1' or 'layer4.0'?"),
        ("resnet18", "Layer4", "did you mean 'layer4'"),
        ("mobilenet_v2", "features.30", "did you mean 'features.18' or 'features.17'?"),
        ("mobilenet_v2", "fc", "'features' is the last layer that can be used"),
        ("mobilenet_v2", "clasifier", "'classifier', if that is meant, gives none, and 'features'"),
        (
            "vit_b_32",
            "norm",
            "'encoder.layers.encoder_layer_10' is the last layer that can be used",
        ),
        (
            "vit_b_32",
            "encoder.layers.encoder_layer_12",
            "did you mean 'encoder.layers.encoder_layer_11' or 'encoder.layers.encoder_layer_10'?",
        ),
    ],
)
def test_wrong_names_are_met_with_what_helps(name: str, given: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_layer(_network(name), given)
    assert words in str(caught.value)
    assert f"describe_layers(model={name!r}) lists" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "resnet18",
            "layer4: the last map of positions; what follows it has no positions any more",
        ),
        (
            "vit_b_32",
            "encoder.layers.encoder_layer_10: the last one whose positions the head reads; after it"
            " only the class token is read",
        ),
        (
            "squeezenet1_1",
            "features: the last one before maps of class scores, which nothing with parameters"
            " follows",
        ),
    ],
)
def test_auto_gives_its_reason(name: str, why: str) -> None:
    assert why_auto(_network(name)) == why
    table = describe_layers(name, image_size=64)
    assert table.attrs["why"].startswith(f"{why}. On noise it has values ")
    transform = "parts apart." if table.loc[table.auto, "signed"].item() else "as they are."
    assert table.attrs["why"].endswith(transform)


def test_a_backbone_gives_its_reason() -> None:
    network = _custom(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    network = dataclasses.replace(network, classes=())
    assert why_auto(network).endswith("the last map of positions of a network without a head")


def test_images_too_small_for_a_map() -> None:
    network = _custom(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)), 8)
    with pytest.raises(UserError) as caught:
        choose_layer(network)
    assert str(caught.value) == (
        "custom has no layer of positions to cut at for images of 8 pixels:"
        " pass another model or a larger image_size"
    )


def test_images_that_a_network_does_not_take() -> None:
    with pytest.raises(UserError) as caught:
        list_layers(load_network("inception_v3", RANDOM, image_size=32))
    text = str(caught.value)
    assert text.startswith("inception_v3 does not take images of 32 × 32 pixels (")
    assert text.endswith("): pass another image_size")


class _Branching(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum() > 0 else -images


def test_a_network_that_cannot_be_traced() -> None:
    with pytest.raises(UserError) as caught:
        list_layers(_custom(_Branching()))
    assert str(caught.value).startswith(
        "the layers of custom cannot be found, since neither torch.fx nor torch.export can trace it"
    )


@pytest.mark.parametrize(
    ("name", "size", "layer", "stride", "offset", "n"),
    [
        ("resnet18", 224, "layer4", 32, 0, 7),
        ("resnet50", 224, "layer4", 32, 0, 7),
        ("mobilenet_v2", 224, "features", 32, 0, 7),
        ("squeezenet1_1", 224, "features", 16, 15, 13),
        ("vit_b_32", 224, "auto", 32, 15.5, 7),
        ("swin_t", 64, "auto", 32, 15.5, 2),
        ("swin_t", 64, "features.1", 4, 1.5, 16),
        ("convnext_tiny", 64, "features.5", 16, 7.5, 4),
    ],
)
def test_centres(name: str, size: int, layer: str, stride: float, offset: float, n: int) -> None:
    made = cut(_network(name, size), layer)
    expected = offset + stride * np.arange(n)
    for centres in made.centres:
        assert centres.dtype == np.float64
        np.testing.assert_allclose(centres, expected, rtol=0, atol=1e-12)
    assert made.stride == (stride, stride)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer2"),
        ("squeezenet1_1", "features.7"),
        ("densenet121", "features.transition1"),
        ("inception_v3", "Mixed_6a"),
        ("googlenet", "inception4a"),
        ("shufflenet_v2_x0_5", "stage3.0"),
        ("alexnet", "features.5"),
    ],
)
def test_centres_are_where_a_cell_gets_its_values_from(name: str, layer: str) -> None:
    """With uniform weights and no nonlinearity, a cell's gradient is symmetric about its centre."""
    network = load_network(name, RANDOM, image_size=256)
    made = cut(network, "auto", aux_layers=[layer])
    _make_uniform(made.body)
    images = torch.zeros(1, 3, 256, 256, requires_grad=True)
    values = made.body(images)[1]
    i, j = values.shape[2] // 2, values.shape[3] // 2 + 1
    (gradient,) = torch.autograd.grad(values[0, :, i, j].sum(), images)
    weight = gradient[0].sum(0).double()
    pixels = torch.arange(256, dtype=torch.float64)
    y = float((weight.sum(1) * pixels).sum() / weight.sum())
    x = float((weight.sum(0) * pixels).sum() / weight.sum())
    (centres,) = made.aux_centres.values()
    np.testing.assert_allclose((y, x), (centres[0][i], centres[1][j]), atol=1e-3)


def _make_uniform(body: fx.GraphModule) -> None:
    keep = ("kernel_size", "stride", "padding", "ceil_mode")
    for node in body.graph.nodes:
        if node.target in (functional.max_pool2d, torch.max_pool2d):
            node.target = functional.avg_pool2d
            node.kwargs = {key: node.kwargs[key] for key in keep if key in node.kwargs}
        elif node.target is functional.relu:
            node.target, node.kwargs = torch.clone, {}
    for path, part in list(body.named_modules()):
        if isinstance(part, nn.MaxPool2d):
            pool = nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode)
            body.set_submodule(path, pool)
        elif isinstance(part, nn.ReLU | nn.BatchNorm2d):
            body.set_submodule(path, nn.Identity())
        elif isinstance(part, nn.Conv2d):
            nn.init.constant_(part.weight, 1 / part.weight[0].numel())
    body.recompile()


class _Same(nn.Sequential):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("layer", "stride", "offset"),
    [
        (nn.Conv2d(3, 4, 3, padding="same"), 1, 0),
        (nn.Conv2d(3, 4, 3, padding="valid"), 1, 1),
        (nn.Conv2d(3, 4, 3, dilation=2), 1, 2),
        (nn.Conv2d(3, 4, 4, stride=2, padding=1), 2, 0.5),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(8)), 4, 1.5),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2)), 2, 0.5),
        (nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.PixelUnshuffle(1)), 2, 0.5),
    ],
)
def test_centres_of_single_layers(layer: nn.Module, stride: float, offset: float) -> None:
    made = cut(_custom(_Same(layer)), "0")
    for centres in made.centres:
        np.testing.assert_allclose(centres[:3], offset + stride * np.arange(3))


class _ChannelsLast(nn.Module):
    """Has as many channels as rows and columns, laid out with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.mix(self.patches(images).permute(0, 2, 3, 1))
        logits: torch.Tensor = self.head(rows.mean((1, 2)))
        return logits


def test_layout_of_a_cube() -> None:
    made = cut(_custom(_ChannelsLast()), "mix")
    torch.manual_seed(0)
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    images[..., :16, :] = 0  # the upper rows of cells are equal
    V = made.forward(images).V
    assert V.shape == (1, 8, 8, 8)
    assert torch.equal(V[0, 0], V[0, 3])
    assert not torch.equal(V[0, 0], V[0, 5])
