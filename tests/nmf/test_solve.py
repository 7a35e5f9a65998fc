"""Strengths of fixed concepts: against the exact solver, in any company, for any concepts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import Tensor

from pipeline import nmf
from pipeline.errors import UserError
from pipeline.nmf.hals import hals
from pipeline.nmf.passes import block_stats
from pipeline.nmf.solve import MAX_ITERATIONS, Encoder, Ends, _rate


def random_problem(seed: int, n: int, channels: int, k: int) -> tuple[Tensor, Tensor]:
    """Give V (n, channels) and W (channels, k): a noisy product, concepts of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.rand(channels, k, generator=generator) ** 3 * torch.logspace(-1, 1, k)
    H = torch.rand(n, k, generator=generator) ** 4
    noise = torch.rand(n, channels, generator=generator)
    return H @ W.T + 0.3 * noise, W


def exact(V: Tensor, W: Tensor) -> Tensor:
    """Solve position by position with the active-set method of scipy, in float64."""
    return torch.stack(
        [torch.from_numpy(nnls(W.double().numpy(), v.double().numpy())[0]) for v in V]
    )


def objective(V: Tensor, W: Tensor, H: Tensor) -> float:
    return float(torch.linalg.matrix_norm(V.double() - H.double() @ W.double().T) ** 2)


@pytest.mark.parametrize(("channels", "k"), [(30, 1), (30, 7), (64, 24), (200, 60)])
def test_encode_agrees_with_exact_nnls(channels: int, k: int) -> None:
    V, W = random_problem(k, 50, channels, k)
    expected = exact(V, W)
    for tol in (1e-2, 1e-4):
        H = nmf.encode(V, W, tol=tol).double()
        # In the metric of the tolerance: strengths of unit concepts.
        norms = torch.linalg.vector_norm(W.double(), dim=0)
        assert torch.linalg.norm((H - expected) * norms) <= tol * torch.linalg.norm(
            expected * norms
        )


def test_encode_on_signed_data_and_concepts() -> None:
    generator = torch.Generator().manual_seed(3)
    V, W = torch.randn(40, 20, generator=generator), torch.randn(20, 6, generator=generator)
    assert torch.allclose(nmf.encode(V, W).double(), exact(V, W), atol=1e-4)


def test_nearly_dependent_concepts_reach_the_least_objective() -> None:
    V, W = random_problem(0, 60, 40, 6)
    W = torch.cat([W, W[:, :3] * 2, W[:, 3:5] + 1e-3 * torch.rand(40, 2)], dim=1)
    assert Encoder.of(W).n_iterations == MAX_ITERATIONS
    least = objective(V, W, exact(V, W))
    H = nmf.encode(V, W)
    assert float(H.min()) >= 0
    assert objective(V, W, H) <= least + 1e-4 * float(V.square().sum())


def test_more_concepts_than_channels() -> None:
    V, W = random_problem(1, 30, 5, 12)
    assert objective(V, W, nmf.encode(V, W)) <= objective(V, W, exact(V, W)) + 1e-4 * float(
        V.square().sum()
    )


def test_penalties_match_their_closed_form() -> None:
    V, W = torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    # Orthogonal concepts: h = max(0, (b − l1) / (‖w‖² + l2)) each.
    H = nmf.encode(V, W, tol=1e-6, l1=0.4, l2=0.25)
    assert torch.allclose(H, torch.tensor([[5.6 / 4.25, 0.1 / 0.5]]), rtol=1e-5)
    assert torch.equal(nmf.encode(V, W, l1=10.0), torch.zeros(1, 2))


def test_zero_concept_stands_nowhere_and_disturbs_no_other() -> None:
    V, W = random_problem(2, 30, 16, 4)
    with_zero = torch.cat([W[:, :2], torch.zeros(16, 1), W[:, 2:]], dim=1)
    H = nmf.encode(V, with_zero)
    assert torch.equal(H[:, 2], torch.zeros(30))
    assert torch.allclose(H[:, [0, 1, 3, 4]], nmf.encode(V, W), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 169, 2048, 5000])
def test_same_bits_before_any_others_and_the_same_strengths_among_them(n: int) -> None:
    V, W = random_problem(5, 5000, 48, 11)
    alone = nmf.encode(V[:n], W)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    shuffled = nmf.encode(V[order], W)
    assert torch.equal(alone, nmf.encode(V, W)[:n])
    # A row's place in its block decides how some processors round its products.
    again = shuffled[torch.argsort(order)][:n]
    assert torch.allclose(alone, again, rtol=1e-5, atol=1e-5 * float(alone.max()))


def test_threads_change_no_bit_of_the_strengths() -> None:
    V, W = random_problem(5, 9000, 48, 11)
    alone = nmf.encode(V, W)
    stats = nmf.sweep([V], W)
    with threads(3):
        assert torch.equal(nmf.encode(V, W), alone)
        shared = nmf.sweep([V], W)
    assert torch.allclose(shared.VHt, stats.VHt, rtol=1e-12)
    assert shared.n == stats.n


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
        assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)


def test_other_block_sizes_agree_to_rounding() -> None:
    V, W = random_problem(6, 3000, 48, 11)
    assert torch.allclose(nmf.encode(V, W), nmf.encode(V, W, block=512), rtol=1e-4, atol=1e-5)


def test_writes_where_told() -> None:
    V, W = random_problem(7, 100, 20, 3)
    out = torch.full((100, 3), -1.0)
    assert nmf.encode(V, W, out=out) is out
    assert torch.equal(out, nmf.encode(V, W))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_what_is_not_finite(bad: float) -> None:
    V, W = random_problem(8, 100, 20, 3)
    V[41, 7] = bad
    with pytest.raises(UserError, match=r"1 of 100 positions hold NaN or infinite.*position 41"):
        nmf.encode(V, W)
    with pytest.raises(UserError, match="concepts hold NaN or infinite"):
        nmf.encode(V[:10], W.masked_fill(W.isclose(W.max()), bad))


def test_no_positions_and_zero_data() -> None:
    _, W = random_problem(9, 1, 20, 3)
    assert nmf.encode(torch.zeros(0, 20), W).shape == (0, 3)
    assert torch.equal(nmf.encode(torch.zeros(5, 20), W), torch.zeros(5, 3))
    assert torch.equal(nmf.encode(torch.ones(5, 20), torch.zeros(20, 3)), torch.zeros(5, 3))


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 8), n=st.integers(1, 20), c=st.integers(1, 12))
def test_no_row_of_a_sweep_raises_the_objective(seed: int, k: int, n: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    W = torch.from_numpy(rng.gamma(0.5, size=(c, k)) * (rng.random((c, k)) < 0.7))
    V = torch.from_numpy(rng.gamma(0.5, size=(n, c)))
    Ht = torch.from_numpy(rng.random((k, n)))
    before = objective(V, W, Ht.T)
    for j in range(k):
        hals(Ht, W.T @ W, W.T @ V.T, 1, torch.arange(k) == j)
        after = objective(V, W, Ht.T)
        assert after <= before + 1e-10 * float(V.square().sum())
        before = after
    assert float(Ht.min()) >= 0


def test_many_rows_descend_in_blocks_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(1)
    H, W, V = (torch.rand(*shape, generator=draw) for shape in ((20, 9), (12, 20), (12, 9)))
    W[:, 5] = 0  # a concept that stays as it is
    G, B, free = W.T @ W, W.T @ V, torch.rand(20, generator=draw) < 0.8
    one_by_one = hals(H.clone(), G, B, 3, free)
    monkeypatch.setattr("pipeline.nmf.hals.TOGETHER", 1)
    monkeypatch.setattr("pipeline.nmf.hals.BLOCK", 6)
    in_blocks = hals(H.clone(), G, B, 3, free)
    assert torch.allclose(in_blocks, one_by_one, rtol=1e-4, atol=1e-5)
    assert torch.equal(in_blocks[~free], H[~free])
    assert not torch.allclose(in_blocks, H)


def test_several_problems_descend_as_each_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    H, B = torch.rand(3, 5, 7, generator=draw), torch.rand(3, 5, 7, generator=draw)
    W = torch.rand(3, 9, 5, generator=draw)
    W[1, :, 2] = 0  # a dead concept of one problem
    G, free = W.mT @ W, torch.ones(3, 5, dtype=torch.bool)
    free[2, 4] = False
    before, together = H.clone(), hals(H.clone(), G, B, 3, free)
    for i in range(3):
        alone = hals(H[i].clone(), G[i], B[i], 3, free[i])
        assert torch.allclose(together[i], alone, rtol=1e-5, atol=1e-6)
        assert not torch.equal(together[i], before[i])
    assert torch.equal(together[1, 2], before[1, 2])
    assert torch.equal(together[2, 4], before[2, 4])


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000), k=st.integers(1, 10), n=st.integers(1, 20), c=st.integers(1, 12)
)
@example(seed=10, k=10, n=3, c=3)
def test_encoding_is_non_negative_and_optimal(seed: int, k: int, n: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    W = torch.from_numpy(rng.gamma(0.5, size=(c, k)) * (rng.random((c, k)) < 0.7)).float()
    V = torch.from_numpy(rng.gamma(0.5, size=(n, c))).float()
    H = nmf.encode(V, W)
    assert float(H.min()) >= 0
    # Concepts that depend on each other have no one answer; iterations end before the best of them.
    unit = W[:, W.norm(dim=0) > 0].double()
    unit = unit / unit.norm(dim=0)
    apart = torch.linalg.eigvalsh(unit.T @ unit)
    depend = len(apart) > 0 and float(apart[0]) < float(apart[-1]) / 9_000
    slack = (1e-3 if depend else 1e-4) * float(V.square().sum())
    assert objective(V, W, H) <= objective(V, W, exact(V, W)) + slack


def test_half_precision_is_raised_and_changes_no_bit() -> None:
    V, W = random_problem(5, 4500, 12, 4)
    half = V.half()
    assert torch.equal(nmf.encode(half, W), nmf.encode(half.float(), W))
    assert torch.equal(nmf.gram([half]), nmf.gram([half.float()]))
    for a, b in zip(
        nmf.sweep([half], W).arrays().values(),
        nmf.sweep([half.float()], W).arrays().values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_signed_pass_takes_negative_values_but_nothing_infinite() -> None:
    V, W = random_problem(6, 300, 12, 4)
    V[7, 3] = -1.0
    with pytest.raises(UserError, match="1 of 300 positions hold negative activations"):
        nmf.sweep([V], W)
    stats = nmf.sweep([V], W, tol=1e-3, signed=True)
    H = nmf.encode(V, W)
    error = float((V - H @ W.T).double().norm() / V.double().norm())
    assert nmf.relative_error(W, stats) == pytest.approx(error, rel=2e-4)  # float32 products
    V[8, 3] = float("nan")
    with pytest.raises(UserError, match="NaN or infinite"):
        nmf.sweep([V], W, signed=True)


@pytest.mark.parametrize("n", [300, 5000])
def test_few_iterations_do_from_where_other_concepts_ended(n: int) -> None:
    V, W = random_problem(8, n, 40, 10)
    ends = Ends.room(V, 10)

    def found(W: Tensor) -> tuple[Tensor, Tensor]:
        encoder = Encoder.of(W, tol=1e-2)
        (stats,) = block_stats(V, [encoder], ends=[ends])
        H = nmf.encode(V, W, tol=1e-6).double()
        return stats.HHt, H.T @ H

    step = 0.05 * torch.rand(W.shape, generator=torch.Generator().manual_seed(1))
    (cold,) = block_stats(V, [Encoder.of(W, tol=1e-2)])
    first, _ = found(W)
    assert torch.allclose(first, cold.HHt, rtol=1e-6)  # of few positions, blocks are smaller
    errors = []
    for size in (1.0, 0.5, 0.25, 0.12, 0.06, 0.06, 0.06):  # as concepts come to rest
        got, converged = found(W + size * step)
        errors.append(float((got - converged).norm() / converged.norm()))
    assert max(errors) < 2e-2
    assert errors[-1] < 1e-4
    encoder = Encoder.of(W, tol=1e-2)
    assert encoder.n_again < encoder.n_iterations / 2


def test_an_encoder_keeps_its_shapes_on_another_device() -> None:
    encoder = Encoder.of(random_problem(0, 10, 40, 6)[1])
    moved = encoder.to(torch.device("meta"))
    for name in ("lift", "offset", "fold", "scale"):
        here, there = getattr(encoder, name), getattr(moved, name)
        assert there.device.type == "meta"
        assert there.shape == here.shape
    assert (moved.n_iterations, moved.n_again) == (encoder.n_iterations, encoder.n_again)
    assert encoder.to(torch.device("cpu")) is encoder


def test_rows_that_nothing_is_known_of_or_that_are_not_free_stay() -> None:
    generator = torch.Generator().manual_seed(4)
    W = 0.1 * torch.rand(9, 3, generator=generator)  # squares below 1
    W[:, 1] = 0
    V = torch.rand(7, 9, generator=generator)
    G, B, start = W.T @ W, W.T @ V.T, torch.rand(3, 7, generator=generator)
    both = hals(start.clone(), G, B, 200)
    assert torch.equal(both[1], start[1])
    assert float((G @ both - B)[[0, 2]].abs().where(both[[0, 2]] > 0, 0.0).max()) < 1e-5
    first = hals(start.clone(), G, B, 1, free=torch.tensor([True, True, False]))
    assert torch.equal(first[1:], start[1:])
    best = ((B[0] - G[0, 2] * start[2]) / G[0, 0]).clamp_min(0)
    assert torch.allclose(first[0], best, rtol=1e-5)


@pytest.mark.parametrize("low", [1.0, 0.3, 1e-3, 1e-9, 0.0])
def test_iterations_are_as_many_as_the_bound_asks_for(low: float) -> None:
    """qⁿ ≤ tol / 4 with the q of κ after the ridge, and not for one iteration fewer."""
    tol, high = 1e-4, 2.0
    ridge, rho, n = _rate(torch.tensor([low, 1.0, high], dtype=torch.float64), tol)
    low, high = low + ridge, high + ridge
    root = math.sqrt(high / low)
    q = (root - 1) / (root + 1)
    assert rho == pytest.approx(math.sqrt(low * high))
    assert q**n <= tol / 4 * (1 + 1e-9)
    assert q ** (n - 1) > tol / 4
    assert n <= MAX_ITERATIONS
    assert (ridge > 0) == (n == MAX_ITERATIONS)


def test_orthogonal_concepts_take_one_iteration() -> None:
    assert _rate(torch.ones(3, dtype=torch.float64), 1e-4) == (0.0, 1.0, 1)
    W = torch.eye(5)[:, :3] * torch.tensor([1.0, 2.0, 3.0])
    V = torch.rand(6, 5) - 0.5
    expected = (V[:, :3] / torch.tensor([1.0, 2.0, 3.0])).clamp_min(0)
    assert torch.allclose(nmf.encode(V, W), expected, atol=1e-6)


def test_what_was_in_the_memory_is_no_start() -> None:
    W = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    encoder = Encoder.of(W)
    constant = torch.rand(3, 4)
    clean, dirty = (
        encoder.solve(constant, torch.full((3, 4), fill), torch.empty(3, 4)) for fill in (0.0, 1e6)
    )
    assert torch.equal(clean, dirty)


def test_ends_are_kept_in_blocks_and_given_from_one_on() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        few, most = Ends.room(torch.empty(4096, 4), 3), Ends.room(torch.empty(20_480, 4), 3)
        more = Ends.room(torch.empty(4097, 4), 3)
    finally:
        torch.set_num_threads(before)
    assert few.Y.shape == (1, 3, 4096)
    assert most.Y.shape == (10, 3, 2048)
    assert more.Y.shape == (3, 3, 1366)
    most.Y.copy_(torch.arange(10.0)[:, None, None].expand_as(most.Y))
    later = most.since(3 * 2048)
    assert later.Y[:, 0, 0].tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert not later.known
