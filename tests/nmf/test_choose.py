"""The choice of k: its evidence, its rule, and what it makes of planted data and of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from pipeline import nmf
from pipeline.errors import UserError
from pipeline.nmf.decide import Row, decide, fewest, images_of


def planted(k: int, seed: int = 0, noise: float = 0.3) -> tuple[Tensor, NDArray[np.int64], Tensor]:
    """Give V (1500, 48) of 250 images, their ids, and the k concepts (48, k) each holds some of.

    Noise is a share of the signal and has no mean: what has one is a concept more.
    """
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    W = rand(48, k) * (rand(48, k) < 0.25)
    present = (rand(250, k) < 0.4).repeat_interleave(6, 0)
    H = rand(1500, k) * (rand(1500, k) < 0.5) * present
    V = H @ W.T * (1 + noise * torch.randn(1500, 48, generator=generator)).clamp(min=0)
    return V, np.repeat(np.arange(250) * 7919, 6), W


def rows(k: int, bicv: list[float], split: list[float]) -> list[Row]:
    both = zip(bicv, split, strict=True)
    return [{"k": k, "bicv_error": error, "split_stability": found} for error, found in both]


@pytest.mark.parametrize(("k", "seed"), [(4, 0), (6, 1), (8, 2)])
def test_planted_k_comes_back_with_its_concepts_stable(k: int, seed: int) -> None:
    V, images, W = planted(k, seed)
    choice = nmf.choose_k(V, images, (k - 2, k - 1, k, k + 1, k + 3))
    assert (choice.k, choice.flagged) == (k, False)
    fit = nmf.fit_sample(V, choice.k)
    assert float(nmf.match(W, fit.W)[1].min()) > 0.98
    assert float(choice.stability(fit.W).min()) > 0.95


@pytest.mark.parametrize(("k", "seed"), [(8, 2), (10, 3)])
def test_larger_candidates_are_tried_as_far_as_the_data_reach(k: int, seed: int) -> None:
    V, images, _ = planted(k, seed)
    choice = nmf.choose_k(V, images, (3, 5), further=(6, k, k + 3, k + 20), seed=4)
    assert (choice.k, choice.flagged) == (k, False)
    assert [row["k"] for row in choice.rows] == [3] * 3 + [5] * 3 + [6, k, k + 3]
    assert [row["k"] for row in choice.rows if row["chosen"]] == [k]
    assert choice.W.shape == (48, 0)  # a fit starts by itself
    assert choice.halves.shape == (1, 2, 48, k)
    assert float(choice.stability(nmf.fit_sample(V, k).W).min()) > 0.9


def test_of_many_the_fewest_are_taken_that_foretell_nearly_as_much_as_the_best() -> None:
    def errors(**foretold: float) -> list[Row]:
        return [{"k": int(k[1:]), "bicv_error": (1 - e) ** 0.5} for k, e in foretold.items()]

    assert fewest(errors(k32=0.30, k48=0.33, k64=0.345, k96=0.35)) == 64  # 0.95 of 0.35 is 0.3325
    assert fewest(errors(k32=0.34, k48=0.33)) == 32
    assert fewest(errors(k32=-0.2, k48=-0.1)) == 48  # worse than nothing: the best of them


def test_where_the_choice_is_no_ceiling_no_larger_ones_are_tried() -> None:
    V, images, _ = planted(4)
    choice = nmf.choose_k(V, images, (3, 4, 6), further=(12,))
    assert choice.k == 4
    assert max(int(row["k"]) for row in choice.rows) == 6


def test_rows_hold_the_evidence() -> None:
    V, images, _ = planted(4)
    seen: list[nmf.Work] = []
    choice = nmf.choose_k(V, images, (8, 4, 4), seed=5, n_replicates=2, progress=seen.append)
    done = [work.done for work in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].total > 2 * (4 + 8)
    assert len(seen) > 50  # every step of every fit, so that it moves
    assert all("concepts, " in work.now for work in seen)
    assert [(row["k"], row["seed"]) for row in choice.rows] == [(4, 5), (4, 6), (8, 5), (8, 6)]
    for row in choice.rows:
        assert row["svd_error"] == pytest.approx(nmf.svd_error(V, int(row["k"])))
        assert row["svd_error"] < row["error"] < row["heldout_error"] < row["bicv_error"]
        assert 0 < row["seed_stability"] <= 1 + 1e-9
        assert 0 < row["split_stability"] <= 1 + 1e-9
        assert row["chosen"] == (row["k"] == choice.k)


@pytest.mark.parametrize("seed", range(4))
def test_data_without_concepts_are_flagged(seed: int) -> None:
    V, images, _ = planted(6)
    assert nmf.choose_k(nmf.shuffle_channels(V, 30 + seed), images, (4, 8, 12), seed=seed).flagged


def test_choice_is_deterministic_and_follows_the_seed() -> None:
    V, images, _ = planted(4)
    a, b, c = (nmf.choose_k(V, images, (3, 4), seed=s, n_replicates=2) for s in (1, 1, 2))
    assert a.rows == b.rows
    assert a.rows != c.rows


def test_a_single_candidate_is_chosen_with_its_evidence() -> None:
    V, images, _ = planted(4)
    choice = nmf.choose_k(V, images, [7], n_replicates=2)
    assert choice.k == 7
    assert all(row["chosen"] for row in choice.rows)


def test_one_image_cannot_be_split_and_says_so() -> None:
    V, _, _ = planted(4)
    one = np.zeros(60, dtype=np.int64)
    choice = nmf.choose_k(V[:60], one, (2, 3))
    assert (choice.k, choice.flagged) == (2, True)
    assert np.isnan([float(row["bicv_error"]) for row in choice.rows]).all()
    assert np.isnan(choice.stability(torch.rand(48, 2))).all()


@pytest.mark.parametrize("ks", [(), (0, 3)])
def test_impossible_candidates_are_refused(ks: tuple[int, ...]) -> None:
    V, images, _ = planted(2)
    with pytest.raises(UserError, match="at least 1 to choose from"):
        nmf.choose_k(V, images, ks)


def test_rule_takes_the_largest_stable_k_within_one_standard_error() -> None:
    evidence = (
        rows(2, [0.60, 0.61, 0.62], [0.99, 0.99, 0.99])
        + rows(4, [0.50, 0.52, 0.54], [0.9, 0.9, 0.9])
        + rows(8, [0.51, 0.51, 0.56], [0.8, 0.8, 0.8])  # 0.007 ± 0.009 above 4
        + rows(16, [0.53, 0.55, 0.57], [0.8, 0.8, 0.8])
    )

    def shuffled(error: float = 0.9, **stability: float) -> list[Row]:
        return [
            row for k in (2, 4, 8, 16) for row in rows(k, [error], [stability.get(f"k{k}", 0.5)])
        ]

    assert decide(evidence, shuffled()) == (8, False)
    assert decide(evidence, shuffled(k4=0.95)) == (8, False)
    assert decide(evidence, shuffled(k8=0.85)) == (4, False)
    assert decide(evidence, shuffled(k8=0.85, k4=0.95)) == (4, True)
    assert decide(evidence, shuffled(error=0.535)) == (4, True)
    assert decide(evidence, shuffled(error=1.2, k8=0.99)) == (8, False)
    assert decide(rows(3, [1.1], [0.9]), rows(3, [1.2], [0.1])) == (3, True)
    assert decide(rows(3, [0.5], [0.2]), rows(3, [0.6], [0.1])) == (3, False)


def test_halves_share_no_image_and_miss_no_position() -> None:
    images = np.random.default_rng(0).integers(0, 41, 1000) * 10**12
    split = nmf.halves(images, 3)
    assert split is not None
    a, b = (part.numpy() for part in split)
    assert sorted([*a, *b]) == list(range(1000))
    assert not set(images[a]) & set(images[b])
    assert {len(set(images[a])), len(set(images[b]))} == {20, 21}
    again = nmf.halves(images, 4)
    assert again is not None
    assert not np.array_equal(a, again[0].numpy())


def test_shuffling_keeps_each_channels_values_and_nothing_else() -> None:
    V, _, _ = planted(3)
    shuffled = nmf.shuffle_channels(V, 0)
    assert torch.equal(shuffled.sort(0).values, V.sort(0).values)
    correlation = torch.corrcoef(shuffled.T[V.std(0) > 0]).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 0.2
    assert torch.equal(shuffled, nmf.shuffle_channels(V, 0))
    assert not torch.equal(shuffled, nmf.shuffle_channels(V, 1))


def test_bi_cross_validated_error_is_what_it_says() -> None:
    V, _, W = planted(5)
    for folds in (torch.arange(48) % 3, nmf.channel_folds(48, 5, seed=1)):
        missed = 0.0
        for fold in folds.unique():
            given = folds != fold
            H = nmf.encode(V[:, given].contiguous(), W[given], tol=1e-5)
            missed += float((V[:, ~given] - H @ W[~given].T).double().square().sum())
        expected = (missed / float(V.double().square().sum())) ** 0.5
        assert nmf.bi_cv_error(V, W, folds) == pytest.approx(expected, rel=1e-3)


def test_channels_are_dealt_into_even_folds() -> None:
    folds = nmf.channel_folds(50, 4, seed=0)
    assert sorted(folds.bincount().tolist()) == [12, 12, 13, 13]
    assert not torch.equal(folds, nmf.channel_folds(50, 4, seed=1))
    assert sorted(nmf.channel_folds(2, 4, seed=0).tolist()) == [0, 1]


def test_bi_cross_validation_sees_through_noise() -> None:
    V, _, W = planted(5, noise=0.0)
    folds = torch.arange(48) % 4
    assert nmf.bi_cv_error(V, W, folds) < 1e-2
    noise = torch.rand(1500, 48, generator=torch.Generator().manual_seed(1))
    wide, narrow = (nmf.fit_sample(noise[:750], k).W for k in (30, 1))
    worse, better = (nmf.bi_cv_error(noise[750:], W, folds) for W in (wide, narrow))
    assert worse > better


def test_bi_cross_validation_makes_nothing_of_a_concept_that_is_not_seen() -> None:
    """Ridge regression with the noise's variance: the most probable strengths, none below zero."""
    generator = torch.Generator().manual_seed(3)
    n, folds = 1000, torch.arange(12) % 4
    W = torch.zeros(12, 2)
    W[:6, 0] = torch.tensor([1.0, 0.6, 0.7, 0.5, 0.9, 0.8])
    W[6:, 1] = torch.tensor([0.02, 0.01, 5.0, 0.02, 0.01, 0.02])  # lives in one channel
    H = torch.rand(n, 2, generator=generator)
    V = (H @ W.T + 0.1 * torch.randn(n, 12, generator=generator)).clamp_(min=0)
    fit = nmf.fit_sample(V[: n // 2], 2, W0=W)
    rest = V[n // 2 :]
    squares = nmf.bi_cv_error(rest, fit.W, folds)
    probable = nmf.bi_cv_error(rest, fit.W, folds, fit.stats)
    assert probable < 0.95 * squares

    typical = (fit.stats.h_sq / fit.stats.n).sqrt()
    variance = fit.error**2 * fit.stats.v_sq / (fit.stats.n * 12)
    missed = 0.0
    for fold in range(4):
        given = folds != fold
        seen = fit.W[given].double()
        penalty = torch.diag(variance / typical**2).sqrt()
        from_both = torch.cat([seen, penalty]).numpy()
        for v in rest.double():
            h = torch.from_numpy(nnls(from_both, np.append(v[given].numpy(), [0, 0]))[0])
            missed += float((v[~given] - fit.W[~given].double() @ h).square().sum())
    expected = (missed / float(rest.double().square().sum())) ** 0.5
    assert probable == pytest.approx(expected, rel=1e-3)


def test_bi_cross_validation_of_nothing() -> None:
    W, folds = torch.rand(48, 3), torch.arange(48) % 4
    assert nmf.bi_cv_error(torch.zeros(3, 48), W, folds) == 0


def test_consensus_drops_what_one_fit_found_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    W = torch.rand(30, 4, generator=generator) ** 4
    Ws = []
    for r in range(5):
        noisy = W[:, torch.randperm(4, generator=generator)] + 0.02 * torch.rand(30, 4)
        if r == 2:
            noisy[:, 1] = torch.eye(30)[29]
        Ws.append(noisy * torch.rand(4))
    found = nmf.consensus(Ws)
    assert torch.allclose(found.norm(dim=0), torch.ones(4))
    assert float(nmf.match(W, found)[1].min()) > 0.99


def test_consensus_of_fits_that_agree_on_less_than_k() -> None:
    W = torch.eye(6)[:, :3]
    apart = [torch.eye(6)[:, [0, 1, 3 + r]] for r in range(3)]
    found = nmf.consensus(apart)
    assert nmf.match(torch.eye(6)[:, [0, 1, 3]], found)[1].tolist() == [1, 1, 1]
    assert nmf.match(W, nmf.consensus([W]))[1].tolist() == [1, 1, 1]


def test_consensus_of_the_choice_is_a_start_as_good_as_its_best_replicate() -> None:
    V, images, W = planted(5)
    choice = nmf.choose_k(V, images, [5])
    assert choice.W.shape == (48, 5)
    assert float(nmf.match(W, choice.W)[1].min()) > 0.97
    refit = nmf.fit_sample(V, 5, W0=choice.W)
    assert refit.error <= 1.0005 * min(float(row["error"]) for row in choice.rows)


def test_few_images_carry_few_concepts() -> None:
    """Of images that share three concepts, and have details of their own, more are not weighed."""
    rng = np.random.default_rng(4)
    shared, own = rng.gamma(0.3, 1, (3, 40)), np.eye(36, 40).reshape(6, 6, 40)
    strong = rng.gamma(0.5, 2, (6, 60, 3)) @ shared
    details = np.einsum("ipk,ikc->ipc", rng.gamma(0.2, 5, (6, 60, 6)), own)
    V = torch.from_numpy((strong + details).reshape(360, 40)).float()
    owner = np.repeat(np.arange(6), 60)
    found = nmf.choose_k(V, owner, (3, 6, 12, 24))
    assert found.n_beyond >= 1
    weighed = {row["k"] for row in found.rows}
    assert max(weighed) < 24
    assert images_of(V, found.W, owner) >= 2
    assert nmf.choose_k(V, owner, (24,)).k == 24  # what is asked for is taken


def test_in_how_many_images_a_concept_stands() -> None:
    H = np.zeros((4, 10, 3))
    H[:, :, 0] = 1  # in all four alike
    H[0, :, 1] = 1  # in one
    H[:2, :, 2] = 1  # in two
    V = torch.from_numpy(H.reshape(40, 3)).float()
    assert images_of(V, torch.eye(3), np.repeat(np.arange(4), 10)) == pytest.approx(2, abs=0.01)
    one = images_of(V[:, 1:2].contiguous(), torch.eye(1), np.repeat(np.arange(4), 10))
    assert one == pytest.approx(1)
