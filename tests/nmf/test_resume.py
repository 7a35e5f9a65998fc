"""A fit that is killed goes on to the same bits; several fits share their passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline import nmf
from pipeline.errors import UserError
from pipeline.nmf.descent import State


class KilledError(Exception):
    """Stands for whatever ends a process."""


class Source:
    """V in 8 blocks; raises when block number `deadly`, counted over all passes, is asked for."""

    def __init__(self, V: Tensor, deadly: int = -1) -> None:
        self.V, self.deadly, self.served = V, deadly, 0
        self.n_positions, self.n_channels = V.shape

    def __iter__(self) -> Iterator[Tensor]:
        for block in torch.chunk(self.V, 8):
            if self.served == self.deadly:
                raise KilledError
            self.served += 1
            yield block


class Memory:
    """Keeps the last of the states, every `every`-th block."""

    def __init__(self, every: int = 1) -> None:
        self.every, self.asked, self.n_saved = every, 0, 0
        self.state: State | None = None

    def load(self) -> State | None:
        return self.state

    def due(self) -> bool:
        self.asked += 1
        return self.asked % self.every == 0

    def save(self, state: State) -> None:
        self.n_saved += 1
        self.state = {name: each.copy() for name, each in state.items()}


@pytest.fixture(scope="module")
def V() -> Tensor:
    """(9000, 30) of 6 concepts and noise."""
    generator = torch.Generator().manual_seed(0)
    W = torch.rand(30, 6, generator=generator) ** 4
    H = torch.rand(9000, 6, generator=generator) ** 4
    return H @ W.T + 0.1 * torch.rand(9000, 30, generator=generator)


class Options(TypedDict):
    """Those of a fit that all fits here share."""

    seed: int
    tol: float
    max_passes: int


OPTIONS: Options = {"seed": 3, "tol": 1e-6, "max_passes": 4}


@pytest.mark.parametrize("deadly", [1, 7, 8, 13, 24, 31])
@pytest.mark.parametrize("every", [1, 3])
def test_killed_fit_ends_with_the_same_bits(V: Tensor, deadly: int, every: int) -> None:
    whole = nmf.fit(Source(V), V[:800], 6, **OPTIONS)
    assert whole.n_passes == 4
    memory = Memory(every)
    with pytest.raises(KilledError):
        nmf.fit(Source(V, deadly), V[:800], 6, checkpoint=memory, **OPTIONS)
    was_saved = memory.n_saved
    assert was_saved == deadly // every
    resumed_source = Source(V)
    resumed = nmf.fit(resumed_source, V[:800], 6, checkpoint=memory, **OPTIONS)
    assert torch.equal(resumed.W, whole.W)
    for name in ("HHt", "VHt", "h_sum"):
        assert torch.equal(getattr(resumed.stats, name), getattr(whole.stats, name))
    assert (resumed.stats.v_sq, resumed.stats.n) == (whole.stats.v_sq, whole.stats.n)
    assert resumed.history == whole.history
    assert resumed.error == whole.error


def test_states_are_plain_float64_arrays(V: Tensor) -> None:
    memory = Memory()
    nmf.fit(Source(V), V[:800], 6, checkpoint=memory, **OPTIONS)
    assert memory.state is not None
    for each in memory.state.values():
        assert isinstance(each, np.ndarray)
        assert each.dtype == np.float64


def test_state_of_another_fit_is_refused(V: Tensor) -> None:
    memory = Memory()
    nmf.fit(Source(V), V[:800], 6, checkpoint=memory, **OPTIONS)
    with pytest.raises(UserError, match=r"channels × k = 30 × 6, not 30 × 4; remove it"):
        nmf.fit(Source(V), V[:800], 4, checkpoint=memory, **OPTIONS)


def test_several_fits_share_their_passes(V: Tensor) -> None:
    source = Source(V)
    starts = [nmf.Start(6, seed=0), nmf.Start(6, seed=1), nmf.Start(3, seed=0)]
    together = nmf.fit_many(source, V[:800], starts, tol=1e-5, max_passes=5)
    n_passes = max(fit.n_passes for fit in together)
    assert source.served == 8 * n_passes
    for fit, start in zip(together, starts, strict=True):
        alone = nmf.fit(Source(V), V[:800], start.k, seed=start.seed, tol=1e-5, max_passes=5)
        assert fit.error == pytest.approx(alone.error, rel=1e-3)
        assert float(nmf.match(fit.W, alone.W)[1].min()) > 0.99
