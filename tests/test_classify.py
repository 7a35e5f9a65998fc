"""Classification: splits that sum up, a null that holds its rate, fidelity, effects, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest

from pipeline.classify import (
    benjamini_hochberg,
    contributions,
    effects,
    evidence,
    fidelity,
    null_test,
    score_vectors,
)
from pipeline.models import Cut, cut, load_network
from pipeline.nmf import Transform
from pipeline.store import Bank
from pipeline.tables import label_rows
from pipeline.tables.concepts import newcombe

SIZE = 96
LAYERS = {"resnet18": "layer4", "mobilenet_v2": "features", "squeezenet1_1": "features"}


def make_cut(model: str, layer: str = "") -> Cut:
    network = load_network(model, Path("random"), image_size=SIZE)
    return cut(network, layer or LAYERS[model])


def make_bank(channels: int, k: int, kind: str = "none", seed: int = 0) -> Bank:
    rng = np.random.default_rng(seed)
    transform = Transform(kind)  # type: ignore[arg-type]
    W = rng.gamma(0.5, 1.0, (transform.n_channels_out(channels), k)).astype(np.float32)
    nothing = np.zeros(k)
    return Bank(
        layer="x",
        seed=0,
        transform=transform,
        W=W,
        context=W,
        thresholds=np.full(k, 0.5, np.float32),
        energies=nothing,
        stability=nothing,
        error=0.5,
        heldout_error=0.5,
        svd_error=0.4,
        k_is_stable=True,
    )


def images(n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("model", LAYERS)
def test_bias_contributions_and_residual_are_the_logit(model: str) -> None:
    layer = make_cut(model)
    forward = layer.forward(images())
    bank = make_bank(layer.channels, 5)
    H, _ = bank.encode(forward.V)
    found = contributions(layer, bank, forward.V, H, forward.logits)
    top = forward.logits.argmax(1)
    assert layer.linear is not None
    weight, bias = layer.linear
    rest = forward.V - bank.decode(H)
    if layer.head_kind == "pool_linear":
        nothing = bias[top]
        residual = (rest.mean(dim=(1, 2)) * weight[top]).sum(1)
    else:
        before = torch.einsum("nhwc,nc->nhw", forward.V, weight[top]) + bias[top][:, None, None]
        gates = (before > 0).float()
        nothing = (gates * bias[top][:, None, None]).mean(dim=(1, 2))
        residual = (gates * torch.einsum("nhwc,nc->nhw", rest, weight[top])).mean(dim=(1, 2))
    logit = forward.logits.gather(1, top[:, None])[:, 0]
    assert torch.allclose(nothing + found.sum(1) + residual, logit, atol=1e-4)


def test_any_other_head_is_ablated() -> None:
    layer = make_cut("resnet18", "layer3")
    forward = layer.forward(images(2))
    bank = make_bank(layer.channels, 3)
    H, _ = bank.encode(forward.V)
    found = contributions(layer, bank, forward.V, H, forward.logits)
    top = forward.logits.argmax(1)
    without = H.clone()
    without[..., 1] = 0
    whole, less = (layer.head(bank.decode(each)) for each in (H, without))
    expected = (whole - less).gather(1, top[:, None])[:, 0]
    assert torch.allclose(found[:, 1], expected, atol=1e-4)


@pytest.mark.parametrize("model", LAYERS)
def test_a_vector_scores_as_the_head_scores_it_everywhere(model: str) -> None:
    layer = make_cut(model)
    vectors = torch.rand(3, layer.channels)
    tiled = vectors[:, None, None, :].expand(-1, layer.height, layer.width, -1)
    assert torch.allclose(score_vectors(layer, vectors), layer.head(tiled), atol=1e-4)


def test_evidence_goes_through_the_linear_part_of_the_decoder() -> None:
    layer = make_cut("resnet18")
    bank = make_bank(layer.channels, 4, "split")
    W = torch.from_numpy(bank.W)
    positive, negative = W.chunk(2)
    assert layer.linear is not None
    expected = layer.linear[0] @ (positive - negative)
    assert torch.allclose(evidence(layer, bank.transform, W), expected, atol=1e-5)


def planted(n_classes: int = 40, channels: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a head (classes, channels) and real positions that follow none of its classes."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(n_classes, channels, generator=generator)
    basis = torch.rand(12, channels, generator=generator)
    codes = torch.rand(4000, 12, generator=generator) ** 3
    return weight, (codes @ basis + 0.1 * torch.rand(4000, channels, generator=generator)).relu()


def test_positions_held_out_from_the_null_pass_at_the_nominal_rate() -> None:
    weight, positions = planted()
    found = null_test(lambda x: x @ weight.T, positions[:400], positions[400:])
    assert abs((found.p <= 0.05).mean() - 0.05) < 0.03
    assert kstest(found.p, "uniform").pvalue > 0.001
    assert found.significant.mean() < 0.05


def test_planted_class_vectors_pass() -> None:
    weight, positions = planted()
    vectors = weight[:10].relu() + 0.05 * positions[:10]
    found = null_test(lambda x: x @ weight.T, vectors, positions[400:])
    assert found.significant.all()
    assert (found.z.argmax(1) == np.arange(10)).all()
    assert found.p.min() >= 1 / (1 + 3600)


def test_permuted_channels_are_not_the_null_used() -> None:
    # Under permuted channels any real mean of positions looks special; here it must not.
    weight, positions = planted()
    means = torch.stack([positions[i : i + 40].mean(0) for i in range(0, 400, 40)])
    found = null_test(lambda x: x @ weight.T, means, positions[400:])
    assert not found.significant.any()


def test_a_zero_vector_is_never_significant() -> None:
    weight, positions = planted()
    found = null_test(lambda x: x @ weight.T, torch.zeros(1, 64), positions)
    assert found.p.tolist() == [1.0]
    assert not found.significant.any()


def test_unknown_p_values_count_for_nothing() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.5])
    known = benjamini_hochberg(p[[0, 2, 3]])
    assert benjamini_hochberg(p) == pytest.approx([known[0], np.nan, *known[1:]], nan_ok=True)
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()


def test_fidelity_of_the_activations_themselves_is_perfect() -> None:
    layer = make_cut("squeezenet1_1")
    V = layer.forward(images(6)).V
    mean = V.mean(dim=(0, 1, 2)).expand(V.shape)
    classes = layer.head(V).argmax(1).numpy()
    rows = pd.DataFrame(fidelity(layer.head, V, {"nmf": V.clone(), "mean": mean}, classes))
    whole = rows[rows.class_id.isna()].set_index("metric")
    assert whole.value["agreement"] == 1
    assert whole.value["kl"] == pytest.approx(0, abs=1e-9)
    assert whole.value["kl_mean"] == whole.baseline["kl"] > 0
    assert whole.value["accuracy"] == whole.value["accuracy_network"] == 1
    assert (whole.n == 6).all()


def test_effects_agree_with_a_head_that_is_known() -> None:
    bank = make_bank(2, 2)
    bank = Bank(**{**vars(bank), "W": np.eye(2, dtype=np.float32)})

    def head(V: torch.Tensor) -> torch.Tensor:
        return V.mean(dim=(1, 2)) * 4

    H = torch.zeros(3, 2, 2, 2)
    H[..., 0] = 1.0
    H[0, ..., 1] = 0.5
    present = np.array([[True, True], [True, False], [True, False]])
    found = effects(head, bank, H, present)
    assert found.importance == pytest.approx([4.0, 0.0])

    def softmax(a: float, b: float) -> float:
        return float(np.exp(a) / (np.exp(a) + np.exp(b)))

    drops = [softmax(4, 2) - softmax(0, 2)] + 2 * [softmax(4, 0) - softmax(0, 0)]
    assert found.deletion[0] == pytest.approx(np.mean(drops))
    assert found.deletion[1] == pytest.approx(softmax(4, 2) - softmax(4, 0))
    assert found.insertion[0] == pytest.approx(softmax(4, 0) - 0.5)


def test_labels_show_where_the_network_fails() -> None:
    labels = pd.Series(["cat"] * 40 + ["dog"] * 60)
    holds = np.zeros((100, 2), bool)
    holds[:20, 0] = True
    holds[:, 1] = True
    wrong = np.zeros(100)
    wrong[:18] = 1
    found = label_rows(holds, labels, wrong).set_index(["concept_id", "label"])
    cat = found.loc[(0, "cat")]
    assert (cat.n, cat.precision, cat.recall, cat.lift) == (20, 1.0, 0.5, 2.5)
    assert (cat.error_rate_with, cat.error_rate_without) == (0.9, 0.0)
    assert 0.6 < cat.ci_low < 0.9 < cat.ci_high
    assert cat.q_value < 1e-6
    assert (0, "dog") not in found.index
    everywhere = found.loc[(1, "cat")]
    assert everywhere.error_rate_with == 18 / 40
    assert np.isnan(everywhere.error_rate_without)
    assert np.isnan(everywhere.q_value)


def test_labels_without_classes_have_no_error_rates() -> None:
    found = label_rows(np.ones((4, 1), bool), pd.Series(["a", "a", None, "b"]), np.full(4, np.nan))
    assert found["precision"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found["error_rate_with"].isna().all()


def test_newcombe_gives_the_published_interval() -> None:
    # Newcombe (1998), table II, 56/70 against 48/80: 0.0524 to 0.3339.
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
