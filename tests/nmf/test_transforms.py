"""Transforms of signed activations: there, back, and which one is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.nmf import Transform, choose_transform, why_transform


@pytest.fixture
def signed() -> Tensor:
    """(4, 3, 5) activations of both signs."""
    return torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))


def test_split_and_shift_come_back_whole(signed: Tensor) -> None:
    split = Transform("split")
    assert split.forward(signed).shape == (4, 3, split.n_channels_out(5)) == (4, 3, 10)
    assert float(split.forward(signed).min()) >= 0
    assert torch.equal(split.decode(split.forward(signed)), signed)
    with pytest.warns(UserWarning, match="non-zero"):
        shift = choose_transform("shift", signed.reshape(-1, 5).amin(0))
    assert float(shift.forward(signed).min()) >= 0
    assert torch.allclose(shift.decode(shift.forward(signed)), signed, atol=1e-6)


def test_shift_keeps_later_values_below_its_minimum() -> None:
    shift = Transform("shift", torch.tensor([-1.0, 0.0]))
    later = torch.tensor([[-3.0, -0.5]])
    assert torch.equal(shift.forward(later), torch.tensor([[-2.0, -0.5]]))
    assert torch.equal(shift.decode(shift.forward(later)), later)
    assert torch.equal(shift.linear(later), later)


def test_relu_keeps_the_positive_part_and_none_everything(signed: Tensor) -> None:
    assert torch.equal(Transform("relu").forward(signed), signed.clamp(min=0))
    positive = signed.abs()
    for kind in ("none", "relu"):
        transform = Transform(kind)
        assert torch.equal(transform.forward(positive), positive)
        assert torch.equal(transform.decode(positive), positive)
        assert transform.n_channels_out(5) == 5


def test_decoders_are_affine_with_linear_part(signed: Tensor) -> None:
    for transform, channels in [
        (Transform("split"), 10),
        (Transform("shift", torch.arange(5.0)), 5),
        (Transform("relu"), 5),
    ]:
        a, b = torch.rand(2, channels)
        assert torch.allclose(
            transform.decode(a) - transform.decode(b), transform.linear(a - b), atol=1e-6
        )


def test_auto_splits_only_what_is_negative(signed: Tensor) -> None:
    assert choose_transform("auto", signed).kind == "split"
    assert choose_transform("auto", 0.0).kind == "none"
    assert choose_transform("auto", -1e-3).kind == "split"


def test_none_refuses_negative_activations(signed: Tensor) -> None:
    with pytest.raises(UserError, match=r"negative in places \(minimum -\d.*'auto' or 'split'"):
        Transform("none").forward(signed)
    with pytest.raises(UserError, match=r"minimum -0\.5"):
        choose_transform("none", -0.5)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean 'split'"):
        choose_transform("splitt", 0.0)
    with pytest.raises(UserError, match="unknown transform 'sqrt'"):
        Transform("sqrt")
    with pytest.raises(ValueError, match="offset"):
        Transform("none", torch.zeros(3))


def test_comparisons_only_transforms_warn() -> None:
    with pytest.warns(UserWarning, match="drops the negative part"):
        assert choose_transform("relu", -1.0).kind == "relu"


def test_auto_gives_its_reason() -> None:
    V = torch.ones(100, 4)
    assert why_transform("none", V) == "no activation of the layer is negative"
    V[:31] = -1
    assert why_transform("split", V) == (
        "31% of the layer's activations are negative, so that positive and negative parts are kept"
        " apart"
    )
    V[1:31] = 0
    V[0, 1:] = 0
    assert why_transform("split", V).startswith("less than 1% of")
