"""Concepts that a readout reads rightly, against exact solutions and planted directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import nnls

from pipeline import nmf
from pipeline.nmf.faithful import GIVEN, TURNS, together, together_few


def exact(V: NDArray[np.float64], W: NDArray[np.float64], root: NDArray[np.float64]) -> object:
    """Solve one image, (positions, channels), as one problem of stacked rows; CᵀC is the metric."""
    n, k = len(V), W.shape[1]
    mean = np.sqrt(n) * root @ np.hstack([W / n] * n)
    rows = np.vstack([np.kron(np.eye(n), W), mean])
    told = np.concatenate([V.ravel(), np.sqrt(n) * root @ V.mean(0)])
    return nnls(rows, told, maxiter=2_000)[0].reshape(n, k)


class Problem:
    """A few images, concepts and a metric, with the exact strengths."""

    def __init__(self, seed: int, weight: float) -> None:
        rng = np.random.default_rng(seed)
        V, W = rng.gamma(1, 1, (3, 5, 12)), rng.gamma(0.5, 1, (12, 4)) + 0.05
        root = np.sqrt(weight) * rng.normal(size=(6, 12))
        self.V, self.W, self.C = (torch.from_numpy(each).float() for each in (V, W, root.T @ root))
        self.H = torch.tensor(np.array([exact(each, W, root) for each in V])).float()


problems = st.builds(Problem, seed=st.integers(0, 10_000), weight=st.sampled_from([0.0, 0.3, 5.0]))


@settings(max_examples=20, deadline=None)
@given(problem=problems)
def test_strengths_of_an_image_are_the_exact_solution(problem: Problem) -> None:
    H = together(problem.V, problem.W, problem.C, tol=1e-4)
    for own, theirs in zip(H, problem.H, strict=True):
        assert own.numpy() == pytest.approx(theirs.numpy(), abs=2e-3 * float(theirs.abs().max()))


@settings(max_examples=20, deadline=None)
@given(problem=problems)
def test_few_of_all_are_the_exact_solution_too(problem: Problem) -> None:
    V, W, C = problem.V, problem.W, problem.C
    own = together_few(V, W, C, 4, rounds=400)
    assert objective(own, V, W, C) == pytest.approx(objective(problem.H, V, W, C), rel=2e-3)


def test_without_a_readout_it_is_least_squares() -> None:
    V, W = torch.rand(4, 9, 16), torch.rand(16, 3)
    H = together(V, W, torch.zeros(16, 16), tol=1e-4)
    assert torch.allclose(H.flatten(0, 1), nmf.encode(V.flatten(0, 1), W), atol=2e-3)


def test_a_concept_of_zeros_has_no_strength() -> None:
    W = torch.rand(16, 3)
    W[:, 1] = 0
    H = together(torch.rand(4, 9, 16), W, torch.eye(16))
    assert not H[..., 1].any()
    assert torch.isfinite(H).all()


def objective(H: torch.Tensor, V: torch.Tensor, W: torch.Tensor, C: torch.Tensor) -> float:
    lost = V.mean(1) - H.mean(1) @ W.T
    return float((V - H @ W.T).square().sum() + V.shape[1] * (lost @ C * lost).sum())


@pytest.mark.parametrize("n_active", [1, 3])
def test_few_rounds_find_what_is_read_better_than_pursuit_alone(n_active: int) -> None:
    V, readout = scenes(60, 7)
    W = torch.from_numpy(np.random.default_rng(1).gamma(0.3, 1, (40, 30))).float()
    C = 3 * readout.T @ readout
    alone, few = (together_few(V, W, C, n_active, rounds) for rounds in (1, 4))
    assert (few > 0).sum(2).max() <= n_active
    assert objective(few, V, W, C) < objective(alone, V, W, C)


def scenes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of backgrounds that all share, and of weak cues that alone tell twelve classes."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(0)
    backdrops, cues = base.gamma(0.3, 1, (14, 40)), base.gamma(0.3, 1, (12, 40))
    label = rng.integers(0, 12, n)
    loud = np.einsum("npk,kc->npc", rng.gamma(0.3, 2, (n, 25, 14)), backdrops)
    quiet = 0.5 * rng.gamma(1, 1, (n, 25, 1)) * cues[label][:, None]
    return torch.from_numpy(loud + quiet).float(), torch.from_numpy(cues - cues.mean(0)).float()


def missed(
    V: torch.Tensor, W: torch.Tensor, readout: torch.Tensor, active: int | None = None
) -> float:
    """Return how much of what is read of the means is lost by the concepts."""
    H = nmf.encode(V.flatten(0, 1), W, active=active).unflatten(0, V.shape[:2])
    lost = (V.mean(1) - H.mean(1) @ W.T) @ readout.T
    read = V.mean(1) @ readout.T
    return float(lost.square().sum() / (read - read.mean(0)).square().sum())


def explained(V: torch.Tensor, W: torch.Tensor, active: int | None) -> float:
    flat = V.flatten(0, 1)
    left = flat - nmf.encode(flat, W, active=active) @ W.T
    return 1 - float(left.square().sum() / flat.square().sum())


@pytest.mark.parametrize("active", [None, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_read_of_unseen_images_is_nearer_at_the_promised_price(
    seed: int, active: int | None
) -> None:
    V, readout = scenes(300, seed)
    unseen, _ = scenes(200, 100 + seed)
    W = torch.from_numpy(nmf.NMF(10, random_state=0).fit(V.flatten(0, 1).numpy()).components_.T)
    taught = nmf.teach(V, W, readout, active=active)
    assert 1 <= taught.n_turns <= TURNS
    lost = missed(unseen, taught.W, readout, active) / missed(unseen, W, readout, active)
    assert lost < 0.9
    kept = explained(V, taught.W, active) / explained(V, W, active)
    assert taught.given == pytest.approx(1 - kept, abs=1e-3)
    assert taught.given <= GIVEN
    assert taught.W.min() >= 0


def test_names_and_scales_of_classes_do_not_matter() -> None:
    V, readout = scenes(120, 4)
    W = torch.from_numpy(nmf.NMF(8, random_state=0).fit(V.flatten(0, 1).numpy()).components_.T)
    turned = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))[0]
    own, other = (nmf.teach(V, W, each).W for each in (readout, 7 * turned @ readout))
    assert torch.allclose(own, other, atol=1e-3 * float(own.max()))


def test_nothing_is_learned_where_there_is_nothing_to_read() -> None:
    V, _ = scenes(20, 5)
    W = torch.rand(40, 3)
    for images, readout in ((V, torch.zeros(5, 40)), (torch.zeros(4, 9, 40), torch.rand(5, 40))):
        taught = nmf.teach(images, W, readout)
        assert taught.n_turns == 0
        assert torch.equal(taught.W, W)
