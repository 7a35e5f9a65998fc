"""Fidelity, effects, curves and importance, against heads whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.classify import (
    Answers,
    curves,
    effects,
    fidelity,
    interval,
    rank_agreement,
    sobol_total,
)
from pipeline.models.link import Link
from tests.classify.fixture import make_bank, make_cut, seen


@dataclass(frozen=True)
class Linear:
    """A head of pool and linear without a network: what it answers can be worked out by hand."""

    linear: tuple[torch.Tensor, torch.Tensor]
    head_kind: str = "pool_linear"
    link: Link = "softmax"

    def check_has_classes(self) -> None:
        """Pass: it has."""


def known(
    unit: torch.Tensor, nothing: torch.Tensor | None = None, link: Link = "softmax"
) -> Answers:
    """Return answers in which concept j adds unit_cj to class c, unit (classes, k)."""
    n_classes, k = unit.shape
    bias = torch.zeros(n_classes) if nothing is None else nothing
    bank = replace(make_bank(k, k), W=np.eye(k, dtype=np.float32))
    return Answers(Linear((unit, bias), link=link), bank)  # type: ignore[arg-type]


def test_fidelity_of_the_activations_themselves_is_perfect() -> None:
    layer = make_cut("squeezenet1_1")
    V, logits = seen(layer, 6)
    mean = V.mean(dim=(0, 1, 2)).expand(V.shape)
    classes = logits.argmax(1, keepdim=True).numpy()
    answers = {"nmf": layer.head(V.clone()), "mean": layer.head(mean)}
    rows = pd.DataFrame(fidelity(logits, answers, classes))
    whole = rows[rows.class_id.isna()].set_index("metric")
    assert whole.value["agreement"] == 1
    assert whole.value["kl"] == pytest.approx(0, abs=1e-9)
    assert whole.value["kl_mean"] == whole.baseline["kl"] > 0
    assert whole.value["accuracy"] == whole.value["accuracy_network"] == 1
    assert (whole.n == 6).all()


def test_effects_agree_with_a_head_that_is_known() -> None:
    answers = known(4 * torch.eye(2))
    H = torch.zeros(3, 2, 2, 2)
    H[..., 0] = 1.0
    H[0, ..., 1] = 0.5
    present = np.array([[True, True], [True, False], [True, False]])
    found = effects(answers, H, present)
    assert found.importance == pytest.approx([4.0, 0.0])

    def softmax(a: float, b: float) -> float:
        return float(np.exp(a) / (np.exp(a) + np.exp(b)))

    drops = [softmax(4, 2) - softmax(0, 2)] + 2 * [softmax(4, 0) - softmax(0, 0)]
    assert found.deletion[0] == pytest.approx(np.mean(drops))
    assert found.deletion[1] == pytest.approx(softmax(4, 2) - softmax(4, 0))
    assert found.insertion[0] == pytest.approx(softmax(4, 0) - 0.5)


def test_effects_of_independent_classes_are_of_each_ones_sigmoid() -> None:
    unit = torch.tensor([[4.0, 0.0], [3.0, -1.0]])
    answers = known(unit, torch.tensor([-2.0, 1.0]), "sigmoid")
    H = torch.ones(1, 2, 2, 2)  # logits 2 and 3: the second class is on top
    found = effects(answers, H, np.ones((1, 2), dtype=bool))

    def sigmoid(z: float) -> float:
        return float(1 / (1 + np.exp(-z)))

    assert found.importance == pytest.approx([3.0, -1.0])
    drops = [sigmoid(3) - sigmoid(0), sigmoid(3) - sigmoid(4)]
    assert found.deletion == pytest.approx(drops, abs=1e-6)
    rises = [sigmoid(4) - sigmoid(1), sigmoid(0) - sigmoid(1)]
    assert found.insertion == pytest.approx(rises, abs=1e-6)
    curve = curves(answers, H, torch.tensor([1]), torch.tensor([[3.0, -1.0]]))
    assert curve.insertion[0] == pytest.approx([sigmoid(1), sigmoid(4), sigmoid(3)])
    assert curve.deletion[0] == pytest.approx([sigmoid(1), sigmoid(0), sigmoid(3)])


def test_fidelity_of_independent_classes_counts_single_decisions() -> None:
    truth = torch.tensor([[2.0, -1.0, -3.0], [1.0, 1.0, -2.0]])
    answer = torch.tensor([[1.0, 1.0, -3.0], [1.0, -1.0, -2.0]])
    rows = pd.DataFrame(
        fidelity(truth, {"nmf": answer, "mean": -truth}, by_class=False, link="sigmoid")
    ).set_index("metric")
    assert rows.value["agreement"] == pytest.approx(4 / 6)
    assert rows.value["agreement_mean"] == 0
    assert rows.value["agreement_blind"] == 0.5
    p, q = (1 / (1 + np.exp(-each.double().numpy())) for each in (truth, answer))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert rows.value["kl"] == pytest.approx(kl.mean())
    one_of = pd.DataFrame(fidelity(truth, {"nmf": answer, "mean": -truth}, by_class=False))
    assert "agreement_blind" not in set(one_of.metric)


def test_curves_start_and_end_where_they_must_and_the_order_tells() -> None:
    unit = torch.zeros(3, 6)
    unit[0] = torch.tensor([4.0, 2.0, 1.0, 0.0, 0.0, -1.0])
    answers = known(unit)
    H = torch.ones(5, 2, 2, 6)
    top = torch.zeros(5, dtype=torch.long)
    found = curves(answers, H, top, unit[:1].expand(5, -1))
    assert found.levels.tolist() == pytest.approx([0, 1 / 6, 2 / 6, 0.5, 4 / 6, 5 / 6, 1])
    whole, nothing = (float(np.exp(x) / (np.exp(x) + 2)) for x in (6, 0))
    for curve in (found.deletion, found.insertion, found.random):
        assert curve[:, 0] == pytest.approx(nothing)
        assert curve[:, -1] == pytest.approx(whole)
    assert found.insertion[:, 1] == pytest.approx(float(np.exp(4) / (np.exp(4) + 2)))
    assert found.deletion[:, -2] == pytest.approx(float(np.exp(2) / (np.exp(2) + 2)))
    assert (found.gain("deletion") > 0).all()
    assert (found.gain("insertion") > 0).all()


def test_orders_that_tell_nothing_gain_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    unit = torch.randn(4, 12, generator=generator)
    H = torch.rand(400, 1, 1, 12, generator=generator)
    answers = known(unit)
    top = answers.logits(H).argmax(1)
    found = curves(answers, H, top, torch.rand(400, 12, generator=generator))
    for name in ("deletion", "insertion"):
        gain = found.gain(name)
        assert abs(gain.mean()) < 4 * gain.std() / len(gain) ** 0.5


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(200):
        mean, low, high = interval(rng.exponential(size=80))
        assert low < mean < high
        inside.append(low <= 1 <= high)
    assert 0.88 < np.mean(inside) < 0.985
    values = rng.normal(size=(40, 3))
    together = np.array(interval(values))
    assert together.shape == (3, 3)
    assert together[:, 1] == pytest.approx(np.array(interval(values[:, 1])))


def test_total_index_of_an_additive_logit_is_its_share_of_the_variance() -> None:
    unit = torch.tensor([[3.0, -2.0, 1.0, 0.0]])
    H = torch.rand(3, 2, 2, 4) + 0.5
    found = sobol_total(known(unit), H, torch.zeros(3, dtype=torch.long), n_design=256)
    parts = (H.mean(dim=(1, 2)) * unit).numpy() ** 2
    assert found == pytest.approx(parts / parts.sum(1, keepdims=True), abs=0.05)
    assert found[:, 3] == pytest.approx(0)
    again = sobol_total(known(unit), H, torch.zeros(3, dtype=torch.long), n_design=256)
    assert np.array_equal(found, again)


def test_total_index_of_a_constant_logit_is_nothing() -> None:
    answers = known(torch.zeros(2, 3), torch.tensor([5.0, 1.0]))
    found = sobol_total(answers, torch.rand(2, 2, 2, 3), torch.zeros(2, dtype=torch.long))
    assert (found == 0).all()


def test_total_index_runs_through_any_head() -> None:
    layer = make_cut("resnet18", "layer3")
    V, _ = seen(layer, 1)
    bank = make_bank(layer.channels, 3)
    H, _ = bank.encode(V)
    H[..., 2] = 0
    found = sobol_total(Answers(layer, bank), H, torch.tensor([4]), n_design=8)
    assert found.shape == (1, 3)
    assert found[0, 2] == pytest.approx(0, abs=1e-6)
    assert found[0, :2].sum() > 0.5


def test_ranks_agree_as_far_as_they_do() -> None:
    a = np.array([0.1, 0.5, 0.9, 0.2])
    assert rank_agreement(a, a**3) == pytest.approx(1)
    assert rank_agreement(a, -a) == pytest.approx(-1)
    assert np.isnan(rank_agreement(a, np.ones(4)))


def test_a_convolutional_head_answers_in_parts_as_a_whole() -> None:
    layer = make_cut("squeezenet1_1")
    answers = Answers(layer, make_bank(512, 3))
    H = torch.rand(50, 5, 5, 3, generator=torch.Generator().manual_seed(0))  # 40 images a part
    whole = answers.head(answers.bank.decode(H))
    assert torch.allclose(answers.logits(H), whole, atol=1e-4)
    assert answers.logits(H[:0]).shape == (0, whole.shape[1])
