"""Merging of concepts: the pair that loses least, to the nearest single concept."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.nmf.merge import merge
from pipeline.nmf.stats import accumulate, relative_error


def parts(seed: int, n: int, channels: int, k: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    W, H = (torch.rand(rows, k, generator=generator) ** 3 for rows in (channels, n))
    return W, H * torch.rand(k, generator=generator)


@pytest.mark.parametrize("seed", range(5))
def test_the_pair_that_loses_least_becomes_the_nearest_single_concept(seed: int) -> None:
    W, H = parts(seed, 60, 20, 5)
    merged = merge(W, accumulate(H @ W.T, H), 4).double()
    kept = [j for j in range(5) if any(torch.equal(W[:, j].double(), w) for w in merged.T)]
    assert len(kept) == 3
    a, b = sorted({*range(5)} - {*kept})

    losses = {}
    for pair in itertools.combinations(range(5), 2):
        two = H[:, pair].double() @ W[:, pair].double().T
        losses[pair] = float(np.linalg.svd(two.numpy(), compute_uv=False)[1])
    assert min(losses, key=lambda pair: losses[pair]) == (a, b)
    two = H[:, [a, b]].double() @ W[:, [a, b]].double().T
    direction = merged[:, a]
    left = np.linalg.svd(two.numpy())[2][0]
    cosine = abs(float(direction @ torch.from_numpy(left) / direction.norm()))
    assert cosine > 1 - 1e-6
    assert float(merged.min()) >= 0


def test_twins_and_what_stands_nowhere_go_first() -> None:
    W, H = parts(9, 50, 16, 4)
    doubled = torch.cat([W, W[:, 1:2], torch.ones(16, 1)], dim=1)
    twice = torch.cat([H, H[:, 1:2] * 0.3, torch.zeros(50, 1)], dim=1)
    twice[:, 1] *= 0.7
    V = twice @ doubled.T
    merged = merge(doubled, accumulate(V, twice), 4)
    cosines = torch.nn.functional.normalize(merged, dim=0).T @ torch.nn.functional.normalize(
        W, dim=0
    )
    assert cosines.max(dim=0).values.min() > 1 - 1e-5
    H_of = torch.linalg.lstsq(merged.double(), V.double().T).solution.T
    assert relative_error(merged, accumulate(V.double(), H_of)) < 1e-3


def test_nothing_is_merged_where_nothing_is_to_spare() -> None:
    W, H = parts(3, 30, 12, 3)
    assert torch.equal(merge(W, accumulate(H @ W.T, H), 3), W)


def test_concepts_of_zeros_can_be_merged() -> None:
    W, H = torch.zeros(6, 4), torch.zeros(10, 4)
    merged = merge(W, accumulate(torch.zeros(10, 6), H), 2)
    assert merged.shape == (6, 2)
    assert torch.isfinite(merged).all()
