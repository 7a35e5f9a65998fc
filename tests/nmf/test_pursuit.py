"""Few of many concepts explain a position: pursuit against independent solvers, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from pipeline import nmf
from pipeline.errors import UserError
from pipeline.nmf import batched
from pipeline.nmf.pursuit import Codes, Pursuit
from pipeline.system.threads import one_thread


def planted(
    n: int, channels: int, k: int, n_active: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Give V, W and H of which each position has few, with a tenth of noise."""
    draw = torch.Generator().manual_seed(seed)
    W = torch.rand(channels, k, generator=draw).pow(4)
    H = torch.zeros(n, k)
    at = torch.rand(n, k, generator=draw).argsort(1)[:, :n_active]
    H.scatter_(1, at, 0.5 + torch.rand(n, n_active, generator=draw))
    V = H @ W.T
    return V + 0.1 * V.mean() * torch.rand(V.shape, generator=draw), W, H


def orthogonal_matching_pursuit(
    v: NDArray[np.float64], W: NDArray[np.float64], n_active: int
) -> NDArray[np.float64]:
    """Take up the concept of the largest correlation, and find all strengths anew by scipy."""
    unit = W / np.linalg.norm(W, axis=0)
    found: list[int] = []
    h = np.zeros(W.shape[1])
    left = v
    for _ in range(n_active):
        correlation = unit.T @ left
        correlation[found] = -np.inf
        if correlation.max() <= 0:
            break
        found.append(int(correlation.argmax()))
        h[:] = 0
        h[found] = nnls(W[:, found], v)[0]
        left = v - W @ h
    return h


def explained(V: Tensor, W: Tensor, H: Tensor) -> float:
    return 1 - float((V - H @ W.T).double().square().sum() / V.double().square().sum())


@pytest.mark.parametrize("n_active", [1, 4, 16])
def test_explains_as_much_as_one_concept_at_a_time(n_active: int) -> None:
    V, W, _ = planted(200, 64, 96, 8)
    H = nmf.encode(V, W, active=n_active)
    pairs = [
        orthogonal_matching_pursuit(v, W.double().numpy(), n_active) for v in V.double().numpy()
    ]
    reference = torch.from_numpy(np.array(pairs)).float()
    assert int((H > 0).sum(1).max()) <= n_active
    assert explained(V, W, H) > explained(V, W, reference) - 1e-3


def test_strengths_are_the_best_of_the_concepts_taken() -> None:
    V, W, _ = planted(100, 40, 60, 6)
    H = nmf.encode(V, W, active=8)
    for v, h in zip(V.double().numpy(), H.double().numpy(), strict=True):
        taken = h > 0
        best, _ = nnls(W.double().numpy()[:, taken], v)
        assert np.allclose(h[taken], best, rtol=2e-2, atol=2e-3 * best.max())


def test_finds_what_was_planted() -> None:
    V, W, H = planted(500, 128, 64, 4)
    found = nmf.encode(V, W, active=4)
    assert float(((found > 0) == (H > 0)).float().mean()) > 0.99


def test_with_all_concepts_it_is_least_squares() -> None:
    V, W, _ = planted(60, 30, 12, 6)
    dense, sparse = nmf.encode(V, W, tol=1e-5), nmf.encode(V, W, active=12)
    assert explained(V, W, sparse) == pytest.approx(explained(V, W, dense), abs=1e-4)


@pytest.mark.parametrize("n_active", [1, 3, 8, 20])
def test_accelerators_find_the_same(n_active: int) -> None:
    V, W, _ = planted(300, 64, 96, 8)
    pursuit = Pursuit.of(W, n_active)
    codes = pursuit.codes(V)
    concepts, strengths = batched.pursue(V @ pursuit.unit, pursuit.gram, n_active)
    strengths /= pursuit.lengths[concepts]
    one = codes.dense(torch.empty(len(V), 96))
    other = Codes(concepts.int(), strengths).dense(torch.empty(len(V), 96))
    same = torch.isclose(one, other, rtol=1e-2, atol=1e-3).all(1)
    if n_active <= 8:  # beyond what was planted the last bits of noise decide
        assert float(same.float().mean()) > 0.97
    assert explained(V, W, one) == pytest.approx(explained(V, W, other), abs=1e-4)


def test_sums_are_those_of_dense_strengths() -> None:
    V, W, _ = planted(3_000, 48, 70, 5)
    pursuit = Pursuit.of(W, 5)
    codes = pursuit.codes(V)
    found = pursuit.stats(V, codes)
    expected = nmf.accumulate(V, codes.dense(torch.empty(len(V), 70)))
    assert torch.allclose(found.HHt, expected.HHt, rtol=1e-5)
    assert torch.allclose(found.VHt, expected.VHt, rtol=1e-5)
    assert torch.allclose(found.h_sum, expected.h_sum, rtol=1e-5)
    assert found.n == expected.n


def test_company_and_threads_change_no_bit() -> None:
    V, W, _ = planted(5_000, 48, 70, 5)
    together = nmf.encode(V, W, active=5)
    alone = torch.cat([nmf.encode(part, W, active=5) for part in V[:40].split(7)])
    with one_thread():
        single = nmf.encode(V, W, active=5)
    assert torch.equal(together[:40], alone)
    assert torch.equal(together, single)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_active=st.integers(1, 24),
    k=st.integers(1, 40),
    zeros=st.booleans(),
    twins=st.booleans(),
)
def test_laws(seed: int, n_active: int, k: int, zeros: bool, twins: bool) -> None:
    draw = torch.Generator().manual_seed(seed)
    W = torch.rand(20, k, generator=draw).pow(3)
    V = torch.rand(30, 20, generator=draw).pow(3)
    if zeros:
        W[:, 0], V[0] = 0, 0
    if twins and k > 1:
        W[:, -1] = 2 * W[:, 0]
    H = nmf.encode(V, W, active=n_active)
    assert torch.isfinite(H).all()
    assert float(H.min()) >= 0
    assert int((H > 0).sum(1).max()) <= n_active
    more = nmf.encode(V, W, active=n_active + 1)
    nothing = torch.zeros_like(H)
    assert explained(V, W, nothing) - 1e-6 <= explained(V, W, H)
    assert explained(V, W, H) <= explained(V, W, more) + 5e-3
    order = torch.randperm(k, generator=draw)
    permuted = nmf.encode(V, W[:, order], active=n_active)
    assert explained(V, W[:, order], permuted) == pytest.approx(explained(V, W, H), abs=2e-3)


def test_no_positions_and_no_concepts() -> None:
    _, W, _ = planted(10, 8, 6, 2)
    assert nmf.encode(torch.zeros(0, 8), W, active=2).shape == (0, 6)
    assert nmf.sweep([torch.zeros(0, 8)], W, active=2).n == 0
    assert not nmf.encode(torch.ones(3, 8), torch.zeros(8, 6), active=2).any()
    assert torch.equal(nmf.encode(torch.ones(3, 8), W[:, :1], active=9) > 0, torch.ones(3, 1) > 0)


def test_refuses_what_is_not_finite() -> None:
    V, W, _ = planted(10, 8, 6, 2)
    V[3, 2] = float("nan")
    with pytest.raises(UserError, match="1 of 10 positions hold NaN or infinite"):
        nmf.encode(V, W, active=2)
    with pytest.raises(UserError, match="the concepts hold NaN"):
        nmf.encode(V[:3], W * float("inf"), active=2)
    with pytest.raises(UserError, match="block 0 of the data: 1 of 3 positions hold negative"):
        nmf.sweep([torch.tensor([[1.0, 2], [1, -1], [1, 1]])], torch.eye(2), active=1)
