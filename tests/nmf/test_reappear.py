"""Whether a concept comes back in another fit: where it is known, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import nmf
from pipeline.nmf.reappear import ALIKE, LEVEL, SPLITS
from tests.nmf.test_choose import planted


def fits(*columns: tuple[Tensor, ...]) -> Tensor:
    """Give (splits, 2, channels, k) of one tuple of columns per fit, all fits in turn."""
    stacked = torch.stack([torch.stack(each, dim=1) for each in columns])
    return stacked.reshape(-1, 2, *stacked.shape[1:])


def turned(a: Tensor, b: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    """Turn two directions in the plane they span."""
    angle = torch.tensor(degrees).deg2rad()
    return angle.cos() * a + angle.sin() * b, angle.cos() * b - angle.sin() * a


def test_what_every_fit_finds_comes_back_for_sure() -> None:
    W = torch.rand(30, 5, generator=torch.Generator().manual_seed(0)) ** 4
    found = nmf.reappearance(W, W.expand(SPLITS, 2, 30, 5))
    assert (found.probability > 0.999).all()
    assert (found.low > 0.99999).all()
    assert (found.high <= 1).all()
    assert (found.partners == -1).all()


def test_what_no_fit_finds_does_not_come_back() -> None:
    e = torch.eye(8)
    found = nmf.reappearance(e[:, :2], fits(*[(e[:, 0], e[:, 2 + i]) for i in range(6)]))
    assert found.probability[0] > 0.99
    assert found.probability[1] < 0.01
    assert found.high[1] < 0.2
    assert (found.partners == -1).all()


@pytest.mark.parametrize("share", [0.5, 0.3, 0.1])
def test_more_images_than_those_seen_make_concepts_surer(share: float) -> None:
    """The size of angles, in closed form: halves a, b of a fit A = (a + b) / 2, d = 2ρσ²/m."""
    generator = torch.Generator().manual_seed(0)
    n, small, k = 4_000, 0.05, 6
    W = torch.eye(n)[:, :k].double()

    def off(variance: float) -> Tensor:
        noise = torch.randn(n, k, generator=generator, dtype=torch.float64)
        scaled: Tensor = small * noise * (variance / n) ** 0.5
        return scaled

    A = W + off(share)  # of 1/share times as many images
    # Fits a, b of disjoint parts of A's images: off A by 1 − ρ, off each other by 2.
    pairs = []
    for _ in range(SPLITS):
        x = off(1 - share)
        y = off(1 - share - share**2 / (1 - share)) - share / (1 - share) * x
        pairs.append(torch.stack([A + x, A + y]))
    halved = torch.stack(pairs)
    found = nmf.reappearance(A, halved, share)
    expected = small**2 * 2 * share / 2  # 1 − cosine is half the squared distance
    middle = (1 - found.low) * (1 - found.high)
    assert np.sqrt(middle) == pytest.approx(expected, rel=0.2 if share == 0.5 else 0.5)


def test_a_pair_that_turns_in_its_plane_comes_back_as_a_subspace() -> None:
    e = torch.eye(8)
    pairs = [turned(e[:, 0], e[:, 1], degrees) for degrees in (30, 38, -35, 42, 33, -40)]
    found = nmf.reappearance(
        e[:, :4], fits(*[(*pair, e[:, 2], e[:, 4 + i % 3]) for i, pair in enumerate(pairs)])
    )
    assert (found.probability[:2] < 0.5).all()
    assert found.partners[:2].tolist() == [[1, -1], [0, -1]]
    assert found.probability[2] > 0.99
    assert found.probability[3] < 0.01
    assert (found.partners[2:] == -1).all()


def test_three_that_turn_come_back_as_three() -> None:
    e = torch.eye(9)
    generator = torch.Generator().manual_seed(0)
    turns = []
    for _ in range(6):
        Q, _ = torch.linalg.qr(torch.eye(3) + 0.9 * torch.randn(3, 3, generator=generator))
        turns.append(tuple((e[:, :3] @ Q).T) + (e[:, 5],))
    found = nmf.reappearance(e[:, [0, 1, 2, 5]], fits(*turns))
    low = np.flatnonzero(found.probability < 0.5)
    assert len(low) == 3
    assert [sorted([j, *found.partners[j].tolist()]) for j in low] == [[0, 1, 2]] * 3


def test_planted_concepts_come_back_and_those_of_noise_do_not() -> None:
    V, images, W = planted(5, 1)
    found = nmf.reappearance(W, nmf.replicates(V, images, 5))
    assert (found.probability > 0.95).all()
    assert (found.low > 0.95).all()
    noise = torch.rand(1_500, 48, generator=torch.Generator().manual_seed(0))
    chance = nmf.fit_sample(noise, 5).W
    none = nmf.reappearance(chance, nmf.replicates(noise, images, 5))
    assert none.probability.max() < 0.5
    assert (none.partners == -1).all()


def drawn(seed: int, spread: float, by_start: float, n_dims: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give the concepts of two fits on other images, and those of halves of the first one's.

    Every image pulls each concept its way, in so many channels; a fit lies at the mean of its
    images' pulls, and off it by what its start decides.
    """
    rng = np.random.default_rng(seed)
    channels, k, n = 50, 20, 40
    W = np.square(rng.standard_normal((channels, k)))
    W /= np.linalg.norm(W, axis=0)
    where = rng.random((channels, k)).argsort(0) < n_dims
    pull = where / n_dims**0.5 * np.exp(spread + rng.uniform(-1.5, 1.5, k))
    off = where / n_dims**0.5 * np.exp(by_start + rng.uniform(-1, 1, k))

    def fit(images: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(W + images.mean(0) + off * rng.standard_normal((channels, k)))

    first, second = (pull * rng.standard_normal((n, channels, k)) for _ in "AB")
    halved = []
    for _ in range(SPLITS):
        order = rng.permutation(n)
        halved.append(torch.stack([fit(first[half]) for half in np.split(order, 2)]))
    return fit(first), fit(second), torch.stack(halved)


@pytest.mark.parametrize(("spread", "by_start"), [(0.5, -9.0), (-0.5, -2.0), (-9.0, -1.5)])
@pytest.mark.parametrize("n_dims", [8, 40])
def test_the_interval_covers_and_probabilities_are_right(
    spread: float, by_start: float, n_dims: int
) -> None:
    covered, said, came = [], [], []
    for seed in range(12):
        A, B, halved = drawn(seed, spread, by_start, n_dims)
        found = nmf.reappearance(A, halved)
        cosines = nmf.match(A, B)[1].numpy()
        covered.append((found.low <= cosines) & (cosines <= found.high))
        said.append(found.probability)
        came.append(cosines >= ALIKE)
    assert LEVEL - 0.07 < np.mean(covered) < LEVEL + 0.08
    assert np.mean(said) == pytest.approx(np.mean(came), abs=0.06)


def test_replicates_follow_the_seed_and_not_the_threads() -> None:
    V, images, _ = planted(3)
    found = nmf.replicates(V, images, 3, seed=4)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(nmf.replicates(V, images, 3, seed=4), found)
    finally:
        torch.set_num_threads(before)
    assert found.shape == (SPLITS, 2, 48, 3)
    assert not torch.equal(nmf.replicates(V, images, 3, seed=5), found)


def test_of_one_image_nothing_is_known() -> None:
    V, _, W = planted(3)
    halved = nmf.replicates(V[:60], np.zeros(60, dtype=np.int64), 3)
    found = nmf.reappearance(W, halved)
    assert np.isnan([found.probability, found.low, found.high]).all()
    assert (found.partners == -1).all()
