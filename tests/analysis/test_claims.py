"""Claims want more than the strongest images: most that hold a concept must be of the classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.analysis.claims import FEWEST_HOLDERS, Evidence, KnownClasses
from pipeline.analysis.kind_words import in_words
from pipeline.analysis.strongest import Elsewhere, Places
from pipeline.classify.class_tree import class_tree
from pipeline.classify.kinds import LEAST_ODDS, holds

N, N_CLASSES = 400, 10
CLASSES = np.arange(N) % N_CLASSES


def known() -> KnownClasses:
    return KnownClasses(np.arange(N), CLASSES[:, None])


def evidence(held: NDArray[np.bool_], channels: NDArray[np.bool_] | None = None) -> Evidence:
    """A concept whose 40 strongest images are those of class 3, which the head says there."""
    image = np.flatnonzero(CLASSES == 3)
    n, one_hot = len(image), torch.eye(N_CLASSES)
    activations = one_hot[torch.from_numpy(CLASSES)][:, None] * 10
    places = Places(
        concept=np.zeros(n, np.int64),
        rank=np.arange(n),
        image=image,
        maps=torch.ones(n, 1),
        vectors=activations[image, 0],
        inside=torch.ones(n),
    )
    elsewhere = Elsewhere(np.arange(N), activations.half(), held[:, None])
    rows = np.random.default_rng(0).normal(size=(N_CLASSES, 8)).astype(np.float32)
    tree = class_tree(rows, range(N_CLASSES))

    def score(vectors: torch.Tensor) -> torch.Tensor:
        return vectors.softmax(1)

    own = score(places.vectors)
    channels = np.zeros((N, 2), np.bool_) if channels is None else channels
    return Evidence(1, N_CLASSES, places, own, elsewhere, channels, score, 256, tree, known(), 0)


def test_odds_are_those_of_holders_over_those_of_all() -> None:
    def ratio(holders: NDArray[np.int64], label: int) -> float:
        return float(known().odds_ratios(held(holders), np.arange(N), np.array([label]))[0])

    holders = np.concatenate([np.flatnonzero(CLASSES == 3)[:30], np.flatnonzero(CLASSES == 4)[:20]])
    assert ratio(holders, 3) == pytest.approx((30 / 20) / (40 / 360))
    assert ratio(np.arange(N), 3) == pytest.approx(1)
    assert ratio(holders, 7) == 0
    assert ratio(np.flatnonzero(CLASSES == 3), 3) == pytest.approx((40 / 0.5) / (40 / 360))
    assert np.isnan(ratio(np.flatnonzero(CLASSES == 4)[: FEWEST_HOLDERS - 1], 3))


def held(holders: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.isin(np.arange(N), holders)[:, None]


def test_odds_of_several_things_are_those_of_each() -> None:
    several = np.random.default_rng(2).random((N, 5)) < 0.3
    images = np.random.default_rng(3).permutation(N)  # in any order
    found = known().odds_ratios(several, images, np.array([3, 5]))
    for column, odds in enumerate(found):
        mine = images[several[:, column]]
        right = np.isin(CLASSES[mine], (3, 5)).sum()
        expected = np.isin(CLASSES, (3, 5)).mean()
        assert odds == pytest.approx(
            right / (len(mine) - right) / (expected / (1 - expected)), rel=1e-9
        )


def test_what_single_channels_reach_is_not_claimed() -> None:
    mine = (CLASSES == 3) | (np.random.default_rng(1).random(N) < 0.1)
    found = evidence(mine).claims().single
    assert found.odds is not None
    assert holds(found)[0]
    by_chance = np.stack([mine, np.ones(N, np.bool_)], axis=1)  # a channel that reaches as much
    assert not holds(evidence(mine, by_chance).claims().single)[0]
    assert evidence(mine, by_chance).claims().single.odds == pytest.approx(found.odds)
    n_alike = 40  # one of many such channels is no standard
    rare = np.concatenate([mine[:, None], np.ones((N, n_alike), np.bool_)], axis=1)
    assert holds(evidence(mine, rare).claims().single)[0]


def test_a_class_of_the_strongest_images_alone_is_not_claimed() -> None:
    mine = CLASSES == 3
    everywhere = mine | (np.random.default_rng(1).random(N) < 0.6)
    for held, is_claimed in ((mine, True), (everywhere, False)):
        found = evidence(held).claims()
        assert found.single.classes[0, 0] == 3
        assert found.single.mass[0] > 0.9
        assert holds(found.single)[0] == is_claimed
        assert found.single.odds is not None
        assert (found.single.odds[0] >= LEAST_ODDS) == is_claimed
    only_strong = replace(evidence(mine), known=KnownClasses(np.arange(N), CLASSES[::-1, None]))
    assert not holds(only_strong.claims().single)[0]


def test_a_claim_that_is_refused_for_its_odds_says_so() -> None:
    row = {"kind": "none", "group": "safe · carton", "group_odds": 1.84, "top_label": None}
    said = in_words(row)
    assert "look like safe · carton" in said
    assert "the odds are 1.8 times those of any image, and 4 is asked" in said
    for other in ({"group_odds": float("nan")}, {"group_odds": 4.5}, {"group": None}):
        assert in_words(row | other) == "It goes with no class, no group and no labels."
