"""A mirrored margin: the same cells at the same places, which do not see the padding."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.models import cut, load_network
from pipeline.models.margin import STEPS, with_margin
from pipeline.models.network import Network
from pipeline.models.runtime import compile_cut
from pipeline.models.together import Together

SIZE = 96


@pytest.fixture(scope="module")
def sample() -> Network:
    return load_network("sample", image_size=SIZE)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def test_no_margin_is_the_network_as_it_was(sample: Network, images: torch.Tensor) -> None:
    assert with_margin(sample, "auto", 0) is sample
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (sample.mean, sample.std))
    plain = cut(sample, "auto")
    with torch.no_grad():
        expected = sample.module((images.float() / 255 - mean) / std)
    assert torch.equal(plain.forward(images).logits, expected)
    assert make_config({"margin": 0}).digest() == make_config({}).digest()
    assert make_config({"margin": 8}).digest() != make_config({}).digest()


@pytest.mark.parametrize(("layer", "margin"), [("edges", 8), ("parts", 8), ("parts", 24)])
def test_cells_are_those_of_a_larger_image_at_the_places_of_the_image(
    sample: Network, images: torch.Tensor, layer: str, margin: int
) -> None:
    plain, wide = cut(sample, layer), cut(with_margin(sample, layer, margin), layer)
    for ours, theirs in zip(wide.centres, plain.centres, strict=True):
        assert ours.tolist() == theirs.tolist()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (sample.mean, sample.std))
    kept: list[torch.Tensor] = []
    hook = sample.module.get_submodule(layer).register_forward_hook(
        lambda module, given, value: kept.append(value.clone())
    )
    with torch.no_grad():
        larger = functional.pad(images.float(), (margin,) * 4, mode="reflect")
        sample.module((larger / 255 - mean) / std)
    hook.remove()
    n = round(margin / plain.stride[0])
    expected = kept[0][:, :, n : n + plain.height, n : n + plain.width].permute(0, 2, 3, 1)
    found = wide.forward(images)
    torch.testing.assert_close(found.V, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.logits, plain.head(found.V))  # of the cells that are kept


class Padded(nn.Module):
    """Sees the zeros around an image."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.last = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = torch.relu(self.seen(images))
        answer: torch.Tensor = self.last(features.mean((2, 3)))
        return answer


def network_of(module: nn.Module, size: int = 32) -> Network:
    nothing = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Network("mine", module.eval(), size, *nothing, ("a", "b"), "", "")


@pytest.mark.parametrize("margin", [0, 16])
def test_a_square_stands_where_it_is(sample: Network, margin: int) -> None:
    wide = cut(with_margin(sample, "edges", margin), "edges")
    for row, column in ((20, 30), (70, 24), (48, 80)):
        images = torch.full((2, 3, SIZE, SIZE), 90, dtype=torch.uint8)
        images[1, :, row - 8 : row + 8, column - 8 : column + 8] = 250
        V = wide.forward(images).V
        change = (V[1] - V[0]).norm(dim=-1).double().numpy()
        found = [float(change.sum(1 - axis) @ wide.centres[axis] / change.sum()) for axis in (0, 1)]
        assert found == pytest.approx([row - 0.5, column - 0.5], abs=1.0)


def test_padding_is_not_seen() -> None:
    torch.manual_seed(0)
    network = network_of(Padded())
    blank = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    plain = cut(network, "seen").forward(blank).V
    assert not torch.allclose(plain[:, 0], plain[:, 1])
    V = cut(with_margin(network, "seen", 4), "seen").forward(blank).V
    torch.testing.assert_close(V, plain[:, 8:9, 8:9].expand(V.shape))


def test_auto_is_a_few_steps_of_the_layer(sample: Network) -> None:
    stride = round(cut(sample, "auto").stride[0])
    assert with_margin(sample, "auto", "auto").margin == STEPS * stride


def test_auxiliary_layers_have_their_own_cells(sample: Network, images: torch.Tensor) -> None:
    both = cut(with_margin(sample, "parts", 16), "parts", aux_layers=["edges"])
    alone = cut(with_margin(sample, "edges", 16), "edges")
    torch.testing.assert_close(both.forward(images).aux["edges"], alone.forward(images).V)


def test_several_layers_of_one_pass_are_as_alone(sample: Network, images: torch.Tensor) -> None:
    wide = with_margin(sample, "parts", 16)
    cuts = [cut(wide, each) for each in ("edges", "parts")]
    for found, each in zip(
        compile_cut(Together(cuts), precision="fp32").passes(images), cuts, strict=True
    ):
        alone = each.forward(images)
        assert torch.equal(found.V, alone.V)
        assert torch.equal(found.logits, alone.logits)


@pytest.mark.parametrize("precision", ["fp32-folded", "bf16"])
def test_faster_ways_have_the_margin_too(
    sample: Network, images: torch.Tensor, precision: str
) -> None:
    wide = cut(with_margin(sample, "parts", 16), "parts")
    fast = compile_cut(wide, precision=precision, compiled=False)(images)  # type: ignore[arg-type]
    exact = wide.forward(images)
    assert fast.V.shape == exact.V.shape
    error = (fast.V.float() - exact.V).norm() / exact.V.norm()
    assert float(error) < (0.05 if precision == "bf16" else 1e-4)
    assert fast.logits.argmax(1).tolist() == exact.logits.argmax(1).tolist()


def test_what_cannot_have_a_margin_is_refused_in_a_sentence(sample: Network) -> None:
    with pytest.raises(UserError, match="multiples of that, as 8 or 16"):
        with_margin(sample, "parts", 13)
    with pytest.raises(UserError, match=f"mirrored from images of {SIZE} pixels"):
        with_margin(sample, "parts", SIZE)
    with pytest.raises(UserError, match="sample-vit takes no larger images"):
        with_margin(load_network("sample-vit", image_size=SIZE), "auto", "auto")
    with pytest.raises(UserError, match="margin"):
        make_config({"margin": -8})
    with pytest.raises(UserError, match="margin"):
        make_config({"margin": "wide"})


class Tokens(nn.Module):
    """A transformer's stem without positions: it takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 2)
        self.mix = nn.Linear(6, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.mix(self.stem(images).flatten(2).transpose(1, 2))
        answer: torch.Tensor = self.last(torch.relu(tokens).mean(1))
        return answer


def test_tokens_are_refused() -> None:
    with pytest.raises(UserError, match="layer mix has tokens"):
        with_margin(network_of(Tokens()), "mix", 8)


def test_real_networks_keep_their_cells(assets: Path) -> None:
    images = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    network = load_network("squeezenet1_1", assets / "weights" / "squeezenet1_1.safetensors")
    plain, wide = cut(network, "auto"), cut(with_margin(network, "auto", 32), "auto")
    assert wide.centres[0].tolist() == plain.centres[0].tolist()
    a, b = plain.forward(images).V, wide.forward(images).V
    middle = math.floor(plain.height / 2)
    torch.testing.assert_close(a[:, middle, middle], b[:, middle, middle])  # out of padding's reach
    assert not torch.allclose(a[:, 0, 0], b[:, 0, 0])
