"""Concepts by the thousand: planted ones come back, none is dead or double, evidence is fair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import nmf
from pipeline.nmf import sparse
from pipeline.nmf.apart import ALIKE
from pipeline.nmf.draw import thin
from pipeline.system.threads import one_thread
from tests.nmf.test_planted import extracted


def plant(
    W: NDArray[np.float32], n: int, active: tuple[int, int], seed: int, apart: float = 0.01
) -> Tensor:
    """Make n positions of unit concepts W (channels, k), of which each has few.

    Frequencies fall evenly to the share `apart` of the highest; noise has a quarter of the
    signal's norm.
    """
    rng = np.random.default_rng(seed)
    k, most = W.shape[1], active[1]
    log_p = np.log(np.geomspace(1, apart, k))
    keys = log_p + rng.gumbel(size=(n, k))  # the largest are a draw without replacement
    at = np.argsort(-keys, axis=1)[:, :most]
    counts = rng.integers(active[0], most + 1, n)
    strengths = np.where(np.arange(most) < counts[:, None], rng.gamma(2, 0.5, (n, most)), 0)
    H = np.zeros((n, k), np.float32)
    np.put_along_axis(H, at, strengths.astype(np.float32), axis=1)
    V = H @ W.T
    noise = rng.standard_normal(V.shape, dtype=np.float32)
    noise *= 0.25 * np.linalg.norm(V) / np.linalg.norm(noise)
    return torch.from_numpy(np.maximum(V + noise, 0))


def columns(k: int, channels: int, seed: int) -> NDArray[np.float32]:
    """Draw unit concepts, no two nearly the same."""
    rng = np.random.default_rng(seed)
    return _apart(k, lambda: rng.random(channels) ** 6)


def _apart(k: int, draw: Callable[[], NDArray[np.floating]]) -> NDArray[np.float32]:
    found: list[NDArray[np.floating]] = []
    while len(found) < k:
        v = draw()
        v = v / np.linalg.norm(v)
        if all(v @ other < 0.9 for other in found):
            found.append(v)
    return np.array(found).T.astype(np.float32)


def n_found(W: NDArray[np.float32], fit: Tensor) -> int:
    """Count the planted concepts with a partner of cosine 0.95 or more."""
    return int((nmf.match(torch.from_numpy(W), fit)[1] >= 0.95).sum())


def fitted(V: Tensor, k: int, active: int, **how: object) -> nmf.Fit:
    sample = thin(V, nmf.sparse_sample_size(k))
    return nmf.fit(nmf.ArrayBlocks(V), sample, k, active=active, max_passes=3, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_planted_concepts_come_back(seed: int) -> None:
    W = columns(60, 96, seed)
    V = plant(W, 12_000, (3, 6), seed, apart=0.03)
    own, kept = fitted(V, 60, 6, seed=seed), fitted(V, 60, 6, W0=torch.from_numpy(W))
    assert n_found(W, own.W) >= 0.95 * n_found(W, kept.W)
    assert n_found(W, kept.W) >= 57


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_planted_activations_come_back(assets: Path, tmp_path: Path, seed: int) -> None:
    activations = extracted(
        tmp_path / "run",
        dataset=str(assets / "images" / "imagenette224"),
        model="mobilenet_v2",
        weights=str(assets / "weights" / "mobilenet_v2.safetensors"),
        limit="200",
    ).astype(np.float32)
    rng = np.random.default_rng(seed)
    W = _apart(300, lambda: activations[rng.integers(len(activations))])
    V = plant(W, 100_000, (5, 12), seed)
    own, kept = fitted(V, 300, 12, seed=seed), fitted(V, 300, 12, W0=torch.from_numpy(W))
    assert n_found(W, own.W) >= 0.95 * n_found(W, kept.W)


def test_statistics_are_those_of_its_strengths() -> None:
    V = plant(columns(40, 50, 0), 6_000, (2, 5), 0)
    fit = fitted(V, 40, 5)
    H = nmf.encode(V, fit.W, active=5)
    assert fit.error == pytest.approx(float((V - H @ fit.W.T).norm() / V.norm()), rel=1e-4)
    assert torch.allclose(fit.stats.h_sum, H.double().sum(0), rtol=1e-4)
    assert not fit.dead.any()
    cosines = (fit.W.T @ fit.W).fill_diagonal_(0)
    assert float(cosines.max()) <= ALIKE


def test_more_concepts_and_more_active_explain_more() -> None:
    V = plant(columns(80, 60, 1), 8_000, (3, 8), 1)
    errors = [fitted(V, k, active).error for k, active in ((20, 4), (60, 4), (60, 8))]
    assert errors[0] > errors[1] > errors[2]


def test_same_bits_again_and_alike_on_other_threads() -> None:
    V = plant(columns(30, 40, 2), 4_000, (2, 4), 2)
    together = sparse.fit_sparse_sample(V, 30, 4, seed=3)
    with one_thread():
        alone = sparse.fit_sparse_sample(V, 30, 4, seed=3)
    assert torch.allclose(together.W, alone.W, atol=1e-4)
    again = sparse.fit_sparse_sample(V, 30, 4, seed=3)
    assert torch.equal(together.W, again.W)


@pytest.mark.parametrize("k", [1, 7, 50])
def test_takes_what_data_there_are(k: int) -> None:
    """Fewer positions than concepts, the same position again and again, positions of nothing."""
    V = torch.zeros(40, 6)
    V[:20] = torch.tensor([1.0, 2, 0, 0, 1, 0])
    V[20:30] = torch.tensor([0.0, 0, 3, 1, 0, 0])
    fit = nmf.fit(nmf.ArrayBlocks(V), V, k, active=2, max_passes=3)
    assert torch.isfinite(fit.W).all()
    assert fit.error < (0.8 if k == 1 else 1e-3)
    nothing = nmf.fit(nmf.ArrayBlocks(0 * V), 0 * V, k, active=2)
    assert nothing.error == 0


def test_halves_say_how_stable_they_are() -> None:
    W = columns(30, 60, 4)
    V = plant(W, 9_000, (2, 4), 4, apart=0.2)
    images = np.repeat(np.arange(300), 30)
    choice = nmf.judge_sparse(V, images, 30, 4)
    assert (choice.k, choice.flagged, len(choice.halves)) == (30, False, 2)
    assert float(np.median(choice.stability(torch.from_numpy(W)))) > 0.95
    shuffled = nmf.judge_sparse(nmf.shuffle_channels(V, 0), images, 30, 4)
    assert shuffled.rows[0]["split_stability"] < choice.rows[0]["split_stability"]
    alone = nmf.judge_sparse(V, np.zeros(len(V), np.int64), 30, 4)
    assert alone.flagged
    assert np.isnan(alone.stability(torch.from_numpy(W))).all()


@pytest.mark.parametrize(("active", "k", "expected"), [
    ("auto", 128, None), ("auto", 129, 16), ("none", 500, None), (4, 10, 4), (8, 3, 3),
])  # fmt: skip
def test_bound_that_is_asked_for(active: int | str, k: int, expected: int | None) -> None:
    assert nmf.active_of(active, k) == expected  # type: ignore[arg-type]
