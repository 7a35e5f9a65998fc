"""Verdicts: groups of related classes, a p that is uniform under the null, kinds by their rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import kstest, permutation_test

from pipeline.classify import verdict
from pipeline.classify.class_tree import MOST_CLASSES, ClassTree, class_tree
from pipeline.classify.kinds import holds, kinds
from pipeline.classify.verdict import FEWEST_MOVED, NOTHING, Places, permuted, take
from pipeline.store import Claims, Classification, read_classification, write_classification

RANDOM = np.random.default_rng(0)


def families(n_families: int, size: int) -> np.ndarray:
    """Rows of classes that are alike within families."""
    centres = RANDOM.normal(size=(n_families, 20))
    rows = np.repeat(centres, size, axis=0) + 0.1 * RANDOM.normal(size=(n_families * size, 20))
    return rows.astype(np.float32)


def test_families_are_groups_and_single_classes_come_first() -> None:
    tree = class_tree(families(6, 5))
    assert [each.tolist() for each in tree.groups[:30]] == [[c] for c in range(30)]
    found = {tuple(each.tolist()) for each in tree.groups}
    for family in range(6):
        assert tuple(range(5 * family, 5 * family + 5)) in found
    assert all(2 <= len(each) <= MOST_CLASSES for each in tree.groups[30:])


def test_groups_are_those_of_an_independent_clustering() -> None:
    rows = RANDOM.normal(size=(40, 8)).astype(np.float32)
    found = {tuple(each.tolist()) for each in class_tree(rows).groups}
    joined = linkage((rows - rows.mean(0)).astype(np.float64), "average", metric="cosine")
    for n in (2, 5, 12, 30):
        labels = fcluster(joined, n, "maxclust")
        assert {tuple(np.flatnonzero(labels == each).tolist()) for each in set(labels)} <= found


def test_no_group_is_larger_than_it_may_be_and_few_classes_are_enough() -> None:
    assert max(map(len, class_tree(families(2, 80)).groups)) <= MOST_CLASSES
    assert [each.tolist() for each in class_tree(np.eye(2, dtype=np.float32)).groups] == [
        [0], [1], [0, 1],
    ]  # fmt: skip
    assert len(class_tree(np.ones((1, 3), np.float32)).groups) == 1
    some = class_tree(families(3, 4), kept=[7, 1, 0])
    assert [each.tolist() for each in some.groups] == [[0], [1], [7], [0, 1], [0, 1, 7]]
    assert some.n_classes == 12


def test_masses_are_sums_and_never_more_than_one() -> None:
    tree = ClassTree(3, (np.array([0]), np.array([2]), np.array([0, 2])))
    given = torch.tensor([[0.5, 0.2, 0.3], [0.9, 0.1, 0.8]])
    expected = torch.tensor([[0.5, 0.3, 0.8], [0.9, 0.8, 1.0]])
    assert torch.allclose(tree.masses(given), expected)
    large = class_tree(families(20, 5))
    given = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(100), 7)).float()
    sums = [given[:, members].sum(1) for members in map(torch.from_numpy, large.groups)]
    assert torch.allclose(large.masses(given), torch.stack(sums, 1), atol=1e-6)


def test_p_is_uniform_where_a_value_is_like_the_others() -> None:
    found = []
    for seed in range(400):
        values = np.random.default_rng(seed).beta(0.3, 3, size=(8, 21))  # skewed, as masses are
        found.append(permuted(values[:, 0], values[:, 1:].ravel(), seed=seed))
    assert kstest(found, "uniform").pvalue > 0.01
    assert permuted(np.ones(8), np.zeros(20)) < 1e-3
    assert permuted(np.zeros(8), np.ones(20)) == 1
    assert permuted(np.ones(5), np.ones(20)) == 1  # all alike tells nothing


def noise(n: int, n_classes: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(n, n_classes, generator=generator)).softmax(1)


def judge(
    own: torch.Tensor,
    tree: ClassTree,
    n_groups: int | None = None,
    seed: int = 0,
    least: float = verdict.CHOSEN_MASS,
) -> verdict.Taken:
    moved = noise(2_000, tree.n_classes, seed + 1)
    own_places = Places(torch.ones(len(own)), tree.masses(own))
    elsewhere = Places(torch.ones(len(moved)), tree.masses(moved))
    return take(own_places, elsewhere, tree.sizes[:n_groups], seed, least)


def test_p_is_that_of_an_exact_permutation_test() -> None:
    own, others = np.array([0.9, 0.4, 0.5]), np.array([0.1, 0.6, 0.2, 0.45, 0.3])
    exact = permutation_test(
        (own, others), lambda a, b: a.mean() - b.mean(), alternative="greater", n_resamples=np.inf
    )
    assert permuted(own, others) == pytest.approx(exact.pvalue, abs=0.02)


@pytest.mark.parametrize("n", [6, 40])
def test_few_others_make_p_no_smaller(n: int) -> None:
    rng = np.random.default_rng(8)
    found = [permuted(rng.beta(0.3, 3, 24), rng.beta(0.3, 3, n), seed=each) for each in range(500)]
    assert 0.03 < (np.array(found) <= 0.05).mean() < 0.08
    assert kstest(found, "uniform").pvalue > 0.01


def test_what_longer_activations_say_is_no_evidence() -> None:
    rng, strata, pooled = np.random.default_rng(9), [], []
    for seed in range(300):
        norms = rng.uniform(1, 3, 24), rng.uniform(0, 3, 200)  # own ones are longer
        own, others = (each * rng.beta(0.5, 3, len(each)) for each in norms)
        strata.append(permuted(own, others, norms, seed))
        pooled.append(permuted(own, others, None, seed))
    assert (np.array(strata) <= 0.05).mean() < 0.12 < 0.2 < (np.array(pooled) <= 0.05).mean()


@pytest.mark.parametrize("power", [-3.0, 0.0, 3.0])
def test_p_is_uniform_whether_longer_activations_say_more_or_less(power: float) -> None:
    rng, found = np.random.default_rng(12), []
    for seed in range(1_000):
        norms = rng.uniform(1, 3, 24), rng.uniform(1, 3, 120)
        own, others = (each**power * rng.gamma(2, 1, len(each)) for each in norms)
        found.append(permuted(own, others, norms, seed))
    assert kstest(found, "uniform").pvalue > 0.01
    assert abs(np.mean(found) - 0.5) < 0.035


def test_what_is_taken_for_a_family_is_found_though_no_class_of_it_wins() -> None:
    rows = families(10, 6)
    tree = class_tree(rows)
    logits = 2 * torch.randn(30, 60, generator=torch.Generator().manual_seed(3))
    logits[torch.arange(30), 12 + torch.arange(30) // 2 % 6] += (
        9  # each image another of the family
    )
    found = judge(logits.softmax(1), tree)
    assert tree.groups[found.group].tolist() == [12, 13, 14, 15, 16, 17]
    assert found.is_clear
    assert found.p < 0.01
    alone = judge(logits.softmax(1), tree, 60)
    assert not alone.is_clear


def test_one_class_is_the_group_where_one_class_it_is() -> None:
    tree = class_tree(families(10, 6))
    logits = 2 * torch.randn(30, 60, generator=torch.Generator().manual_seed(3))
    logits[:, 44] += 12
    assert tree.groups[judge(logits.softmax(1), tree).group].tolist() == [44]


def test_a_class_that_adds_next_to_nothing_is_none_of_the_group() -> None:
    """Elsewhere the second class is unheard of, so that a group of both says a little more."""
    tree = class_tree(families(30, 2))
    logits = 2 * torch.randn(60, 60, generator=torch.Generator().manual_seed(3))
    logits[:, 12] += 14
    logits[14, 13] = logits[14, 12]  # of the thirty images that choose half a one
    others = noise(2_000, 60, 1)
    others[:, 13] = 0
    moved = Places(torch.ones(len(others)), tree.masses(others))

    def taken(sizes: np.ndarray) -> list[int]:
        own = Places(torch.ones(60), tree.masses(logits.softmax(1)))
        found: list[int] = tree.groups[take(own, moved, sizes).group].tolist()
        return found

    pair = next(at for at, each in enumerate(tree.groups) if each.tolist() == [12, 13])
    alike = np.ones_like(tree.sizes)
    assert taken(alike[: pair + 1]) == [12, 13]  # were both as small, the one that says most
    assert taken(tree.sizes) == [12]
    logits[0:24:2, 13] += 20  # of twelve it is now
    assert taken(tree.sizes) == [12, 13]


def test_chance_is_rarely_clear_and_its_p_is_not_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "N_DRAWS", 1_000)
    tree = class_tree(families(10, 6))
    found = [judge(noise(30, 60, 1_000 + seed), tree, None, seed) for seed in range(60)]
    assert sum(each.is_clear and each.p <= 0.05 for each in found) <= 3
    chosen = [judge(noise(30, 60, 1_000 + seed), tree, None, seed, 0.0) for seed in range(60)]
    ps = [each.p for each in chosen if each.group >= 0]
    assert len(ps) > 50
    assert kstest(ps, "uniform", alternative="greater").pvalue > 0.01
    first_half = [permuted(*_both_from_the_choice(seed)) for seed in range(60)]
    assert kstest(first_half, "uniform", alternative="greater").pvalue < 0.001


def _both_from_the_choice(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Masses of the group that they themselves say most of: what a test must not be made on."""
    own, others = noise(15, 60, seed).numpy(), noise(300, 60, seed + 500).numpy()
    best = int((own.mean(0) - others.mean(0)).argmax())
    return own[:, best], others[:20, best]


def test_too_few_images_or_too_little_to_compare_with_tell_nothing() -> None:
    tree = class_tree(families(2, 3))
    masses, others = tree.masses(noise(30, 6, 0)), tree.masses(noise(200, 6, 1))
    many, moved = Places(torch.ones(30), masses), Places(torch.ones(200), others)
    assert take(many, moved, tree.sizes, least=0.0) != NOTHING
    assert take(Places(torch.ones(7), masses[:7]), moved, tree.sizes, least=0.0) == NOTHING
    few = Places(torch.ones(FEWEST_MOVED - 1), others[: FEWEST_MOVED - 1])
    assert take(many, few, tree.sizes, least=0.0) == NOTHING


def claims(k: int, **given: object) -> Claims:
    values = {
        "classes": np.tile(np.array([[1, 2]], dtype=np.int32), (k, 1)),
        "mass": np.full(k, 0.5),
        "moved": np.full(k, 0.01),
        "p": np.full(k, 0.001),
        "agreed": np.full(k, 0.5),
        "agreed_p": np.full(k, 0.001),
        "q": np.full(k, 0.01),
    }
    return Claims(**(values | given))  # type: ignore[arg-type]


def test_a_claim_wants_mass_beside_q_and_odds_five_times_those_of_moved_maps() -> None:
    many = claims(
        7,
        q=np.array([0.01, 0.06, 0.01, 0.01, 0.01, 0.01, 0.01]),
        mass=np.array([0.5, 0.5, 0.19, 0.5, np.nan, 0.8, 0.8]),
        moved=np.array([0.16, 0.1, 0.01, 0.17, np.nan, 0.44, 0.45]),
    )
    assert holds(many).tolist() == [True, False, False, False, False, True, False]


def test_kinds_come_in_their_order() -> None:
    one, two = np.array([3, -1]), np.array([3, 4])
    found = kinds(
        claims(7, q=np.array([0.01, 0.01, 0.01, 1, 1, 1, 0.01])),
        claims(
            7,
            classes=np.array([two, two, one, two, two, two, two], dtype=np.int32),
            q=np.array([0.01, 0.01, 0.01, 0.01, 1, 1, 1]),
        ),
        inside=np.array([0.9, 0.4, 0.9, np.nan, 0.9, 0.9, 0.9]),
        labels=[[3, 4], [3, 4], [], [3, 4], [3, 4], [3], [3]],
        is_place=np.array([True, False, False, False, False, False, False]),
    )
    assert found == ["place", "background", "class", "group", "shared", "none", "class"]
    unknown = np.full(2, np.nan)
    nowhere = np.zeros(2, np.bool_)
    assert kinds(None, None, unknown, [[], [-1, -1]], nowhere) == ["none", "shared"]


def test_what_other_labels_have_too_is_shared() -> None:
    labels = [[1, 2], [1, 5], [5], [1, -1]]
    found = kinds(None, claims(4), np.full(4, np.nan), labels, np.zeros(4, np.bool_))
    assert found == ["group", "shared", "group", "shared"]


def test_claims_are_kept_and_earlier_files_have_none(tmp_path: Path) -> None:
    k, nothing = 3, np.zeros((3, 6), np.float32)
    usual = np.zeros((1, 101), np.float32)
    found = Classification(
        context=nothing, direction=nothing, nothing=nothing[0], z_context=nothing,
        z_direction=nothing, p=np.ones(k), significant=np.zeros(k, np.bool_),
        importance=np.ones(k), sobol_total=np.ones(k), deletion_effect=np.ones(k),
        insertion_effect=np.ones(k), usual_classes=np.array([-1]), usual_residual=usual,
        usual_peak=usual, usual_n=np.array([4]), fidelity=[],
    )  # fmt: skip
    write_classification(tmp_path / "old.h5", found)
    assert read_classification(tmp_path / "old.h5").group is None
    new = Classification(**{**vars(found), "single": claims(k), "group": claims(k)})
    write_classification(tmp_path / "new.h5", new)
    again = read_classification(tmp_path / "new.h5")
    for name in ("single", "group"):
        for part, value in vars(getattr(new, name)).items():
            assert np.array_equal(getattr(getattr(again, name), part), value)
    far = Classification(**{**vars(new), "group": claims(k, classes=np.full((k, 2), 6, np.int32))})
    write_classification(tmp_path / "far.h5", far)
    with pytest.raises(Exception, match="a claim is of class 6 of 6"):
        read_classification(tmp_path / "far.h5")
