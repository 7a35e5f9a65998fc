"""The streaming statistics and what is read off them: errors, energies, gauge, context vectors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline import nmf
from pipeline.nmf.data import extremes, squares_of_rows
from pipeline.nmf.stats import rows_at_once


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor, Tensor]:
    """V (5000, 32), W (32, 5), and H converged for W."""
    generator = torch.Generator().manual_seed(0)
    W = torch.rand(32, 5, generator=generator) ** 2 * torch.tensor([0.1, 1, 2, 5, 30])
    V = torch.rand(5000, 5, generator=generator) ** 3 @ W.T
    V += 0.5 * torch.rand(5000, 32, generator=generator)
    return V, W, nmf.encode(V, W, tol=1e-6)


def test_statistics_are_the_sums_they_claim(data: tuple[Tensor, Tensor, Tensor]) -> None:
    V, _, H = data
    stats = nmf.accumulate(V, H)
    V, H = V.double(), H.double()
    for sums, expected in [
        (stats.HHt, H.T @ H),
        (stats.VHt, V.T @ H),
        (stats.h_sum, H.sum(0)),
        (stats.h_sq, H.square().sum(0)),
        (torch.tensor(stats.v_sq), V.square().sum().float()),
    ]:
        assert torch.allclose(sums, expected, rtol=1e-6)
    assert stats.n == 5000
    assert stats.HHt.dtype == stats.VHt.dtype == stats.h_sum.dtype == torch.float64


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_chunking_changes_statistics_by_rounding_only(
    data: tuple[Tensor, Tensor, Tensor], cuts: list[int]
) -> None:
    V, _, H = data
    whole = nmf.accumulate(V, H)
    edges = [0, *sorted(cuts), 5000]
    parts = nmf.Stats.zeros(32, 5)
    for a, b in itertools.pairwise(edges):
        parts = parts + nmf.accumulate(V[a:b], H[a:b])
    assert parts.n == whole.n
    assert torch.allclose(parts.HHt, whole.HHt, rtol=5e-6)
    assert torch.allclose(parts.VHt, whole.VHt, rtol=5e-6)
    assert torch.allclose(parts.h_sum, whole.h_sum, rtol=5e-6)
    assert parts.v_sq == pytest.approx(whole.v_sq, rel=1e-9)


def test_error_from_statistics_is_the_error(data: tuple[Tensor, Tensor, Tensor]) -> None:
    V, W, H = data
    for strengths in (H, torch.rand(5000, 5, generator=torch.Generator().manual_seed(1))):
        residual = V.double() - strengths.double() @ W.double().T
        expected = float(residual.norm() / V.double().norm())
        assert nmf.relative_error(W, nmf.accumulate(V, strengths)) == pytest.approx(
            expected, rel=2e-4
        )


def test_energies_sum_to_what_is_explained(data: tuple[Tensor, Tensor, Tensor]) -> None:
    V, W, H = data
    stats = nmf.accumulate(V, H)
    energies = nmf.energies(W, stats)
    assert float(energies.min()) >= 0
    assert float(energies.sum()) == pytest.approx(1 - nmf.relative_error(W, stats) ** 2, abs=1e-5)


def test_gauge_sets_the_scale_and_leaves_the_product(data: tuple[Tensor, Tensor, Tensor]) -> None:
    V, W, H = data
    scaled, stats, scale = nmf.gauge(W, nmf.accumulate(V, H))
    H_scaled = H / scale.float()
    assert torch.allclose(stats.h_sq / stats.h_sum, torch.ones(5, dtype=torch.float64))
    assert torch.allclose(H_scaled @ scaled.T, H @ W.T, rtol=1e-5, atol=1e-5)
    again = nmf.accumulate(V, H_scaled)
    assert torch.allclose(stats.HHt, again.HHt, rtol=1e-5)
    assert torch.allclose(stats.VHt, again.VHt, rtol=1e-5)
    assert scaled.dtype == W.dtype
    assert torch.allclose(nmf.encode(V, scaled, tol=1e-6), H_scaled, rtol=1e-3, atol=1e-4)


def test_gauge_twice_is_gauge_once(data: tuple[Tensor, Tensor, Tensor]) -> None:
    V, W, H = data
    once, stats, _ = nmf.gauge(W, nmf.accumulate(V, H))
    twice, _, scale = nmf.gauge(once, stats)
    assert torch.allclose(scale, torch.ones(5, dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(twice, once, rtol=1e-6)


def test_context_vectors_are_weighted_means_and_know_no_scale(
    data: tuple[Tensor, Tensor, Tensor],
) -> None:
    V, W, H = data
    stats = nmf.accumulate(V, H)
    context = nmf.context_vectors(stats)
    for j in range(5):
        mean = (H[:, j : j + 1].double() * V.double()).sum(0) / H[:, j].double().sum()
        assert torch.allclose(context[:, j], mean, rtol=1e-5)
    assert torch.allclose(nmf.context_vectors(nmf.gauge(W, stats)[1]), context, rtol=1e-12)


def test_a_concept_that_stands_nowhere_is_left_alone() -> None:
    V, H = torch.rand(50, 6), torch.rand(50, 3)
    H[:, 1] = 0
    W = torch.rand(6, 3)
    stats = nmf.accumulate(V, H)
    scaled, _, scale = nmf.gauge(W, stats)
    assert scale[1] == 1
    assert torch.equal(scaled[:, 1], W[:, 1])
    assert torch.equal(nmf.context_vectors(stats)[:, 1], torch.zeros(6, dtype=torch.float64))


def test_all_zero_data_have_no_error_and_no_energy() -> None:
    stats = nmf.accumulate(torch.zeros(10, 4), torch.zeros(10, 2))
    assert nmf.relative_error(torch.rand(4, 2), stats) == 0
    assert torch.equal(nmf.energies(torch.rand(4, 2), stats), torch.zeros(2, dtype=torch.float64))


def test_match_undoes_a_permutation() -> None:
    W = torch.rand(30, 6, generator=torch.Generator().manual_seed(0)) ** 4
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permutation, cosines = nmf.match(W, 7 * W[:, order])
    assert torch.equal(order[permutation], torch.arange(6))
    assert torch.allclose(cosines, torch.ones(6, dtype=torch.float64))


def test_match_prefers_the_best_total_over_the_greedy_choice() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[0.8, 1.0], [0.6, 0.3]])
    permutation, cosines = nmf.match(a, b)
    assert permutation.tolist() == [1, 0]
    assert cosines[1] == pytest.approx(0.6)


@pytest.mark.parametrize(("k_a", "k_b"), [(5, 3), (3, 5)])
def test_match_of_different_numbers(k_a: int, k_b: int) -> None:
    W = torch.eye(8)
    permutation, cosines = nmf.match(W[:, :k_a], W[:, :k_b])
    both = min(k_a, k_b)
    assert permutation.tolist() == [*range(both), *[-1] * (k_a - both)]
    assert cosines.tolist() == [*[1.0] * both, *[0.0] * (k_a - both)]


def test_svd_error_is_the_truncated_svds() -> None:
    V = torch.rand(3000, 20, generator=torch.Generator().manual_seed(0)) ** 2
    singular = torch.linalg.svdvals(V.double())
    for k in (0, 1, 7, 20, 25):
        expected = float((singular[k:].square().sum() / singular.square().sum()).sqrt())
        assert nmf.svd_error(V, k) == pytest.approx(expected, abs=1e-5)
        assert nmf.svd_error(iter(V.split(700)), k) == pytest.approx(expected, abs=1e-5)
    assert nmf.svd_error(torch.zeros(5, 3), 1) == 0


def test_data_are_looked_through_by_threads_alike() -> None:
    V = torch.rand(9_000, 40, generator=torch.Generator().manual_seed(0)) + 0.5
    V[4_500, 3], V[8_999, 0] = 0.25, 7.0
    before = torch.get_num_threads()
    found = []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        try:
            found.append((extremes(V), squares_of_rows(V)))
        finally:
            torch.set_num_threads(before)
    assert found[0][0] == found[1][0] == (0.25, 7.0)
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][1], V.double().square().sum(dim=1), rtol=1e-6, atol=0)
    V[2_000, 1] = float("nan")
    assert all(map(math.isnan, extremes(V)))
    assert int(squares_of_rows(V).isnan().sum()) == 1


def test_weak_strengths_and_weak_activations_count_like_others(
    data: tuple[Tensor, Tensor, Tensor],
) -> None:
    V, W, H = data
    whole = nmf.accumulate(V, H)
    weak = nmf.accumulate(1e-5 * V, 1e-8 * H)
    assert float(weak.h_sum.max()) < 1
    assert weak.v_sq < 1
    assert torch.allclose(nmf.context_vectors(weak), 1e-5 * nmf.context_vectors(whole), rtol=1e-5)
    assert torch.allclose(nmf.gauge(W, weak)[2], 1e-8 * nmf.gauge(W, whole)[2], rtol=1e-5)
    assert torch.allclose(nmf.energies(1e3 * W, weak), nmf.energies(W, whole), rtol=1e-5)


def test_rounding_makes_no_error_less_than_none() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    stats = nmf.Stats(one, one, one[0], 1 - 1e-9, 1)
    assert nmf.relative_error(one, stats) == 0


def test_as_many_strengths_as_activations_are_needed() -> None:
    rows = rows_at_once(torch.device("cpu"), 4)
    with pytest.raises(ValueError, match="shorter"):
        nmf.accumulate(torch.ones(2 * rows, 4), torch.ones(rows, 2))


@pytest.mark.parametrize(
    ("n_channels", "rows"),
    [(1, 2048), (1536, 2048), (1537, 1024), (2048, 1024), (9000, 256), (20_000, 256)],
)
def test_positions_are_worked_on_while_they_fit_the_cache(n_channels: int, rows: int) -> None:
    """At most 3 · 2²⁰ values, by powers of two from 256 to 2,048; devices take 16 times that."""
    assert rows_at_once(torch.device("cpu"), n_channels) == rows
    assert rows_at_once(torch.device("cuda"), n_channels) == 16 * 2048


def test_statistics_are_stored_and_come_back(data: tuple[Tensor, Tensor, Tensor]) -> None:
    V, _, H = data
    stats = nmf.accumulate(V, H)
    again = nmf.Stats.of_arrays(stats.arrays())
    for name in ("HHt", "VHt", "h_sum"):
        assert torch.equal(getattr(again, name), getattr(stats, name))
    assert (again.v_sq, again.n) == (stats.v_sq, stats.n)
    assert type(again.n) is int
