"""Rows shortened by a power of their length, and when all count alike."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import nmf


def test_positions_count_alike_where_that_explains_more_of_images_unseen() -> None:
    rng = np.random.default_rng(7)
    parts = rng.gamma(0.3, 1, (60, 80))  # of 12 that shine, and of many that do not
    owner = np.repeat(np.arange(200), 10)
    quiet = rng.gamma(0.3, 1, (2_000, 60)) @ parts
    loud = rng.random((2_000, 1)) < 0.02
    shouts = torch.from_numpy(np.where(loud, rng.gamma(1, 60, (2_000, 80)), quiet)).float()
    assert nmf.better_at_unit_length(shouts, owner, 8)
    rows = rng.gamma(0.2, 1, (2_000, 6)) @ rng.gamma(0.3, 1, (6, 80))
    faint = np.where(rng.random((2_000, 1)) < 0.8, rng.gamma(1, 0.01, (2_000, 80)), rows)
    assert not nmf.better_at_unit_length(torch.from_numpy(faint).float(), owner, 6)
    assert not nmf.better_at_unit_length(shouts[:10], owner[:10], 4)  # one image


@given(scale=st.floats(1e-6, 1e6), power=st.floats(0, 1))
def test_rows_are_shortened_by_a_power_of_their_length(scale: float, power: float) -> None:
    V = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]) * scale
    lengths = torch.tensor([5 * scale, 1, scale])[:, None]
    assert torch.allclose(nmf.shortened(V, power), V / lengths**power, rtol=1e-4)
    assert torch.equal(nmf.shortened(V, 0), V)
    unit = torch.tensor([[0.6, 0.8], [0, 0], [1, 0]])
    assert torch.allclose(nmf.shortened(V, 1), unit, rtol=1e-4)
