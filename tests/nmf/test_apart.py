"""Steps that would make two concepts one are taken back, and no others."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline import nmf
from pipeline.nmf.apart import ALIKE, kept_apart, twins
from pipeline.nmf.draw import thin
from pipeline.nmf.initialise import unit_columns


def unit(rows: list[list[float]]) -> Tensor:
    """Concepts of unit length, one a row."""
    return unit_columns(torch.tensor(rows).T)


def test_the_weaker_stays_where_it_was() -> None:
    before = unit([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    after = unit([[1.0, 0.5, 0], [1, 0.6, 0], [0, 0.5, 1]])
    kept = kept_apart(after, before, torch.tensor([2.0, 1, 3]))
    assert torch.equal(kept[:, [0, 2]], after[:, [0, 2]])
    assert torch.equal(kept[:, 1], before[:, 1])


def test_both_stay_where_one_is_not_enough() -> None:
    before = unit([[1.0, 0], [0, 1]])
    after = unit([[0.1, 1.0], [0, 1]])
    kept = kept_apart(after, before, torch.tensor([2.0, 1]))
    assert torch.equal(kept, before)


def test_twins_are_told_by_strength() -> None:
    W = unit([[1.0, 0], [0, 1], [1, 0.01], [1, 0.02]])
    stronger, weaker = twins(W.T @ W, torch.tensor([1.0, 9, 3, 2]))
    pairs = sorted(zip(stronger.tolist(), weaker.tolist(), strict=True))
    assert pairs == [(2, 0), (2, 3), (3, 0)]


@given(seed=st.integers(0, 2**16), k=st.integers(1, 40), step=st.floats(0, 3))
def test_none_come_of_none(seed: int, k: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    before = unit_columns(torch.from_numpy(rng.random((60, k)).astype(np.float32) ** 6))
    strength = torch.from_numpy(rng.random(k))
    if len(twins(before.T @ before, strength)[0]):
        return
    towards = torch.from_numpy(rng.random((60, 1)).astype(np.float32))
    after = unit_columns(before + step * towards)
    kept = kept_apart(after, before, strength)
    assert not len(twins(kept.T @ kept, strength)[0])
    moved = (kept == after).all(0)
    assert ((kept == before).all(0) | moved).all()
    if not len(twins(after.T @ after, strength)[0]):
        assert moved.all()


def test_more_concepts_than_channels_stay_apart() -> None:
    """Channels that stand alone draw concepts together until they are the same."""
    rng = np.random.default_rng(0)
    W = unit_columns(torch.from_numpy(rng.random((48, 160)).astype(np.float32) ** 12))
    H = torch.from_numpy(rng.gamma(0.05, 1, (8_000, 160)).astype(np.float32))
    V = H @ W.T
    sample = thin(V, nmf.sparse_sample_size(160))
    fit = nmf.fit(nmf.ArrayBlocks(V), sample, 160, active=4, max_passes=3)
    assert float((fit.W.T @ fit.W).fill_diagonal_(0).max()) <= ALIKE + 1e-6
    grown, _ = nmf.grow([V], V, fit.W, 4)
    assert float((grown.T @ grown).fill_diagonal_(0).max()) <= ALIKE + 1e-6
