"""Classification: answers to concepts, splits that sum up, a null that holds its rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest

from pipeline.classify import (
    Answers,
    Null,
    benjamini_hochberg,
    contributions,
    score_vectors,
    split,
    unit_logits,
)
from pipeline.classify.answers import GRADIENTS
from pipeline.classify.null import LEAST, N_NULL, among_others, nearest
from pipeline.classify.splits import N_ABLATED, without
from pipeline.models import cut, load_network
from pipeline.models.link import Link
from tests.classify.fixture import LAYERS, make_bank, make_cut, seen


@pytest.mark.parametrize("model", LAYERS)
@pytest.mark.parametrize("kind", ["none", "split", "shift"])
def test_bias_contributions_and_residual_are_the_logit(model: str, kind: str) -> None:
    layer = make_cut(model)
    V, logits = seen(layer)
    bank = make_bank(layer.channels, 5, kind)
    H, _ = bank.encode(V)
    for classes in (logits.argmax(1), torch.tensor([0, 3, 999, 7])):
        found = split(layer, bank, V, H, classes)
        logit = logits.gather(1, classes[:, None])[:, 0]
        assert found.is_exact
        assert torch.allclose(found.logit, logit, atol=1e-4)
        assert found.contributions.abs().max() > 1e-3
    alone = contributions(layer, bank, V, H, logits)
    assert torch.equal(alone, split(layer, bank, V, H, logits.argmax(1)).contributions)


@pytest.mark.parametrize("model", ["mobilenet_v2", "squeezenet1_1"])
def test_real_networks_split_exactly(model: str, assets: Path) -> None:
    weights = assets / "weights" / f"{model}.safetensors"
    layer = cut(load_network(model, weights), "features")
    picture = Image.open(assets / "images" / "tutorial" / "puppies.jpg").convert("RGB")
    pixels = torch.from_numpy(np.array(picture.resize((224, 224)))).permute(2, 0, 1)[None]
    forward = layer.forward(pixels)
    bank = make_bank(layer.channels, 8)
    H, _ = bank.encode(forward.V)
    for class_id in (forward.logits.argmax(1), torch.tensor([500])):
        found = split(layer, bank, forward.V, H, class_id)
        assert abs(float(found.logit - forward.logits[0, class_id])) < 1e-4


def test_any_other_head_is_ablated() -> None:
    layer = make_cut("resnet18", "layer3")
    V, logits = seen(layer, 2)
    bank = make_bank(layer.channels, 3)
    H, _ = bank.encode(V)
    top = logits.argmax(1)
    found = split(layer, bank, V, H, top)
    whole, less = (layer.head(bank.decode(each)) for each in (H, without(H, 1)))
    expected = (whole - less).gather(1, top[:, None])[:, 0]
    assert torch.allclose(found.contributions[:, 1], expected, atol=1e-4)
    assert not found.is_exact
    assert torch.allclose(found.logit, logits.max(1).values, atol=1e-4)


@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_the_gradient_of_a_linear_head_is_the_split(layer: str) -> None:
    cut_at = make_cut("resnet18", layer)
    V, logits = seen(cut_at, 2)
    bank = make_bank(cut_at.channels, 3)
    H, _ = bank.encode(V)
    gradient = Answers(cut_at, bank).gradient(H, logits.argmax(1))
    assert gradient is not None
    found = (gradient * H).sum(dim=(1, 2))
    exact = contributions(cut_at, bank, V, H, logits)
    assert torch.allclose(found, exact, atol=1e-4) == (layer == "layer4")


def test_of_many_concepts_the_most_promising_are_ablated() -> None:
    layer = make_cut("resnet18", "layer3")
    V, logits = seen(layer, 2)
    bank = make_bank(layer.channels, 2 * N_ABLATED)
    H, _ = bank.encode(V)
    top = logits.argmax(1)
    gradient = Answers(layer, bank).gradient(H, top)
    assert gradient is not None
    promised = (gradient * H).sum(dim=(1, 2))
    order = promised.abs().argsort(dim=1, descending=True)
    first, others = order[:, :N_ABLATED], order[:, N_ABLATED:]
    found = contributions(layer, bank, V, H, logits)
    ablated = split(layer, bank, V, H, top).contributions
    assert torch.allclose(found.gather(1, first), ablated.gather(1, first), atol=1e-5)
    assert torch.allclose(found.gather(1, others), promised.gather(1, others), atol=1e-5)
    assert not torch.allclose(promised.gather(1, first), ablated.gather(1, first), atol=1e-4)


def test_a_head_without_gradients_is_ablated_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_cut("resnet18", "layer3")
    V, logits = seen(layer, 2)
    bank = make_bank(layer.channels, 2 * N_ABLATED)
    H, _ = bank.encode(V)
    expected = split(layer, bank, V, H, logits.argmax(1)).contributions
    head = layer.head
    monkeypatch.setattr(layer, "head", lambda *given: head(*given).detach())
    assert torch.allclose(contributions(layer, bank, V, H, logits), expected, atol=1e-5)


def test_a_head_that_writes_over_its_values_is_ablated_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = make_cut("resnet18", "layer3")
    V, _ = seen(layer, 2)
    bank = make_bank(layer.channels, 2 * N_ABLATED)
    H, _ = bank.encode(V)
    head = layer.head
    # The way back of a sigmoid needs its outcome, which is gone.
    monkeypatch.setattr(layer, "head", lambda *given: head(*given).sigmoid().add_(1))
    logits = layer.head(V, None)
    assert Answers(layer, bank).gradient(H, logits.argmax(1)) is None
    expected = split(layer, bank, V, H, logits.argmax(1)).contributions
    assert torch.allclose(contributions(layer, bank, V, H, logits), expected, atol=1e-5)


def test_few_images_have_gradients_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes keep for the way back is gigabytes for 32 large images."""
    layer = make_cut("resnet18", "layer3")
    V, logits = seen(layer, 2 * GRADIENTS + 1)
    bank = make_bank(layer.channels, 3)
    H, _ = bank.encode(V)
    head, sizes = layer.head, list[int]()

    def counted(V: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
        sizes.append(len(V))
        return head(V, prefix)

    monkeypatch.setattr(layer, "head", counted)
    found = Answers(layer, bank).gradient(H, logits.argmax(1))
    assert sizes == [GRADIENTS, GRADIENTS, 1]
    assert found is not None
    alone = Answers(layer, bank).gradient(H[-1:], logits[-1:].argmax(1))
    assert alone is not None
    assert torch.allclose(found[-1:], alone, atol=1e-5)


@pytest.mark.parametrize("model", ["vit_b_32", "convnext_tiny", "swin_t"])
def test_signed_layers_and_tokens_are_ablated(model: str) -> None:
    network = load_network(model, Path("random"), image_size=64)
    layer = cut(network, "auto")
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    forward = layer.forward(pixels)
    bank = make_bank(layer.channels, 2, "split")
    H, _ = bank.encode(forward.V)
    top = forward.logits.argmax(1)
    found = contributions(layer, bank, forward.V, H, forward.logits, forward.prefix)
    answers = Answers(layer, bank, forward.prefix)
    whole, less = (layer.head(bank.decode(each), forward.prefix) for each in (H, without(H, 0)))
    expected = (whole - less).gather(1, top[:, None])[:, 0]
    assert torch.allclose(found[:, 0], expected, atol=1e-4)
    assert torch.allclose(answers.of(torch.tensor([1])).logits(H[1:]), whole[1:], atol=1e-4)


@pytest.mark.parametrize(("model", "layer"), [*LAYERS.items(), ("resnet18", "layer3")])
@pytest.mark.parametrize("kind", ["none", "shift"])
def test_answers_to_strengths_are_those_of_the_head(model: str, layer: str, kind: str) -> None:
    made = make_cut(model, layer)
    bank = make_bank(made.channels, 4, kind)
    H = torch.rand(5, made.height, made.width, 4) * (torch.rand(5, 1, 1, 4) > 0.4)
    answers = Answers(made, bank)
    expected = made.head(bank.decode(H))
    scale = float(expected.abs().max())
    assert torch.allclose(answers.logits(H), expected, atol=1e-5 * scale)
    classes = torch.tensor([1, 0, 5, 900, 3])
    chosen = expected.gather(1, classes[:, None])[:, 0]
    assert torch.allclose(answers.logit(H, classes), chosen, atol=1e-5 * scale)


def test_concepts_are_removed_and_the_rest_stays() -> None:
    layer = make_cut("resnet18")
    V, _ = seen(layer)
    bank = make_bank(layer.channels, 5)
    H, _ = bank.encode(V)
    less = Answers(layer, bank).remove(V, H, [1, 3])
    part = bank.decode(H) - bank.decode(without(without(H, 1), 3))
    assert torch.allclose(V - less, part, atol=1e-5)


@pytest.mark.parametrize("model", LAYERS)
def test_a_vector_scores_as_the_head_scores_it_everywhere(model: str) -> None:
    layer = make_cut(model)
    vectors = torch.rand(3, layer.channels)
    tiled = vectors[:, None, None, :].expand(-1, layer.height, layer.width, -1)
    assert torch.allclose(score_vectors(layer, vectors), layer.head(tiled), atol=1e-4)


def test_unit_logits_go_through_the_linear_part_of_the_decoder() -> None:
    layer = make_cut("resnet18")
    bank = make_bank(layer.channels, 4, "split")
    W = torch.from_numpy(bank.W)
    positive, negative = W.chunk(2)
    assert layer.linear is not None
    expected = layer.linear[0] @ (positive - negative)
    assert torch.allclose(unit_logits(layer.linear[0], bank.transform, W), expected, atol=1e-5)


def planted(
    n_classes: int = 40, channels: int = 64, n: int = 4_000
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a head (classes, channels) and real positions that follow none of its classes."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(n_classes, channels, generator=generator)
    basis = torch.rand(12, channels, generator=generator)
    codes = torch.rand(n, 12, generator=generator) ** 3
    return weight, (codes @ basis + 0.1 * torch.rand(n, channels, generator=generator)).relu()


def null_of(weight: torch.Tensor, positions: torch.Tensor, link: Link = "softmax") -> Null:
    """The null of positions, each of an image of its own."""
    return Null.of(lambda x: x @ weight.T, positions, torch.arange(len(positions)), link)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_positions_held_out_from_the_null_pass_at_the_nominal_rate(link: Link) -> None:
    weight, positions = planted(n=41_000)
    null = null_of(weight, positions[1000:], link)
    found = null.test(positions[:1000])
    assert abs((found.p <= 0.05).mean() - 0.05) < 0.02
    assert kstest(found.p, "uniform").pvalue > 0.001
    assert found.significant.mean() < 0.05


def test_the_head_is_asked_once_of_each_position_that_is_compared() -> None:
    weight, positions = planted(n=12_000)
    asked: list[int] = []

    def score(vectors: torch.Tensor) -> torch.Tensor:
        asked.append(len(vectors))
        return vectors @ weight.T

    null = Null.of(score, positions, torch.arange(len(positions)))
    tested = (
        positions[:3] / positions[:3].norm(dim=1, keepdim=True) * positions.norm(dim=1).median()
    )
    first = null.test(tested)
    assert asked == [3, N_NULL], "three vectors of one norm have the same null"
    again = null.test(tested)
    assert asked == [3, N_NULL, 3]
    assert (first.p == again.p).all()
    rows = positions.norm(dim=1).sort(stable=True).indices[null.asked]
    null_logits = positions[rows] @ weight.T
    expected = (tested @ weight.T - null_logits.mean(0)) / null_logits.std(0)
    np.testing.assert_allclose(first.z, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_a_class_that_the_network_says_no_to_names_nothing() -> None:
    """Of independent classes: a logit of −9 is far above −14, and as much of a no."""
    noise = torch.randn(3_000, 5, generator=torch.Generator().manual_seed(0)) / 10 - 14
    noise[::50, 1] = 3.0  # yes to one class, on a few
    image = torch.arange(len(noise))
    no, yes = noise[1:2].clone(), noise[1:2].clone()
    no[0, 0], yes[0, 0] = -9.0, 2.0
    found = {
        link: Null.of(lambda x: x, noise, image, link).test(torch.cat([no, yes])) for link in LEAST
    }
    assert found["softmax"].significant.tolist() == [True, True]
    assert found["sigmoid"].significant.tolist() == [False, True]
    assert found["sigmoid"].z[1].argmax() == 0


@pytest.mark.slow
def test_the_rate_holds_where_every_image_shows_another_class() -> None:
    """Half of the images' positions are new to the null, each image has a class of its own."""
    weight, positions = planted(n_classes=200, n=4_000)
    image = torch.arange(len(positions)) // 40
    own = weight[image].relu()
    share = torch.rand(len(positions), 1, generator=torch.Generator().manual_seed(1))
    positions = positions + own * share * positions.norm(dim=1).median() / own.norm(dim=1)[:, None]
    known = image % 2 == 0
    null = Null.of(lambda x: x @ weight.T, positions[known], image[known])
    rate = (null.test(positions[~known]).p <= 0.05).mean()
    together = Null.of(lambda x: x @ weight.T, positions[known], torch.arange(int(known.sum())))
    stretched = (together.test(positions[~known]).p <= 0.05).mean()
    print(f"{rate:.3f} of held-out positions pass, {stretched:.3f} where images judge themselves")
    assert rate < 0.07 < stretched


def test_rows_are_standardised_by_those_of_other_images() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, image = 100 + torch.randn(30, 4, generator=rng), torch.arange(30) // 7
    found = among_others(logits, image)
    for row in range(30):
        others = logits[image != image[row]]
        expected = (logits[row] - others.mean(0)) / others.std(0)
        assert torch.allclose(found[row], expected, atol=1e-4)


def test_one_image_is_no_null() -> None:
    weight, positions = planted(n=400)
    null = Null.of(lambda x: x @ weight.T, positions, torch.zeros(400, dtype=torch.int64))
    assert null.test(positions[:2]).p.tolist() == [1, 1]


def test_planted_class_vectors_pass() -> None:
    weight, positions = planted()
    vectors = weight[:10].relu() + 0.05 * positions[:10]
    vectors *= positions.norm(dim=1).median() / vectors.norm(dim=1, keepdim=True)
    found = null_of(weight, positions[400:]).test(vectors)
    assert found.significant.all()
    assert (found.z.argmax(1) == np.arange(10)).all()
    assert found.p.min() >= 1 / (1 + 2000)


def test_permuted_channels_are_not_the_null_used() -> None:
    # Under permuted channels any real mean of positions looks special; here it must not.
    weight, positions = planted()
    means = torch.stack([positions[i : i + 40].mean(0) for i in range(0, 400, 40)])
    found = null_of(weight, positions[400:]).test(means)
    assert not found.significant.any()


def test_a_zero_vector_is_never_significant() -> None:
    weight, positions = planted()
    found = null_of(weight, positions).test(torch.zeros(1, 64))
    assert found.p.tolist() == [1.0]
    assert not found.significant.any()


def test_a_concept_is_not_measured_against_its_own_positions() -> None:
    # Half of the positions hold a class; its mean is no more telling than they are themselves.
    weight, positions = planted()
    own = torch.arange(len(positions)) % 2 == 0
    pattern = weight[3].relu() * positions.norm(dim=1).median() / weight[3].norm()
    mixed = torch.where(own[:, None], 0.4 * positions + pattern, positions)
    concept = mixed[own].mean(0, keepdim=True)
    null = null_of(weight, mixed)
    assert null.test(concept).p[0] > 0.1
    assert null.test(concept, own[:, None]).p[0] < 0.01


def test_a_concept_that_is_everywhere_has_nothing_to_be_compared_with() -> None:
    weight, positions = planted()
    null = null_of(weight, positions)
    found = null.test(positions[:2], torch.ones(len(positions), 2, dtype=torch.bool))
    assert found.p.tolist() == [1, 1]
    assert not found.significant.any()
    assert np.isfinite(found.z).all()


def test_the_null_has_the_nearest_norms_and_as_many_longer_as_shorter() -> None:
    norms = torch.arange(10_000) / 100
    inside = norms[nearest(norms, 50.0)]
    assert (len(inside), float(inside.min())) == (2000, 40.0)
    assert float(inside.max()) == pytest.approx(59.99)
    near_the_end = norms[nearest(norms, 93.0)]
    assert (len(near_the_end), float(near_the_end.min())) == (1400, 86.0)
    beyond = norms[nearest(norms, 1000.0)]
    assert len(beyond) == 1000
    assert float(beyond.max()) == pytest.approx(99.99)
    assert len(norms[:300][nearest(norms[:300], 1.0)]) == 300


def test_unknown_p_values_count_for_nothing() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.5])
    known = benjamini_hochberg(p[[0, 2, 3]])
    assert benjamini_hochberg(p) == pytest.approx([known[0], np.nan, *known[1:]], nan_ok=True)
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
