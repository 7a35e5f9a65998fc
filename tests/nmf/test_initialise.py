"""First concepts: unit vectors, of positions that differ, whatever the data."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline import nmf
from pipeline.nmf.initialise import INITS, initialise_each


def data(n: int, n_channels: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(n, n_channels, generator=draw) ** 4


@pytest.mark.parametrize("method", INITS)
def test_several_seeds_are_drawn_as_each_alone(method: str) -> None:
    V = data(500, 40)
    together = initialise_each(V, 7, method, range(5))
    for seed, W in enumerate(together):
        torch.testing.assert_close(W, nmf.initialise(V, 7, method, seed))
        torch.testing.assert_close(W.norm(dim=0), torch.ones(7))
        assert float(W.min()) >= 0
    assert torch.equal(together[0], together[1]) == (method == "nndsvd")


@settings(max_examples=25)
@given(n=st.integers(1, 30), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_each_direction_is_drawn_once_before_there_are_none_left(n: int, k: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.rand(n, 1, generator=draw) + 0.1
    directions = torch.eye(9)[torch.randint(4, (n,), generator=draw)]
    n_distinct = len(directions.unique(dim=0))
    W = nmf.initialise(lengths * directions, k, "positions", seed)
    real = W[:, : min(k, n_distinct)]
    assert float(real.max(dim=0).values.min()) > 1 - 1e-6
    assert len(real.argmax(dim=0).unique()) == real.shape[1]
    torch.testing.assert_close(W.norm(dim=0), torch.ones(k))


def test_starts_that_run_out_do_not_disturb_others() -> None:
    """With two directions, and k = 4, the last are random; so they are of nothing but zeros."""
    V = torch.zeros(50, 6)
    V[:25, 0], V[25:, 3] = 1, 2
    for W in initialise_each(V, 4, "positions", range(8)):
        assert sorted(W[:, :2].argmax(dim=0).tolist()) == [0, 3]
        assert bool((W[:, 2:] > 0).all())
    for W in initialise_each(torch.zeros(20, 6), 3, "positions", range(2)):
        torch.testing.assert_close(W.norm(dim=0), torch.ones(3))
