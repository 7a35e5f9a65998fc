"""The fit: against scikit-learn and planted concepts, on data of every awkward kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import NMF as SklearnNMF
from torch import Tensor

from pipeline import nmf
from pipeline.errors import UserError
from pipeline.nmf import sampling
from pipeline.nmf.merge import merge


def planted(seed: int, n: int, channels: int, k: int, noise: float) -> tuple[Tensor, Tensor]:
    """Give V (n, channels) made of k sparse concepts W (channels, k), each at some positions."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    W = rand(channels, k) * (rand(channels, k) < 0.3)
    H = rand(n, k) * (rand(n, k) < 0.3)
    return H @ W.T + noise * rand(n, channels), W


class Counted:
    """A source in blocks of a given size that counts how often it was gone through."""

    def __init__(self, V: Tensor, rows: int) -> None:
        self.V, self.rows, self.passes = V, rows, 0
        self.n_positions, self.n_channels = V.shape

    def __iter__(self) -> Iterator[Tensor]:
        self.passes += 1
        return iter(torch.split(self.V, self.rows))


@pytest.mark.parametrize("init", ["positions", "nndsvd", "random"])
def test_planted_concepts_come_back(init: str) -> None:
    V, W = planted(0, 4000, 60, 8, noise=0.02)
    fit = nmf.fit(nmf.ArrayBlocks(V), V[:1000], 8, init=init)
    _, cosines = nmf.match(W, fit.W)
    assert float(cosines.min()) > 0.98
    assert not fit.dead.any()


@pytest.mark.parametrize("k", [3, 8, 15])
def test_error_is_not_above_scikit_learns(k: int) -> None:
    V, _ = planted(1, 1500, 40, 10, noise=0.3)
    ours = [nmf.fit_sample(V, k, seed=seed).error for seed in range(3)]
    peers = [  # it fills zeros at random, and ends up to 0.3 % apart
        SklearnNMF(k, init="nndsvda", max_iter=200, tol=0, random_state=seed).fit(V.numpy())
        for seed in range(3)
    ]
    errors = [peer.reconstruction_err_ / float(V.norm()) for peer in peers]
    assert median(ours) <= 1.001 * median(errors)


def test_reported_error_and_statistics_are_those_of_the_data() -> None:
    V, _ = planted(2, 5000, 30, 6, noise=0.2)
    fit = nmf.fit(nmf.ArrayBlocks(V), V[:800], 6)
    H = nmf.encode(V, fit.W, tol=1e-6)
    actual = float((V - H @ fit.W.T).double().norm() / V.double().norm())
    assert fit.error == pytest.approx(actual, rel=1e-4)
    assert fit.stats.n == 5000
    assert float(nmf.energies(fit.W, fit.stats).sum()) == pytest.approx(1 - fit.error**2, abs=2e-3)
    assert torch.allclose(fit.W.norm(dim=0), torch.ones(6), rtol=1e-5)


def test_streamed_passes_never_raise_the_error_and_stop() -> None:
    V, _ = planted(3, 6000, 40, 10, noise=0.3)
    source = Counted(V, 700)
    seen: list[tuple[str, int, float]] = []
    fit = nmf.fit(
        source, V[:500], 10, tol=1e-4, max_passes=12, progress=lambda *step: seen.append(step)
    )
    assert seen == fit.history
    errors = [error for phase, _, error in fit.history if phase == "pass"]
    assert len(errors) == fit.n_passes == source.passes
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(errors))
    assert fit.error == pytest.approx(min(errors), rel=1e-9)
    assert fit.error < errors[0]
    assert fit.n_passes < 12


def test_same_seed_same_bits_other_seed_other_start() -> None:
    V, _ = planted(4, 2000, 30, 6, noise=0.3)
    a, b = (nmf.fit(nmf.ArrayBlocks(V), V[:500], 6, seed=3) for _ in range(2))
    assert torch.equal(a.W, b.W)
    assert torch.equal(a.stats.VHt, b.stats.VHt)
    starts = [nmf.initialise(V, 6, "positions", seed) for seed in (3, 4)]
    assert not torch.equal(*starts)


def test_passes_computed_in_parts_give_the_same_bits() -> None:
    V, _ = planted(5, 6000, 30, 6, noise=0.3)
    start = nmf.fit_sample(V[:500], 6).W
    shards = torch.split(V, 1000)

    def in_parts(W: Tensor) -> nmf.Stats:
        encoder = nmf.Encoder.of(W, tol=nmf.ENCODE_TOL)
        parts = {i: nmf.block_stats(shards[i], [encoder], i)[0] for i in (3, 1, 5, 0, 4, 2)}
        return sum((parts[i] for i in range(6)), start=nmf.Stats.zeros(30, 6))

    here = nmf.refine(lambda W: nmf.sweep(Counted(V, 1000), W), start)
    there = nmf.refine(in_parts, start)
    assert torch.equal(here.W, there.W)
    assert torch.equal(here.stats.HHt, there.stats.HHt)


def test_fixed_concepts_keep_their_direction() -> None:
    V, W = planted(6, 3000, 40, 6, noise=0.1)
    W0 = torch.cat([W[:, :2], torch.rand(40, 4, generator=torch.Generator().manual_seed(1))], 1)
    fixed = torch.tensor([True, True, False, False, False, False])
    fit = nmf.fit(nmf.ArrayBlocks(V), V[:1000], 6, W0=W0, fixed=fixed)
    _, cosines = nmf.match(W[:, :2], fit.W[:, :2])
    assert torch.allclose(cosines, torch.ones(2, dtype=torch.float64), atol=1e-6)
    assert float(nmf.match(W[:, 2:], fit.W[:, 2:])[1].min()) > 0.95


def test_warm_start_from_the_answer_stays_there() -> None:
    V, _ = planted(7, 2000, 30, 5, noise=0.2)
    first = nmf.fit_sample(V, 5)
    again = nmf.fit_sample(V, 5, W0=first.W)
    assert again.error <= first.error * (1 + 1e-6)
    assert len(again.history) < len(first.history)


def test_dead_concepts_are_started_anew() -> None:
    V, W = planted(8, 2000, 40, 5, noise=0.01)
    silent = torch.zeros(40, 5)
    silent[:, :3] = W[:, :3]
    fit = nmf.fit_sample(V, 5, W0=silent)
    assert fit.reseeded == 2
    assert not fit.dead.any()
    assert float(nmf.match(W, fit.W)[1].min()) > 0.98


def test_k_above_the_rank_leaves_concepts_dead_and_says_so() -> None:
    V = torch.outer(torch.rand(50) + 0.1, torch.rand(20))
    fit = nmf.fit_sample(V, 4)
    assert fit.error < 1e-3
    assert nmf.relative_error(fit.W, nmf.accumulate(V, nmf.encode(V, fit.W))) < 1e-3


@pytest.mark.parametrize(
    "V",
    [
        torch.zeros(30, 8),
        torch.ones(30, 8),
        torch.rand(1, 8, generator=torch.Generator().manual_seed(0)),
        torch.rand(5, 1, generator=torch.Generator().manual_seed(0)),
        torch.rand(1, 8).repeat(40, 1),
        torch.rand(30, 8) * 1e-18,
        torch.rand(30, 8) * 1e15,
    ],
    ids=["zero", "constant", "one position", "one channel", "duplicates", "tiny", "huge"],
)
@pytest.mark.parametrize("k", [1, 3])
def test_awkward_data(V: Tensor, k: int) -> None:
    fit = nmf.fit(nmf.ArrayBlocks(V), V, k)
    assert torch.isfinite(fit.W).all()
    assert float(fit.W.min()) >= 0
    assert 0 <= fit.error <= 1
    H = nmf.encode(V, fit.W)
    assert torch.isfinite(H).all()
    scaled, stats, scale = nmf.gauge(fit.W, fit.stats)
    for each in (scaled, stats.VHt, scale, nmf.context_vectors(stats)):
        assert torch.isfinite(each).all()
    rank_one = torch.linalg.matrix_rank(V.double()) <= 1
    if rank_one:
        assert fit.error < 5e-3


def test_one_concept_is_the_leading_singular_vector() -> None:
    V, _ = planted(9, 500, 20, 5, noise=0.1)
    fit = nmf.fit_sample(V, 1, tol=1e-9)
    leading = torch.linalg.svd(V, full_matrices=False).Vh[0].abs()
    assert float(fit.W[:, 0] @ leading) > 0.9999
    assert fit.error == pytest.approx(nmf.svd_error(V, 1), rel=1e-4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (float("nan"), "1 of 3000 positions hold NaN or infinite.*position 2500"),
        (float("inf"), "NaN or infinite"),
        (-1.0, r"1 of 3000 positions hold negative activations \(minimum -1\)"),
    ],
)
def test_bad_values_are_refused(spoil: float, message: str) -> None:
    V, _ = planted(10, 3000, 10, 3, noise=0.1)
    sample = V[:500].clone()
    V[2500, 4] = spoil
    with pytest.raises(UserError, match=message):
        nmf.fit_sample(V, 3)
    with pytest.raises(UserError, match=r"block 2 of the data.*1 of 1000 positions"):
        nmf.fit(Counted(V, 1000), sample, 3)


def test_misfits_are_refused() -> None:
    V, _ = planted(11, 100, 10, 3, noise=0.1)
    with pytest.raises(UserError, match="10 channels and the sample 8"):
        nmf.fit(nmf.ArrayBlocks(V), V[:, :8], 3)
    with pytest.raises(UserError, match="10 × 2, the data need channels × k = 10 × 3"):
        nmf.fit_sample(V, 3, W0=torch.rand(10, 2))
    with pytest.raises(UserError, match="K must be at least 1, got 0"):
        nmf.fit_sample(V, 0)
    with pytest.raises(UserError, match="stay fixed, but none are given: pass W0"):
        nmf.fit_sample(V, 3, fixed=torch.tensor([True, False, False]))
    with pytest.raises(UserError, match="did you mean 'nndsvd'"):
        nmf.fit_sample(V, 3, init="nndsv")
    with pytest.raises(UserError, match="float64; convert"):
        nmf.fit_sample(V.double(), 3)
    with pytest.raises(UserError, match="positions × channels, at least one each, got 0 × 4"):
        nmf.fit_sample(torch.zeros(0, 4), 3)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6), n=st.integers(1, 60))
def test_steps_never_raise_the_objective_without_extrapolation(seed: int, k: int, n: int) -> None:
    V, _ = planted(seed, n, 12, 4, noise=0.2)
    W = nmf.initialise(V, k, "random", seed)
    fit = nmf.refine(lambda W: nmf.sweep([V], W, tol=1e-6), W, tol=1e-9, max_passes=15)
    errors = [error for _, _, error in fit.history]
    # The objective is the square; near 0 the error itself is the root of rounding.
    assert all(b**2 <= a**2 + 1e-6 for a, b in itertools.pairwise(errors))
    assert fit.error == pytest.approx(min(errors), rel=1e-4)
    assert float(fit.W.min()) >= 0


def test_coarse_sample_finds_as_good_concepts(monkeypatch: pytest.MonkeyPatch) -> None:
    V, _ = planted(12, 6000, 64, 8, noise=0.3)
    errors = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(sampling, "coarse", lambda sample, dtype=dtype: sample.to(dtype))
        fits = [nmf.fit(nmf.ArrayBlocks(V), V[:3000], 8, seed=s, max_passes=1) for s in range(3)]
        errors.append(min(fit.error for fit in fits))
    assert errors[1] <= errors[0] * 1.001


def test_few_positions_drawn_by_energy_stand_for_all() -> None:
    V, _ = planted(13, 800, 12, 4, noise=0.1)
    V *= torch.rand(800, 1, generator=torch.Generator().manual_seed(0)) ** 4
    actual = nmf.gram([V])
    energy, evenly = torch.zeros(12, 12, dtype=torch.float64), []
    off = []
    for seed in range(50):
        drawn = nmf.thin(V, 100, seed)
        assert drawn.shape == (100, 12)
        lengths = drawn.norm(dim=1)
        assert torch.allclose(lengths, lengths.mean().expand(100), rtol=1e-4)
        found = 8 * nmf.gram([drawn])
        energy += found / 50
        off.append(float((found - actual).norm()))
        order = torch.randperm(800, generator=torch.Generator().manual_seed(seed))
        evenly.append(float((8 * nmf.gram([V[order[:100]]]) - actual).norm()))
    assert torch.allclose(energy, actual, rtol=0.05, atol=3e-3 * float(actual.max()))
    assert sum(off) < 0.6 * sum(evenly)
    assert torch.equal(nmf.thin(V, 900), V)
    assert torch.equal(nmf.thin(torch.zeros(20, 3), 5), torch.zeros(5, 3))


def test_the_best_of_the_starts_goes_on() -> None:
    V, _ = planted(12, 4000, 30, 6, noise=0.3)
    (alone,) = nmf.fit_samples(V, [nmf.Start(6, seed=5, trials=1)], tol=1e-5)
    assert {phase for phase, _, _ in alone.history} == {"part", "sample"}
    (best,) = nmf.fit_samples(V, [nmf.Start(6, seed=1, trials=4)], tol=1e-5)
    few, part = (nmf.thin(V, sampling.TRIAL_POSITIONS, seed) for seed in (0, 1))

    def tried_from(V: Tensor, W0: Tensor, steps: int) -> nmf.Fit:
        return nmf.fit_sample(V, W0.shape[1], W0=W0, tol=1e-5, max_steps=steps)

    ends = []
    for seed in range(4, 8):  # the same starts, one by one
        first = nmf.initialise(few, 6 + sampling.SPARE, seed=seed)
        wide = tried_from(few, first, sampling.TRIAL_STEPS)
        ends.append(tried_from(part, merge(wide.W, wide.stats, 6), sampling.CONTEST_STEPS).error)
    tried = [error for phase, _, error in best.history if phase == "part"][: sampling.CONTEST_STEPS]
    assert min(tried) == pytest.approx(min(ends), rel=1e-5)
    assert max(ends) > min(ends) * 1.0001
